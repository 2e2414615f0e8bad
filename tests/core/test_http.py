"""The outbound client against servers that lie, redirect, hang and pack bombs."""

import asyncio
import gzip
import socket
import ssl
import time
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agentsys.core import addresses, http, loop
from agentsys.core.errors import AddressDenied, OutcomeUnknown, ToolFailed, ToolOutputTooLarge, ToolUnavailable
from tests.support.web import Web, answer, raw, redirect, silent


@pytest.fixture
def web(settings):
    with Web() as web:
        settings.HTTP_ALLOW = (web.address,)
        yield web


def get(url: str, **options: Any) -> http.Response:
    return loop.run(http.request("GET", url, **options), timeout_s=20)


def post(url: str, **options: Any) -> http.Response:
    return loop.run(http.request("POST", url, **options), timeout_s=20)


@pytest.fixture
def names(monkeypatch):
    """A resolver that gives each name the addresses of the next line of its list, the last one for ever."""
    known: dict[str, list[list[str]]] = {}
    asked: list[str] = []

    async def resolver(host, port, **_):
        asked.append(host)
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        lines = known[host]
        found = lines.pop(0) if len(lines) > 1 else lines[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    async def current():
        return asyncio.get_running_loop()

    monkeypatch.setattr(loop.run(current(), timeout_s=5), "getaddrinfo", resolver)
    known["asked"] = [asked]
    return known


@pytest.fixture
def wires(monkeypatch):
    """Connections go to the address written here, whatever they are for; they are listed."""
    state: dict[str, Any] = {"to": None, "asked": []}
    original = httpcore.AnyIOBackend.connect_tcp

    async def connect(self, host, port, *args, **kwargs):
        state["asked"].append((host, port))
        if state["to"] is None:
            raise httpcore.ConnectError("nobody there")
        return await original(self, *state["to"], *args, **kwargs)

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)
    return state


# --- Addresses ------------------------------------------------------------------------
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "0.0.0.0", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.0.0.1",
        "198.18.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "168.63.129.16",
        "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:53aa:64c::1",
        "2001:10::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "fc00::1", "fd00:ec2::254",
        "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:7f00:1",
        "5f00::1", "not an address", "", "1", "0x7f000001",
    ],
)  # fmt: skip
def test_an_address_inside_is_not_public(address):
    assert not addresses.is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.216.34",
        "172.15.0.1",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700:4700::1111",
        "2a00::1",
    ],
)
def test_an_address_of_the_internet_is_public(address):
    assert addresses.is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/",
        "http://0x7f.0.0.1/", "http://127.0.0.1./", "http://134744072/", "http://0/", "http://[::1]/",
        "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[64:ff9b::127.0.0.1]/", "http://[fe80::1%25lo]/",
        "http://169.254.169.254/latest/meta-data/", "https://10.0.0.1:8443/", "http://0.0.0.0:80/",
    ],
)  # fmt: skip
def test_no_way_of_writing_an_inside_address_gets_through(url, wires):
    with pytest.raises((AddressDenied, ToolFailed)):
        get(url)
    assert wires["asked"] == []


@pytest.mark.parametrize(
    "url", ["http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "http://localhost/", "http://localhost./"]
)
def test_a_name_that_turns_out_to_be_inside_is_refused(url, wires):
    with pytest.raises((AddressDenied, ToolFailed, ToolUnavailable)):
        get(url)
    assert wires["asked"] == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.com/", "gopher://127.0.0.1:6379/_FLUSHALL", "unix:///run/x.sock",
        "//example.com/", "/path", "", "javascript:alert(1)", "http://", "http:///path", "http://user@example.com/",
        "http://user:secret@example.com/", "http://good.example\\@127.0.0.1/", "http://example.com:0/", "http://example.com:99999/",
    ],
)  # fmt: skip
def test_only_plain_http_and_https_addresses_are_called(url, wires):
    with pytest.raises((AddressDenied, ToolFailed)):
        get(url)
    assert wires["asked"] == []


@pytest.mark.parametrize("url", ["http://exa mple.com/\0", "http://[::1/", "http://\ud800/"])
def test_what_is_no_address_is_a_failure_not_a_crash(url):
    with pytest.raises(ToolFailed, match="web address"):
        get(url)


def test_a_name_with_one_inside_address_among_others_is_refused(names, wires):
    names["mixed.example"] = [["93.184.216.34", "127.0.0.1"]]
    with pytest.raises(AddressDenied):
        get("http://mixed.example/")
    assert wires["asked"] == []


def test_a_name_is_looked_up_once_and_the_checked_address_is_the_one_called(names, wires, web):
    names["rebind.example"] = [["93.184.216.34"], ["127.0.0.1"]]
    wires["to"] = ("127.0.0.1", web.port)
    web.pages["/"] = answer(b"hello")

    assert get("http://rebind.example:8000/").content == b"hello"
    assert wires["asked"] == [("93.184.216.34", 8000)]
    assert names["asked"][0] == ["rebind.example"]
    assert web.seen[0].headers["host"] == "rebind.example:8000"

    with pytest.raises(AddressDenied):  # the second request finds what the name has become
        get("http://rebind.example:8000/")
    assert len(wires["asked"]) == 1


def test_the_next_address_of_a_name_is_tried_and_not_more_than_four(names, wires):
    names["many.example"] = [[f"93.184.216.{n}" for n in range(20)]]
    with pytest.raises(ToolUnavailable):
        get("http://many.example/")
    assert [host for host, _ in wires["asked"]] == [f"93.184.216.{n}" for n in range(4)]


def test_a_name_nobody_knows_is_unavailable(names):
    with pytest.raises(ToolUnavailable, match=r"no\.example") as caught:
        get("http://no.example/")
    assert caught.value.data["sent"] is False


def test_a_label_longer_than_names_have_does_not_crash(wires):
    with pytest.raises((ToolUnavailable, ToolFailed)):
        get(f"http://{'a' * 200}.example/")


def test_what_the_operator_lets_through_is_that_host_with_that_port_only(web, settings):
    web.pages["/"] = answer(b"inside")
    assert get(web.url()).content == b"inside"

    settings.HTTP_ALLOW = (f"localhost:{web.port}", "127.0.0.1:1")
    with pytest.raises(AddressDenied, match="AGENTSYS_HTTP_ALLOW"):
        get(web.url())
    settings.HTTP_ALLOW = ()
    with pytest.raises(AddressDenied):
        get(web.url())
    assert len(web.seen) == 1


# --- Redirects ------------------------------------------------------------------------
def test_redirects_are_followed_and_the_last_address_is_told(web):
    web.pages |= {"/a": redirect("/b?x=1", 301), "/b": redirect(web.url("/c"), 307), "/c": answer(b"end")}
    response = get(web.url("/a"))
    assert (response.url, response.content) == (web.url("/c"), b"end")


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:1/",
        "http://localhost/",
        "//169.254.169.254/",
        "http://[::1]/",
        "file:///etc/passwd",
        "http://u:p@e.com/",
    ],
)
def test_a_redirect_to_the_inside_is_refused(web, target):
    web.pages["/"] = redirect(target)
    with pytest.raises(AddressDenied):
        get(web.url())
    assert len(web.seen) == 1


def test_a_circle_of_redirects_ends(web):
    web.pages["/"] = redirect("/")
    with pytest.raises(ToolFailed, match="more than 5"):
        get(web.url())
    assert len(web.seen) == 6


@pytest.mark.parametrize("target", ["http://[half", "http://%5bhalf/", "http://a b/", "http://x:99999/", "http://"])
def test_a_redirect_to_nonsense_is_refused(web, target):
    web.pages["/"] = redirect(target)
    with pytest.raises((AddressDenied, ToolFailed)):
        get(web.url())


def test_credentials_do_not_follow_to_another_origin(web, settings):
    with Web() as other:
        settings.HTTP_ALLOW = (web.address, other.address)
        web.pages["/"] = redirect(other.url("/"))
        other.pages["/"] = answer()
        get(web.url(), headers={"Authorization": "Bearer s", "X-Api-Key": "s", "Cookie": "s", "Accept": "text/html"})

        assert other.seen[0].headers["accept"] == "text/html"
        assert not {"authorization", "x-api-key", "cookie"} & set(other.seen[0].headers)


def test_headers_stay_on_the_same_origin(web):
    web.pages |= {"/": redirect("/next"), "/next": answer()}
    get(web.url(), headers={"Authorization": "Bearer s"})
    assert web.seen[1].headers["authorization"] == "Bearer s"


def test_data_is_not_sent_to_where_a_redirect_points(web):
    for status in (301, 302, 307, 308):
        web.pages["/"] = redirect("/next", status)
        with pytest.raises(ToolFailed, match="redirects the data"):
            post(web.url(), content=b"x")
    assert {seen.target for seen in web.seen} == {"/"}


def test_see_other_after_a_post_is_a_get_without_the_data(web):
    web.pages |= {"/": redirect("/done", 303), "/done": answer(b"done")}
    assert post(web.url(), content=b"secret").content == b"done"
    assert [(seen.method, seen.body) for seen in web.seen] == [("POST", b"secret"), ("GET", b"")]


def test_cookies_are_not_kept_or_shown(web):
    web.pages |= {
        "/": answer(headers={"Set-Cookie": "a=1"}),
        "/r": answer(status=302, headers={"Set-Cookie": "b=2", "Location": "/"}),
    }
    assert "set-cookie" not in get(web.url("/r")).headers
    get(web.url())
    assert all("cookie" not in seen.headers for seen in web.seen)


# --- Bodies ---------------------------------------------------------------------------
def packed(body: bytes, encoding: str) -> Any:
    return answer(body, headers={"Content-Encoding": encoding})


def test_packed_answers_are_unpacked(web):
    deflate = zlib.compressobj(wbits=-15)
    web.pages |= {
        "/gzip": packed(gzip.compress(b"text" * 100), "gzip"),
        "/zlib": packed(zlib.compress(b"text" * 100), "deflate"),
        "/raw": packed(deflate.compress(b"text" * 100) + deflate.flush(), "deflate"),
    }
    for path in list(web.pages):
        assert get(web.url(path)).content == b"text" * 100


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"not gzip", "gzip"),
        (b"x", "br"),
        (gzip.compress(gzip.compress(b"x")), "gzip, gzip"),
        (b"\x78\x9c\xff\xff", "deflate"),
        (gzip.compress(b"cut" * 999)[:-9], "gzip"),
    ],
)
def test_broken_and_unasked_packing_is_a_failure(web, body, encoding):
    web.pages["/"] = packed(body, encoding)
    with pytest.raises(ToolFailed):
        get(web.url())


def test_a_bomb_is_noticed_while_it_is_unpacked(web):
    web.pages["/"] = packed(gzip.compress(b"\0" * 300_000_000, 1), "gzip")
    with pytest.raises(ToolOutputTooLarge):
        get(web.url(), max_bytes=2_000_000)


def test_too_large_is_refused_by_what_is_said_and_by_what_comes(web):
    web.pages |= {
        "/said": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx"),
        "/comes": raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_001),
        "/fits": raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000),
    }
    for path in ("/said", "/comes"):
        with pytest.raises(ToolOutputTooLarge):
            get(web.url(path), max_bytes=200_000)
    assert len(get(web.url("/fits"), max_bytes=200_000).content) == 200_000


def test_an_endless_body_ends_with_the_bound(web):
    async def endless(seen, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
            await writer.drain()

    web.pages["/"] = endless
    with pytest.raises(ToolOutputTooLarge):
        get(web.url(), max_bytes=100_000)


@pytest.mark.parametrize(
    ("content", "content_type", "expected"),
    [
        ("grüße".encode(), "text/plain", "grüße"),
        ("grüße".encode("latin-1"), "text/plain", "grüße"),
        ("grüße".encode("latin-1"), "text/html; charset=ISO-8859-1", "grüße"),
        ("日本".encode("shift_jis"), 'text/html; charset="Shift_JIS"', "日本"),
        ('<meta charset="euc-kr">한국'.encode("euc-kr"), "text/html", '<meta charset="euc-kr">한국'),
        ("\ufeffx".encode(), "text/plain; charset=latin-1", "x"),
        ("x€".encode("utf-16"), "text/plain", "x€"),
        (b"text", "text/plain; charset=zip", "text"),
        (b"text", "text/plain; charset=no-such-thing", "text"),
        (b"text", "", "text"),
        (b"\x89PNG\0\0", "image/png", None),
        (b"\xff\xfe\0\0", "", None),
        (b"%PDF-1.4 \xe2\xe3", "application/pdf", None),
        (b"<a/>", "application/rss+xml", "<a/>"),
    ],
)
def test_text_is_read_in_its_own_encoding(content, content_type, expected):
    response = http.Response("http://x/", 200, {"content-type": content_type}, content)
    assert response.text() == expected


# --- Answers and silences -------------------------------------------------------------
@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_refusal_is_a_failure_with_what_was_said(web, status):
    web.pages["/"] = answer(b"because", status=status)
    with pytest.raises(ToolFailed) as caught:
        get(web.url())
    assert caught.value.data == {"status": status, "body": "because"}


def test_a_refusal_is_an_answer_to_those_who_ask_for_it(web):
    web.pages["/"] = answer(b"gone", status=410)
    assert get(web.url(), allow_errors=True).status == 410


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_broken_server_is_unavailable_to_a_get_but_a_failure_to_a_post(web, status):
    web.pages["/"] = answer(status=status)
    with pytest.raises(ToolUnavailable):
        get(web.url())
    with pytest.raises(ToolFailed):
        post(web.url(), content=b"x")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("999999999999", 604_800.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
        ("٣", None),
    ],
)
def test_come_back_later_says_when(web, value, expected):
    web.pages["/"] = answer(status=429, headers={"Retry-After": value.encode().decode("latin-1")})
    for call in (get, post):
        with pytest.raises(ToolUnavailable) as caught:
            call(web.url())
        assert caught.value.data.get("retry_after_s") == expected
        assert caught.value.data["sent"] is False


def test_come_back_at_a_date(web):
    web.pages["/"] = answer(
        status=503, headers={"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=90))}
    )
    with pytest.raises(ToolUnavailable) as caught:
        get(web.url())
    assert 80 < caught.value.data["retry_after_s"] <= 90


def test_a_silent_server_costs_its_time_and_no_more(web):
    web.pages["/"] = silent
    began = time.monotonic()
    with pytest.raises(ToolUnavailable, match="did not answer within"):
        get(web.url(), timeout_s=0.2)
    with pytest.raises(OutcomeUnknown, match="may have taken effect"):
        post(web.url(), timeout_s=0.2)
    assert time.monotonic() - began < 5


def test_a_server_that_drips_is_cut_off_at_the_time_of_the_whole_call(web):
    async def drip(seen, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    web.pages["/"] = drip
    with pytest.raises(ToolUnavailable, match="did not answer within"):
        get(web.url(), timeout_s=0.3)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\0" * 1000,
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_garbage_is_unavailable_to_a_get_and_unknown_to_a_post(web, garbage):
    web.pages["/"] = raw(garbage)
    with pytest.raises(ToolUnavailable):
        get(web.url())
    with pytest.raises(OutcomeUnknown):
        post(web.url(), content=b"x")


def test_a_closed_port_is_unavailable_and_nothing_was_sent(settings):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings.HTTP_ALLOW = (f"127.0.0.1:{free.getsockname()[1]}",)
        for call in (get, post):
            with pytest.raises(ToolUnavailable, match="cannot be reached") as caught:
                call(f"http://{settings.HTTP_ALLOW[0]}/?token=secret")
            assert caught.value.data["sent"] is False
            assert "secret" not in caught.value.message


# --- Requests -------------------------------------------------------------------------
@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\r\nInjected: 1"}, {"X": "a\nb"}, {"X": "a\0b"}, {"X: y\r\nZ": "1"}, {"": "x"}, {"a b": "x"},
        {"X": "✓"}, {"Host": "inside"}, {"content-length": "0"}, {"Transfer-Encoding": "chunked"},
        {"Connection": "upgrade"}, {"Proxy-Authorization": "x"}, {"X": "a" * 10_000}, {"X" * 200: "a"},
    ],
)  # fmt: skip
def test_headers_cannot_write_a_request_of_their_own(web, headers):
    with pytest.raises(ToolFailed):
        get(web.url(), headers=headers)
    assert web.seen == []


def test_the_query_is_encoded_and_added(web):
    web.pages["/"] = answer()
    get(web.url("/?a=1"), query={"b": "x&y=z ü", "c": 2, "d": True})
    assert parse_qs(urlsplit(web.seen[0].target).query) == {"a": ["1"], "b": ["x&y=z ü"], "c": ["2"], "d": ["true"]}


def test_proxies_of_the_environment_are_not_used(web, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    web.pages["/"] = answer(b"direct")
    assert get(web.url()).content == b"direct"


def test_five_hundred_calls_wait_at_the_same_time(web):
    together = loop.run(_barrier(500), timeout_s=5)

    async def meet(seen, writer):
        await together.wait()
        await answer()(seen, writer)

    web.pages["/"] = meet
    futures = [loop.submit(http.request("GET", web.url())) for _ in range(500)]
    assert {future.result(30).status for future in futures} == {200}


async def _barrier(parties: int) -> asyncio.Barrier:
    return asyncio.Barrier(parties)


# --- TLS ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of its own authority, for the name pinned.example."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pinned.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .issuer_name(name)
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pinned.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def secure(certificate, monkeypatch, settings):
    """A server for pinned.example, whose authority this process trusts; the loop is a fresh one for that."""
    loop.stop()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Web(tls=context) as web:
        web.pages["/"] = answer(b"secret")
        yield web
    loop.stop()


def test_the_certificate_is_checked_for_the_name_though_the_address_is_called(secure, names, wires):
    names |= {"pinned.example": [["93.184.216.34"]], "other.example": [["93.184.216.34"]]}
    wires["to"] = ("127.0.0.1", secure.port)

    assert get("https://pinned.example/").content == b"secret"
    with pytest.raises(ToolFailed, match="certificate"):
        get("https://other.example/")
    assert [seen.headers["host"] for seen in secure.seen] == ["pinned.example"]


def test_a_redirect_from_https_to_http_is_refused(secure, names, wires):
    names["pinned.example"] = [["93.184.216.34"]]
    wires["to"] = ("127.0.0.1", secure.port)
    secure.pages["/"] = redirect("http://pinned.example/")
    with pytest.raises(AddressDenied, match="https to http"):
        get("https://pinned.example/")
