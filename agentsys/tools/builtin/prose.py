"""Lines, paragraphs, sections, sentences and words of a text.  Everything here is linear in the text:
none of it may be slow on a million characters of anything."""

# ruff: noqa: RUF001  (the typographic marks are meant)

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SPACES = re.compile(r"\s+")
#: A run of closing marks and what may follow it.  The look-behind lets a run be looked at once only.
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+\s+|[。！？]++[」』”]*+\s*+")
_NEXT = re.compile(r"[\"'“‘«(\[]*+[^\W_a-zß-ÿ]")
_LAST_WORD = re.compile(r"[\w.]+$")
#: A full stop after these ends no sentence.
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof sr jr st vs etc e.g i.e cf fig no vol approx dept inc ltd co u.s u.k a.m p.m "  # noqa: SIM905
    "z.b d.h bzw ca nr usw u.a jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
_BLOCK_START = re.compile(r"[ \t]*(?:[-*+•] |\d{1,3}[.)] |>|\|)")
_MARKS = re.compile(r"^[ \t]*(?:[-*+•] |\d{1,3}[.)] |>+ ?)")
_LINK = re.compile(r"!?\[([^\[\]]{0,500})\]\([^()\s]{0,2000}\)")


@dataclass(frozen=True, slots=True)
class Part:
    """What is between two headings."""

    title: str
    level: int  # of its heading, 1 to 6; 0 is the text before the first
    text: str


def lines(text: str) -> list[str]:
    """Lines as an editor counts them: only LF, CR LF and CR end one."""
    found = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return found[:-1] if found[-1] == "" else found


def paragraphs(text: str) -> list[str]:
    """What blank lines separate."""
    found: list[list[str]] = [[]]
    for line in lines(text):
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return ["\n".join(block).strip() for block in found if block]


def sections(text: str) -> list[Part]:
    """Cut at Markdown's headings, those of code blocks excepted."""
    found: list[tuple[str, int, list[str]]] = [("", 0, [])]
    fence = ""
    for line in lines(text):
        mark = _FENCE.match(line)
        if mark and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        heading = None if fence or mark else _HEADING.fullmatch(line)
        if heading:
            found.append((_title(heading[2] or ""), len(heading[1]), []))
        elif not fence and _underlines(line, found[-1][2]):
            title = found[-1][2].pop()
            found.append((title.strip(), 1 if "=" in line else 2, []))
        else:
            found[-1][2].append(line)
    parts = [Part(title, level, "\n".join(body).strip()) for title, level, body in found]
    return [part for part in parts if part.title or part.text]


def _title(raw: str) -> str:
    """Without the #s that may close a heading."""
    title = raw.strip()
    bare = title.rstrip("#")
    return bare.strip() if not bare or (bare != title and bare[-1] in " \t") else title


def _underlines(line: str, above: list[str]) -> bool:
    """Whether a line of = or - makes a heading of the one line of text above it."""
    if not _UNDERLINE.fullmatch(line) or not above or not above[-1].strip():
        return False
    is_alone = len(above) == 1 or not above[-2].strip()
    return is_alone and not _BLOCK_START.match(above[-1])


def sentences(text: str) -> list[str]:
    """Sentences; lines of a paragraph are joined, list items and headings stand for themselves."""
    return [sentence for block in _blocks(text) for sentence in _sentences(block)]


def _blocks(text: str) -> Iterator[str]:
    for paragraph in paragraphs(text):
        block: list[str] = []
        for line in paragraph.split("\n"):
            alone = bool(_HEADING.fullmatch(line))
            if block and (alone or _BLOCK_START.match(line)):
                yield _SPACES.sub(" ", " ".join(block)).strip()
                block = []
            block.append(line)
            if alone:
                yield _SPACES.sub(" ", block.pop()).strip()
        if block:
            yield _SPACES.sub(" ", " ".join(block)).strip()


def _sentences(block: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(block):
        if _ends_sentence(block, end):
            yield block[start : end.end()].strip()
            start = end.end()
    if rest := block[start:].strip():
        yield rest


def _ends_sentence(block: str, end: re.Match[str]) -> bool:
    if end[0][0] in "。！？":
        return True
    if not _NEXT.match(block, end.end()) and not block[end.end() : end.end() + 1].isdigit():
        return False
    if not end[0].startswith(".") or end[0].startswith(".."):
        return True
    word = _LAST_WORD.search(block[max(0, end.start() - 20) : end.start()])
    last = word[0].casefold() if word else ""
    is_initial = len(last) == 1 and last.isalpha() and last != "i"
    return last not in _ABBREVIATIONS and not is_initial


def plain(text: str) -> str:
    """A Markdown text as prose: without code blocks, headings, tables, pictures and marks."""
    kept: list[str] = []
    fence = ""
    for line in lines(text):
        mark = _FENCE.match(line)
        if mark and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
            kept.append("")
        elif not fence:
            kept.append(_plain_line(line))
    return "\n".join(kept)


def _plain_line(line: str) -> str:
    if _HEADING.fullmatch(line) or line.lstrip().startswith("|") or _UNDERLINE.fullmatch(line):
        return ""
    item = _MARKS.match(line)
    bare = _LINK.sub(r"\1", line[item.end() :] if item else line).replace("**", "").replace("`", "")
    return f"\n{bare}" if item else bare  # an item is a paragraph of its own
