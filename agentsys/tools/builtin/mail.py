"""Mail, by the server that an operator has named, to those whom he has named.

A mail is sent to all of its recipients or to none, in one exchange.  Until its last line has gone out nothing has
happened, and a fault says so; from then until the server's answer nobody can tell: the outcome is unknown, and it is
not sent again by ourselves.  The Message-ID is made of the step's key, so that a mail sent again on a person's word
is known as the same.
"""

import contextlib
import hashlib
import mimetypes
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime
from typing import Annotated
from urllib.parse import SplitResult, unquote, urlsplit

from django.conf import settings
from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import NotConfigured, OutcomeUnknown, RecipientDenied, ToolFailed, ToolUnavailable
from agentsys.core.mailboxes import MAILBOX, is_allowed
from agentsys.core.sanitize import REPLACEMENT
from agentsys.tools.builtin.types import FileName
from agentsys.tools.context import ToolContext
from agentsys.tools.registry import tool

CONNECT_S, TIMEOUT_S = 10.0, 50.0
MAX_ATTACHED_BYTES = 10_000_000
_PORTS = {"smtp": 587, "smtps": 465}


class Sent(TypedDict):
    message_id: str
    to: list[str]


@tool(name="mail.send", effect="unsafe", lane="network", timeout_s=60.0)
def send(
    to: Annotated[list[str], Field(min_length=1, max_length=20, description="Addresses, such as ada@example.org.")],
    subject: Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")],
    text: Annotated[str, Field(max_length=200_000, description="The mail itself, as plain text.")],
    ctx: ToolContext,
    attachments: Annotated[
        list[FileName] | None, Field(max_length=10, description="Files of this run, 10 MB together.")
    ] = None,
) -> Sent:
    """Send a mail as plain text, to addresses that an operator has allowed."""
    if not (settings.SMTP_URL and settings.MAIL_FROM):
        told = "Mail is not set up here: an operator sets AGENTSYS_SMTP_URL and AGENTSYS_MAIL_FROM."
        raise NotConfigured(told, tool="mail.send")
    _check_recipients(to)
    message = _message(to, subject, text, ctx)
    _attach(message, attachments or [], ctx)
    left_s = min(TIMEOUT_S, ctx.deadline_at - time.monotonic())
    with _server(left_s) as server:
        _hand_over(server, message, to)
    return Sent(message_id=message["Message-ID"], to=to)


def _check_recipients(to: list[str]) -> None:
    for address in to:
        if not MAILBOX.fullmatch(address):
            raise ToolFailed(f"{address[:100]!r} is no mail address such as ada@example.org.")
        if not is_allowed(address, settings.MAIL_ALLOW):
            raise RecipientDenied(
                f"Mail may not be sent to {address}; an operator allows addresses by AGENTSYS_MAIL_ALLOW.", to=address
            )


def _message(to: list[str], subject: str, text: str, ctx: ToolContext) -> EmailMessage:
    message = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
    message["From"], message["To"] = settings.MAIL_FROM, ", ".join(to)
    message["Subject"] = subject
    message["Date"] = format_datetime(localtime())
    digest = hashlib.sha256(ctx.idempotency_key.encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@{settings.MAIL_FROM.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text.replace("\0", REPLACEMENT))
    return message


def _attach(message: EmailMessage, names: list[str], ctx: ToolContext) -> None:
    contents = {name: ctx.files.read(name) for name in dict.fromkeys(names)}
    if sum(map(len, contents.values())) > MAX_ATTACHED_BYTES:
        raise ToolFailed("The attachments have more than 10 MB.")
    for name, content in contents.items():
        kind, encoding = mimetypes.guess_type(name)
        main, _, sub = (kind if kind and not encoding else "application/octet-stream").partition("/")
        message.add_attachment(content, maintype=main, subtype=sub, filename=name)


@contextmanager
def _server(left_s: float) -> Iterator[smtplib.SMTP]:
    """A session that may take mail; its connection is cut, whatever it is at, when its time is over.

    Raises:
        ToolUnavailable, ToolFailed: what went wrong before the mail was on its way; nothing was sent.
    """
    url, tls, timeout_s = urlsplit(settings.SMTP_URL), ssl.create_default_context(), min(CONNECT_S, max(0.1, left_s))
    own_name = settings.MAIL_FROM.rpartition("@")[2]
    server: smtplib.SMTP = smtplib.SMTP(local_hostname=own_name, timeout=timeout_s)
    if url.scheme == "smtps":
        server = smtplib.SMTP_SSL(local_hostname=own_name, timeout=timeout_s, context=tls)
    watch = threading.Timer(max(0.1, left_s), lambda: _cut(server))
    watch.daemon = True
    watch.start()
    try:
        try:
            _enter(server, url, tls)
        except (OSError, smtplib.SMTPException) as error:
            raise _not_sent(error) from error
        yield server
    finally:
        watch.cancel()
        server.close()


def _enter(server: smtplib.SMTP, url: SplitResult, tls: ssl.SSLContext) -> None:
    """
    Raises:
        ToolFailed: the server refuses us, or a password would go over the wire as it is.
    """
    host = url.hostname or ""
    # What a certificate is checked against: connect() leaves it out.
    server._host = host  # type: ignore[attr-defined]
    _accepted(server.connect(host, url.port or _PORTS[url.scheme]))
    server.ehlo_or_helo_if_needed()
    if server.has_extn("starttls"):
        server.starttls(context=tls)
        server.ehlo_or_helo_if_needed()
    if url.username:
        if not isinstance(server.sock, ssl.SSLSocket):
            raise ToolFailed("The mail server offers no TLS, and the password is not sent without.")
        server.login(unquote(url.username), unquote(url.password or ""))


def _cut(server: smtplib.SMTP) -> None:
    if server.sock is not None:
        with contextlib.suppress(OSError):
            server.sock.shutdown(socket.SHUT_RDWR)


def _hand_over(server: smtplib.SMTP, message: EmailMessage, to: list[str]) -> None:
    try:
        _accepted(server.mail(settings.MAIL_FROM))
        for address in to:
            _accepted(server.rcpt(address))
    except (OSError, smtplib.SMTPException) as error:
        raise _not_sent(error) from error
    try:
        _accepted(server.data(message.as_bytes()))
    except smtplib.SMTPResponseException as error:  # before the mail, or its refusal after it
        raise _not_sent(error) from error
    except (OSError, smtplib.SMTPException) as error:
        raise OutcomeUnknown("The mail server did not say whether it took the mail.") from error


def _accepted(answer: tuple[int, bytes]) -> None:
    code, text = answer
    if not 200 <= code < 300:
        raise smtplib.SMTPResponseException(code, text)


def _not_sent(error: Exception) -> ToolFailed | ToolUnavailable:
    """A refusal for good, or what may be better later; 4yz is for later (RFC 5321, 4.2.1)."""
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        message = f"The mail server refused: {error.smtp_code} {said}"[:300]
        if error.smtp_code >= 500:
            return ToolFailed(message, smtp_code=error.smtp_code)
        return ToolUnavailable(message, smtp_code=error.smtp_code, sent=False)
    if isinstance(error, ssl.SSLCertVerificationError):
        return ToolFailed("The mail server has no valid certificate.")
    return ToolUnavailable(f"The mail server cannot be reached ({type(error).__name__}).", sent=False)
