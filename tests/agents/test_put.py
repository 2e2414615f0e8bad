"""An agent that several put at once is made once, and all are told that it is as they wanted it."""

from typing import Any

import pytest

from agentsys.agents import services
from agentsys.agents.definition import Definition
from agentsys.agents.models import Agent, VersionStatus
from agentsys.core.errors import InvalidInput
from tests.support.threads import in_parallel


@pytest.mark.django_db(transaction=True)
def test_all_who_put_the_same_new_agent_at_once_have_it(workspace: Any) -> None:
    def put() -> bool:
        _, is_new = services.put_agent(
            workspace_id=workspace.pk, slug="clerk", name="Clerk", description="", definition=Definition(),
            status=VersionStatus.PUBLISHED,
        )  # fmt: skip
        return is_new

    assert sorted(in_parallel(*[put] * 6)) == [False] * 5 + [True]
    assert Agent.objects.get().versions.count() == 1


def test_what_is_wrong_with_a_new_one_is_still_told(workspace: Any) -> None:
    with pytest.raises(InvalidInput):
        services.put_agent(
            workspace_id=workspace.pk, slug="clerk", name="Clerk", description="", status=VersionStatus.PUBLISHED,
            definition=Definition(mode="none"),
        )  # fmt: skip
    assert not Agent.objects.exists()
