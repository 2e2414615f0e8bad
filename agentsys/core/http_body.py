"""A response's body: unpacked within bounds, and read as text where it is text."""

import codecs
import re
import zlib
from dataclasses import dataclass

import httpx

from agentsys.core.errors import ToolFailed, ToolOutputTooLarge

MAX_HEADER_CHARS = 2_000
#: What a stored result has no use for: cookies are credentials.
_DROPPED_HEADERS = {"set-cookie", "set-cookie2"}
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json|text/json", re.IGNORECASE)
_TEXT = re.compile(
    r"text/.+|.+[/+](?:xml|yaml|x-yaml|javascript|ecmascript|x-ndjson|x-www-form-urlencoded|toml|graphql)"
)
_CHARSET = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
#: Python also knows "encodings" such as zip, hex and punycode: these are the ones that the web uses.
_WEB_CHARSET = re.compile(
    r"utf-?(8|16|16le|16be|32)|us-ascii|ascii|latin-?1|iso-?8859-\d{1,2}|windows-\d{3,4}|cp\d{3,4}"
    r"|koi8-[ru]|gb(2312|k|18030)|big5|shift[_-]?jis|euc-(jp|kr)|iso-2022-jp|mac-?roman",
    re.IGNORECASE,
)
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, read to its end; header names are lower case."""

    url: str
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def content_type(self) -> str:
        """The media type alone, lower case, "" when there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        return bool(_JSON.fullmatch(self.content_type))

    def text(self) -> str | None:
        """The body as text, None when it is not text."""
        declared = bool(_TEXT.fullmatch(self.content_type)) or self.is_json
        if not declared and (b"\0" in self.content or not _is_utf8(self.content)):
            return None
        for charset in self._charsets():
            try:
                return self.content.decode(charset)
            except (UnicodeDecodeError, LookupError):
                continue
        return self.content.decode("windows-1252", "replace")

    def _charsets(self) -> list[str]:
        """Candidates in the order in which browsers believe them."""
        found = [name for mark, name in _BOMS if self.content.startswith(mark)]
        if match := _CHARSET.search(self.headers.get("content-type", "")):
            found.append(match[1])
        names_itself = "html" in self.content_type or "xml" in self.content_type
        if names_itself and (match := _CHARSET.search(self.content[:2048].decode("latin-1"))):
            found.append(match[1])
        return [*(name for name in found if name == "utf-8-sig" or _WEB_CHARSET.fullmatch(name)), "utf-8"]


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


async def read_body(response: httpx.Response, max_bytes: int) -> Response:
    """Read and unpack a streamed response, stopping as soon as it is too large.

    Raises:
        ToolOutputTooLarge: it has, or says it has, more than ``max_bytes``.
        ToolFailed: it is packed in a way nobody asked for, or broken.
    """
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and len(declared) < 20 and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    unpacker = _unpacker(response.headers.get("content-encoding", ""))
    content = bytearray()
    received = 0
    async for chunk in response.aiter_raw():
        received += len(chunk)
        content += unpacker.unpack(chunk, max_bytes + 1 - len(content))
        if max(received, len(content)) > max_bytes:
            raise _too_large(max_bytes)
    unpacker.finish()
    return Response(str(response.url), response.status_code, _headers(response), bytes(content))


def _too_large(max_bytes: int) -> ToolOutputTooLarge:
    return ToolOutputTooLarge(f"The answer is larger than {max_bytes} bytes.", max_bytes=max_bytes)


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name: value[:MAX_HEADER_CHARS] for name, value in response.headers.items() if name not in _DROPPED_HEADERS}


class _Plain:
    """Nothing to unpack."""

    def unpack(self, chunk: bytes, most_bytes: int) -> bytes:  # noqa: ARG002
        return chunk

    def finish(self) -> None:
        pass


class _Packed:
    """gzip or deflate that never unpacks more than it is asked for: 1 KB may stand for 1 MB."""

    def __init__(self, *window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits[0])
        self._others = window_bits[1:]
        self._begun = False

    def unpack(self, chunk: bytes, most_bytes: int) -> bytes:
        try:
            unpacked = self._stream.decompress(chunk, most_bytes)
        except zlib.error as error:
            if not self._others or self._begun:
                raise _broken() from error
            self._stream, self._others = zlib.decompressobj(self._others[0]), ()
            return self.unpack(chunk, most_bytes)
        self._begun = True
        return unpacked

    def finish(self) -> None:
        if self._begun and not self._stream.eof:
            raise _broken()


def _broken() -> ToolFailed:
    return ToolFailed("The answer's compression is broken.")


def _unpacker(encoding: str) -> _Plain | _Packed:
    match encoding.strip().lower():
        case "" | "identity":
            return _Plain()
        case "gzip" | "x-gzip":
            return _Packed(zlib.MAX_WBITS | 16)
        case "deflate":
            return _Packed(zlib.MAX_WBITS, -zlib.MAX_WBITS)  # some servers leave the header out
    raise ToolFailed(f"The answer is packed as {encoding[:50]!r}, which was not asked for.")
