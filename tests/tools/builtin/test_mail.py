"""Mail to those whom an operator has named, once."""

import datetime
import email
import email.policy
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agentsys.core.errors import (
    NotConfigured,
    NotFound,
    OutcomeUnknown,
    RecipientDenied,
    ToolArgumentsInvalid,
    ToolFailed,
    ToolUnavailable,
)
from agentsys.tools import registry, runner
from agentsys.tools.testing import context
from tests.support.smtp import Smtp


@pytest.fixture
def server(settings):
    with Smtp() as server:
        settings.SMTP_URL = f"smtp://127.0.0.1:{server.port}"
        settings.MAIL_FROM = "agents@example.org"
        settings.MAIL_ALLOW = ("ada@example.com", "@example.org")
        yield server


@pytest.fixture
def mail(call):
    def send(to=("ada@example.com",), subject="Hello", text="Hi.", **more):
        return call("mail.send", to=list(to), subject=subject, text=text, **more)

    return send


def received(server: Smtp) -> email.message.EmailMessage:
    (raw,) = server.mails
    return email.message_from_bytes(raw, policy=email.policy.default)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for localhost that only those trust who are told to, with its key, in one file."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]),
    )
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls(certificate):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate)
    return made


def test_a_mail_arrives_with_its_headers_and_its_text(mail, server):
    sent = mail(
        to=["ada@example.com", "bob@EXAMPLE.org"], subject="Grüße €", text="Zeile 1\n.\n.dot\nÄ\0" + "x" * 2_000
    )

    got = received(server)
    assert (got["From"], got["Subject"], got["Message-ID"]) == ("agents@example.org", "Grüße €", sent["message_id"])
    assert got["To"] == "ada@example.com, bob@EXAMPLE.org"
    assert got["Auto-Submitted"] == "auto-generated"
    assert got.get_content().replace("\r\n", "\n").rstrip("\n") == "Zeile 1\n.\n.dot\nÄ\ufffd" + "x" * 2_000
    assert all(len(line) < 1_000 for line in server.mails[0].split(b"\r\n"))
    assert server.mails[0].isascii()
    assert [word for word in server.commands if word.startswith("rcpt")] == [
        "rcpt TO:<ada@example.com>",
        "rcpt TO:<bob@EXAMPLE.org>",
    ]


def test_all_tries_of_a_step_are_the_same_mail(server):
    spec = registry.get("mail.send")
    arguments = {"to": ["ada@example.com"], "subject": "s", "text": "t"}
    ids = [runner.run(spec, arguments, context(idempotency_key=key))["message_id"] for key in ("a", "a", "b")]
    assert ids[0] == ids[1] != ids[2]
    assert "a@" not in ids[0]


def test_files_of_the_run_are_attached(mail, server, files):
    files.write("r\xe9port \u20ac.csv", "a,b\n"), files.write("raw", b"\x00\xff" * 100)
    mail(attachments=["r\xe9port \u20ac.csv", "raw", "raw"])

    parts = {part.get_filename(): part for part in received(server).iter_attachments()}
    assert {name: part.get_content_type() for name, part in parts.items()} == {
        "r\xe9port \u20ac.csv": "text/csv",
        "raw": "application/octet-stream",
    }
    assert parts["raw"].get_payload(decode=True) == b"\x00\xff" * 100


def test_attachments_too_large_or_missing_send_nothing(mail, server, files):
    files.write("a", bytes(6_000_000)), files.write("b", bytes(6_000_000))
    with pytest.raises(ToolFailed, match="10 MB"):
        mail(attachments=["a", "b"])
    with pytest.raises(NotFound):
        mail(attachments=["c"])
    assert server.commands == []


@pytest.mark.parametrize(
    "to",
    [
        "eve@evil.com",
        "ada@example.com.evil.com",
        "ada@evil.com@example.org",
        "x@sub.example.org",
        "ada2@example.com",
        "@example.org",
        "example.org",
    ],
)
def test_nobody_else_gets_mail(mail, server, to):
    with pytest.raises((RecipientDenied, ToolFailed)) as caught:
        mail(to=["ada@example.com", to])
    assert caught.value.code in ("recipient_denied", "tool_failed")
    assert server.commands == []


def test_without_a_list_nobody_gets_mail(mail, server, settings):
    settings.MAIL_ALLOW = ()
    with pytest.raises(RecipientDenied, match="AGENTSYS_MAIL_ALLOW") as caught:
        mail()
    assert (caught.value.code, caught.value.retryable, server.commands) == ("recipient_denied", False, [])


@pytest.mark.parametrize(
    "subject", ["a\nBcc: eve@evil.com", "a\r\nBcc: eve@evil.com", "a\rb", "a\0b", "a\x0bb", "a\x85b", "a\u2028b", ""]
)
def test_a_subject_cannot_add_headers(mail, server, subject):
    with pytest.raises(ToolArgumentsInvalid):
        mail(subject=subject)
    assert server.commands == []


@pytest.mark.parametrize(
    "to",
    [
        "a@example.org\nBcc: eve@evil.com",
        "a@example.org>\r\nDATA",
        "Ada <a@example.org>",
        "a@example.org, eve@evil.com",
        '"a b"@example.org',
        "a @example.org",
        "a\u00e4@example.org",
        "a@example.org\n",
        "a" * 300 + "@example.org",
        "a@[127.0.0.1]",
        "a..b@example.org",
        "",
    ],
)
def test_an_address_is_nothing_but_an_address(mail, server, to):
    with pytest.raises(ToolFailed, match="no mail address"):
        mail(to=[to])
    assert server.commands == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": []},
        {"to": ["a@example.org"] * 21},
        {"to": [5]},
        {"text": "x" * 200_001},
        {"text": "\ud800"},
        {"subject": "x" * 301},
    ],
)
def test_arguments_are_checked(mail, server, wrong):
    with pytest.raises(ToolArgumentsInvalid):
        mail(**wrong)
    assert server.commands == []


@pytest.mark.parametrize("missing", ["SMTP_URL", "MAIL_FROM"])
def test_where_mail_is_not_set_up_it_says_by_what(mail, server, settings, missing):
    setattr(settings, missing, "")
    with pytest.raises(NotConfigured, match="AGENTSYS_SMTP_URL") as caught:
        mail()
    assert (caught.value.code, caught.value.retryable) == ("not_configured", False)


# --- A server that does not take it ------------------------------------------------------
@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize(("answer", "error"), [("550 never", ToolFailed), ("451 later", ToolUnavailable)])
def test_a_refusal_is_final_or_for_later_and_nothing_was_sent(mail, server, at, answer, error):
    server.answers[at] = answer
    with pytest.raises(error, match=answer) as caught:
        mail()
    assert type(caught.value) is error
    assert error is ToolFailed or caught.value.data["sent"] is False


def test_one_recipient_that_is_refused_keeps_the_mail_from_all(mail, server):
    server.answers["RCPT"] = "550 who"
    with pytest.raises(ToolFailed):
        mail(to=["ada@example.com", "bob@example.org"])
    assert server.mails == []


@pytest.mark.parametrize("at", ["EHLO", "MAIL", "RCPT"])
def test_a_server_that_hangs_up_early_has_sent_nothing(mail, server, at):
    server.answers[at] = None
    with pytest.raises(ToolUnavailable) as caught:
        mail()
    assert (caught.value.data["sent"], server.mails) == (False, [])


def test_a_server_that_hangs_up_after_the_mail_leaves_it_unknown(mail, server):
    server.answers["."] = None
    with pytest.raises(OutcomeUnknown):
        mail()
    assert len(server.mails) == 1


@pytest.mark.parametrize(("at", "error"), [("EHLO", ToolUnavailable), ("MAIL", ToolUnavailable), (".", OutcomeUnknown)])
def test_a_server_that_falls_silent_is_given_up_at_the_steps_deadline(server, at, error):
    server.silent_at = at
    arguments = {"to": ["ada@example.com"], "subject": "s", "text": "t"}
    began = time.monotonic()
    with pytest.raises(error):
        runner.run(registry.get("mail.send"), arguments, context(deadline_at=time.monotonic() + 1))
    assert time.monotonic() - began < 3


def test_a_server_that_is_not_there_may_be_later(mail, server, settings):
    settings.SMTP_URL = "smtp://127.0.0.1:9"
    with pytest.raises(ToolUnavailable) as caught:
        mail()
    assert caught.value.data["sent"] is False


# --- Secrets and TLS ---------------------------------------------------------------------
def test_a_password_never_goes_over_the_wire_as_it_is(mail, server, settings):
    settings.SMTP_URL = f"smtp://agents:secret@127.0.0.1:{server.port}"
    with pytest.raises(ToolFailed, match="no TLS") as caught:
        mail()
    assert not [word for word in server.commands if "AUTH" in word]
    assert "secret" not in str(caught.value.as_dict())


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_over_tls_it_signs_in_if_the_certificate_is_trusted(
    mail, settings, server, tls, certificate, monkeypatch, scheme
):
    kind = {"starttls": tls} if scheme == "smtp" else {"tls": tls}
    with Smtp(**kind) as secure:
        settings.SMTP_URL = f"{scheme}://agents:s%40cret@localhost:{secure.port}"
        with pytest.raises(ToolFailed, match="certificate"):
            mail()
        assert not [word for word in secure.commands if "AUTH" in word]

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        mail()
        assert len(secure.mails) == 1
        assert [word for word in secure.commands if word.startswith("AUTH PLAIN")]

        settings.SMTP_URL = settings.SMTP_URL.replace("localhost", "127.0.0.1")  # not its name
        with pytest.raises(ToolFailed, match="certificate"):
            mail()


def test_a_wrong_password_is_refused_without_being_repeated(mail, settings, server, tls, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Smtp(starttls=tls, answers={"AUTH": "535 no"}) as secure:
        settings.SMTP_URL = f"smtp://agents:secret@localhost:{secure.port}"
        with pytest.raises(ToolFailed, match="535 no") as caught:
            mail()
    assert "secret" not in str(caught.value.as_dict())
