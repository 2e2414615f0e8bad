"""Text to tokens.  Literals are found first: nothing inside them is ever read as an instruction.

Linear in the text: what was looked for once in vain (the end of a quote) is not looked for again.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from agentsys.llm.offline.words import NUMBERS, VERBS, listed

EXTENSIONS = listed(
    "txt md rst csv tsv json jsonl ndjson html htm xml yaml yml toml ini cfg conf log py js ts css sql pdf png jpg "
    "jpeg gif svg parquet xlsx docx tex sh env dat text markdown"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a mark or a literal; a literal's ``values`` are several for "a.txt and b.txt"."""

    kind: str  # word, mark, break; quote, code, url, file, email, time, zone, number, expression, json, jmespath
    text: str  # a word in lower case; a literal as it stands
    start: int
    end: int
    values: tuple[Any, ...] = ()
    raw: str = ""  # a word as it was written


_CLOSING = {'"': '"', "`": "`", "“": "”", "‘": "’", "«": "»"}  # noqa: RUF001 - as people type them
_APOSTROPHE = re.compile(r"'(?!\w)")
_BULLET = r"(?:(?:[-*•]|\d{1,3}[.)])[^\S\n]+)?"
_BREAK = re.compile(rf"[^\S\n]*\n\s*{_BULLET}")
_STEP = re.compile(r"\bstep\s+\d{1,3}\s*[:.)-]\s*", re.IGNORECASE)
_FOLLOWED = re.compile(r"\s+[^\W\d]")
_NUMBERED = re.compile(r"\s+\d{1,2}[.)]\s+")  # "1. Fetch … 2. Count …" on one line
_URL = re.compile(r"https?://[^\s<>\"'`“”]+", re.IGNORECASE)
_PAIRS = {")": "(", "]": "[", "}": "{"}
_CHUNK = re.compile(r"(?:\.{1,2}/|/(?=\w))?[\w~][\w~.@/+-]{0,254}")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\w)")
_ZONE = re.compile(r"(?:[A-Z][A-Za-z]+(?:/[A-Z][A-Za-z_]+){1,2}|UTC|GMT)(?!\w)")
_NUMBER = re.compile(r"(?:\d{1,3}(?:,\d{3}){1,9}|\d{1,300})(?:\.\d{1,300})?(?:[eE][+-]?\d{1,3})?(?!\d|\.\d{300})")
_DIGITS = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[^\W\d]\w*(?:['’-][^\W\d]\w*)*(?:\.[^\W\d]\w*)*")  # noqa: RUF001
#: "Python: sorted([3, 1, 2])": code without quotes goes on to the end of the line, to ", then" or "and write …".
_BARE_CODE = re.compile(
    r"(?:(?:python|code)\s*:[^\S\n]*(?![\"'`“‘\s])|python(?:\s+code)?\s+(?=[\w.]*[(\[]))((?:\"[^\"\n]*\"|'[^'\n]*'|.)+?)"  # noqa: RUF001
    rf"(?=,?\s+(?:and\s+)?then\s|,?\s+and\s+(?:{'|'.join(VERBS.split())})\s|\n|$)",
    re.IGNORECASE,
)
#: A place in JSON, where brackets say that it is one: items[].price.
_PART = r"(?:\.[A-Za-z_]\w{0,99}|\[(?:\*|-?\d{0,9})\]){0,20}"
_JMESPATH = re.compile(rf"[A-Za-z_]\w{{0,99}}{_PART}\[(?:\*|-?\d{{0,9}})\]{_PART}")


def tokens(text: str, files: Collection[str] = ()) -> Iterator[Token]:
    """The tokens of a text, spaces left out.

    Args:
        files: Names that are file names wherever they stand, also without their extension.
    """
    lexer = _Lexer(text, files)
    bullet = re.match(rf"\s*{_BULLET}", text)
    at = bullet.end() if bullet else 0
    while at < len(text):
        token = lexer.token(at)
        if token.kind != "space":
            yield token
        at = token.end


class _Lexer:
    def __init__(self, text: str, files: Collection[str]) -> None:
        self.text, self.files = text, frozenset(files)
        self.spaced = sorted((name for name in files if " " in name), key=len, reverse=True)
        self.stems = {name.rpartition(".")[0].lower(): name for name in files if "." in name}
        self.unclosed: set[str] = set()
        self.numbered = bool(re.match(r"\s*1[.)]\s", text))
        self.json_tries = 20
        self.placed = False  # whether a place was named before: then "the prices" are there, not in prices.json

    def token(self, at: int) -> Token:
        char = self.text[at]
        numbered = _NUMBERED.match(self.text, at) if self.numbered else None
        if found := _BREAK.match(self.text, at) or numbered or _STEP.match(self.text, at):
            return Token("break", "\n", at, found.end())
        if char.isspace():
            return Token("space", char, at, at + 1)
        literal = self._fenced(at) or self._quoted(at, char) or self._url(at) or self._json(at, char)
        return literal or self._pattern(at) or self._number(at) or self._word(at) or Token("mark", char, at, at + 1)

    def _fenced(self, at: int) -> Token | None:
        if not self.text.startswith("```", at) or "```" in self.unclosed:
            return None
        end = self.text.find("```", at + 3)
        if end < 0:
            self.unclosed.add("```")
            return None
        body = re.sub(r"\A\w*\n", "", self.text[at + 3 : end]).strip("\n")
        return Token("code", self.text[at : end + 3], at, end + 3, (body,))

    def _quoted(self, at: int, char: str) -> Token | None:
        end = self._closing(at, char)
        if end < 0 or (char == "`" and end == at + 1):
            return None
        kind = "code" if char == "`" else "quote"
        return Token(kind, self.text[at : end + 1], at, end + 1, (self.text[at + 1 : end],))

    def _closing(self, at: int, char: str) -> int:
        if char in self.unclosed or not (char == "'" or char in _CLOSING):
            return -1
        if char == "'":
            if at > 0 and self.text[at - 1].isalnum():
                return -1
            found = _APOSTROPHE.search(self.text, at + 1)
            end = found.start() if found else -1
        else:
            end = self.text.find(_CLOSING[char], at + 1)
        if end < 0:
            self.unclosed.add(char)
        return end

    def _url(self, at: int) -> Token | None:
        if not (found := _URL.match(self.text, at)):
            return None
        url = found[0].rstrip(".,;:!?*")
        while url[-1] in _PAIRS and url.count(url[-1]) > url.count(_PAIRS[url[-1]]):
            url = url[:-1].rstrip(".,;:!?*")
        self.placed = True
        return Token("url", url, at, at + len(url), (url,))

    def _json(self, at: int, char: str) -> Token | None:
        if char not in "{[" or self.json_tries == 0:
            return None
        self.json_tries -= 1
        try:
            value, end = json.JSONDecoder().raw_decode(self.text, at)
        except (ValueError, RecursionError):
            return None
        return Token("json", self.text[at:end], at, end, (value,))

    def _pattern(self, at: int) -> Token | None:
        """What looks like a word and is a literal: a time, a zone, a mail address, a file name."""
        for kind, pattern in (("time", _TIME), ("zone", _ZONE)):
            if found := pattern.match(self.text, at):
                return Token(kind, found[0], at, found.end(), (found[0],))
        if name := next((name for name in self.spaced if self.text.startswith(name, at)), ""):
            return Token("file", name, at, at + len(name), (name,))
        if found := _JMESPATH.match(self.text, at):
            return Token("jmespath", found[0], at, found.end(), (found[0],))
        if not (found := _CHUNK.match(self.text, at)):
            return None
        chunk = found[0].rstrip(".,-/+")
        if _EMAIL.fullmatch(chunk):
            return Token("email", chunk, at, at + len(chunk), (chunk,))
        stemmed, dot, extension = chunk.rpartition(".")
        if chunk in self.files or (dot and stemmed and extension.lower() in EXTENSIONS and "@" not in chunk):
            self.placed = True
            return Token("file", chunk, at, at + len(chunk), (chunk,))
        return None

    def _number(self, at: int) -> Token | None:
        if not (found := _NUMBER.match(self.text, at)):
            return self._too_long(at)
        digits = found[0].replace(",", "")
        value = float(digits) if set(digits) & set(".eE") else int(digits)
        if value == float("inf"):
            return self._too_long(at)
        return Token("number", digits, at, found.end(), (value,))

    def _too_long(self, at: int) -> Token | None:
        """Digits that are no number we could take whole: a word that nothing knows, never a part of them."""
        found = _DIGITS.match(self.text, at)
        return Token("word", found[0], at, found.end(), raw=found[0]) if found else None

    def _word(self, at: int) -> Token | None:
        if code := _BARE_CODE.match(self.text, at):
            return Token("code", code[1], at, code.end(), (code[1].rstrip(" ."),))
        if not (found := _WORD.match(self.text, at)):
            return None
        word = found[0].lower().replace("’", "'")  # noqa: RUF001
        alone = word == "one" and not _FOLLOWED.match(self.text, found.end())  # "the first one"
        if word in NUMBERS and not alone:
            return Token("number", str(NUMBERS[word]), at, found.end(), (NUMBERS[word],))
        if word in self.stems and (not self.placed or found[0] != word):
            return Token("file", found[0], at, found.end(), (self.stems[word],))
        return Token("word", word, at, found.end(), raw=found[0])
