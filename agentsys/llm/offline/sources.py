"""What "it", "them" and "the links" can mean: outputs of earlier steps, and the run's input."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from agentsys.llm.offline.catalogue import Param, Profile
from agentsys.llm.offline.words import stem, stemmed, stems

#: Kinds of value that a parameter of a kind takes as they are.
TAKES = {
    "text": ("text", "url"),
    "html": ("text",),
    "url": ("url",),
    "file": ("file",),
    "number": ("scalar", "any"),
    "array": ("list", "any"),
    "object": ("object", "any"),
    "any": ("text", "url", "list", "object", "scalar", "any"),
}

PAGES = stemmed("page website webpage site html htm article homepage")
JSON = stemmed("json api schema openapi")
#: Endings of addresses whose content is no HTML, whatever is said about it.
_NO_PAGES = re.compile(r"\.(?!html?$|php$|aspx?$|jsp$|xhtml$)[a-z][a-z0-9]{1,5}$", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """A value that a reference can name.

    ``results`` are (path, kind) of what it stands for, several when only one of them will be there.
    """

    name: str  # a step's key, or "input"
    results: tuple[tuple[str, str], ...]
    outputs: Mapping[str, str]  # property -> kind
    names: frozenset[str]  # stems that speak of it
    group: int = 0  # steps that one clause made for a list of things share a number
    file: str = ""  # the name of the file that it is
    made_of: frozenset[str] = frozenset()  # keys of the steps whose outputs went into it
    is_web: bool = False  # came from an address
    is_page: bool = False  # HTML, as far as the goal says
    is_json: bool = False  # the same of JSON
    may_be_page: bool = False  # came from an address that does not say what is there

    @property
    def is_many(self) -> bool:
        return self.results[0][1] in ("list", "object")

    def reference(self) -> str:
        path = " || ".join(path for path, _ in self.results)
        return f"${{{self.name}.{path}}}" if path else f"${{{self.name}}}"

    def value(self, param: Param, *, loosely: bool = False) -> str:
        """The template that gives ``param`` this value; "" if it does not fit.

        Args:
            loosely: Lists and objects are wanted as text too.
        """
        results = self._results_for(param)
        fitting = [path for path, kind in results if kind in TAKES.get(param.kind, ())]
        if param.kind != "text":
            return self._named(" || ".join(fitting)) if fitting else ""
        if len(results) > 1:  # the first that is there, as text
            return f"${{{self.name} | [{', '.join(path for path, _ in results)}][*] | [*].to_string(@) | [0]}}"
        if fitting:
            return self._named(fitting[0])
        path, kind = results[0]
        convertible = kind in ("scalar", "any") or (loosely and kind in ("list", "object"))
        return f"${{{self.name}.{path} | to_string(@)}}".replace(". |", " |") if convertible else ""

    def output(self, words: frozenset[str]) -> str:
        """The property that these stems name; "" if none."""
        return next((name for name in self.outputs if stems(name) <= words <= stems(name) | {"cod", "field"}), "")

    def part(self, word: str) -> "Source":
        """What a noun speaks of: the property that it names, else the whole."""
        output = self.output(frozenset([word]))
        if not output or output in [path for path, _ in self.results]:
            return self
        return Source(self.name, ((output, self.outputs[output]),), {}, self.names, self.group)

    def _named(self, path: str) -> str:
        return f"${{{self.name}.{path}}}" if path else f"${{{self.name}}}"

    def _results_for(self, param: Param) -> tuple[tuple[str, str], ...]:
        """The results, first those whose property the parameter's own words name (``json``)."""
        if param.kind == "html":
            return self.results[:1]
        if param.kind == "text":
            return self.results
        return tuple(sorted(self.results, key=lambda found: (stem(found[0]) not in param.words, found[1] == "text")))


@dataclass
class Step:
    """A planned step; it gets its key when its place in the plan is known."""

    profile: Profile
    arguments: dict[str, Any]
    title: str
    key: str = ""
    path: str | None = None  # of what it is about, where the clause chose a part
    kind: str = ""  # of what it is about, where the arguments say more than the tool
    uses: frozenset[str] = frozenset()  # keys that its arguments refer to
    after: frozenset[str] = frozenset()  # keys that come first for another reason
    words: frozenset[str] = frozenset()
    literals: frozenset[tuple[str, Any]] = frozenset()  # (kind, value)
    group: int = 0
    known_as: Source | None = None

    def source(self) -> Source:
        """What can be said of it; made once, when the step has its key and its group."""
        if self.known_as is None or (self.known_as.name, self.known_as.group) != (self.key, self.group):
            self.known_as = self._source()
        return self.known_as

    def _source(self) -> Source:
        profile = self.profile
        results = profile.results if self.path is None else ((self.path, profile.outputs.get(self.path, "any")),)
        kinds = {kind for kind, _ in self.literals}
        names = self.words | {w for n in profile.outputs for w in stems(n)} | stems(profile.name.rpartition(".")[2])
        names |= {word for kind, value in self.literals if kind in ("url", "file") for word in stems(str(value))}
        names |= {stem(w) for w in ("page", "website", "site", "document", "response")} if "url" in kinds else set()
        names |= {stem(w) for w in ("file", "document")} if "file" in kinds else set()
        results = ((results[0][0], self.kind),) if self.kind else results
        own = frozenset().union(self.words, *(stems(str(value)) for _, value in self.literals))
        file = next((str(v) for k, v in self.literals if k == "file" and results[0][1] == "file"), "")
        is_html = any(str(value).lower().endswith((".html", ".htm")) for _, value in self.literals)
        is_web, is_page = "url" in kinds, is_html or bool(kinds and PAGES & self.words)
        paths = [urlsplit(str(value)).path for kind, value in self.literals if kind == "url"]
        open_ended = bool(paths) and not bool(JSON & own) and not any(map(_NO_PAGES.search, paths))
        return Source(
            self.key,
            results,
            profile.outputs,
            names,
            self.group,
            file,
            self.uses,
            is_web,
            is_page,
            is_json=bool(JSON & own),
            may_be_page=open_ended,
        )


def of_input(value: Any) -> list[Source]:
    """The run's input, as a whole and by its fields."""
    if value is None:
        return []
    named = frozenset([stem("input"), stem("given")])
    whole = Source("input", (("", _kind(value)),), {}, named)
    fields = value.items() if isinstance(value, dict) else ()
    return [
        whole,
        *(Source("input", ((name, _kind(part)),), {}, stems(name)) for name, part in fields if name.isidentifier()),
    ]


def _kind(value: Any) -> str:
    kinds = {str: "text", list: "list", dict: "object", bool: "scalar", int: "scalar", float: "scalar"}
    return kinds.get(type(value), "any")
