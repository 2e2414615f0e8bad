"""What every view here has in common."""

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, cast
from uuid import UUID

from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from agentsys.accounts.access import Access
from agentsys.accounts.models import User
from agentsys.api import questions
from agentsys.core.errors import NotFound

METHODS: tuple[str, ...] = ("get", "head", "post", "patch", "delete")


class WorkspaceViews(GenericViewSet[Any]):
    """Views of one workspace's rows.  A subclass's queryset is the permission to see a row."""

    http_method_names = METHODS

    #: Action of the view -> action of the policy; an action that is missing here is a mistake.
    permits: ClassVar[Mapping[str, str]] = {}

    #: What a list reads of the query string beside its filters and pages.
    parameters: ClassVar[tuple[str, ...]] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Who asks, and whether they may; then whether the view knows what it is asked.

        Raises:
            InvalidInput: it does not.
        """
        super().initial(request, *args, **kwargs)
        if self.action not in (None, "metadata"):  # else there is no such method: 405 follows
            questions.check(request, questions.known_to(self))

    @property
    def access(self) -> Access:
        return cast(Access, self.request.auth)

    @property
    def workspace_id(self) -> UUID:
        """The policy let the request in, so there is one."""
        return cast(UUID, self.access.workspace_id)

    @property
    def user(self) -> User:
        return self.access.user

    def paged(self, found: Any) -> Response:
        """One page of a queryset, by the view's pagination and serializer."""
        page = self.paginate_queryset(found)
        return self.get_paginated_response(self.get_serializer(page, many=True).data)


class Unknown(APIView):
    """Every address under ``/api`` that is none."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    http_method_names = ()
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> NoReturn:
        """Whatever the method.

        Raises:
            NotFound: always.
        """
        raise NotFound
