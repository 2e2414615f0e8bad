"""What the offline planner knows of a tool: read from its name, description, examples and schemas."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from agentsys.llm.offline.clauses import read
from agentsys.llm.offline.words import FUNCTION, NEUTRAL, likeness, stem, stems
from agentsys.llm.types import ToolDef

#: What a string parameter or output means, by a word of its name.
BY_NAME = {
    "html": "html",
    "url": "url",
    "uri": "url",
    "link": "url",
    "href": "url",
    "endpoint": "url",
    "file": "file",
    "filename": "file",
    "path": "file",
    "jmespath": "jmespath",
    "zone": "zone",
    "timezone": "zone",
    "until": "time",
    "code": "code",
    "script": "code",
    "formula": "expression",
    "expression": "expression",
    "text": "text",
    "content": "text",
    "message": "text",
    "pattern": "text",
}
#: The same by a word of its description, where it is telling enough.
BY_DESCRIPTION = {"jmespath": "jmespath", "file": "file", "url": "url", "iana": "zone", "iso": "time"}
#: How one asks for what a tool without a verb of its own ("The weather of a city.") has to say.
GETTERS = ("get", "find", "fetch", "check", "look", "determine")
_NO_NOUNS = frozenset(map(stem, FUNCTION))
_NO_VERBS = _NO_NOUNS | frozenset(map(stem, NEUTRAL))
MAIN = ("html", "text", "any", "array", "object")


@dataclass(frozen=True)
class Param:
    """One parameter: its ``kind`` says which literals and outputs fit."""

    name: str
    kind: str
    required: bool = True
    schema: Mapping[str, Any] = field(default_factory=dict)
    own: frozenset[str] = frozenset()  # stems of its name
    words: frozenset[str] = frozenset()  # those of its description too

    @property
    def is_text(self) -> bool:
        return self.kind in ("text", "html", "code", "jmespath", "any")

    def accepts(self, text: str) -> bool:
        """Whether the schema's pattern and lengths let the text through; the tool has the last word."""
        if not self.schema.get("minLength", 0) <= len(text) <= self.schema.get("maxLength", len(text)):
            return False
        try:
            return bool(re.search(self.schema.get("pattern", ""), text))
        except re.error:  # a pattern of another dialect
            return True

    @property
    def choices(self) -> Sequence[Any]:
        return self.schema.get("enum", ()) if self.kind == "enum" else ()


@dataclass(frozen=True)
class Profile:
    """A tool with its vocabulary."""

    tool: ToolDef
    params: tuple[Param, ...]
    outputs: Mapping[str, str]  # property -> kind
    kind: str  # of the whole output
    verbs: frozenset[str]
    nouns: Mapping[str, float]  # how much each says for the tool: 1, or 0.5 if only a description has it
    lead: str  # the verb of its first example

    @property
    def name(self) -> str:
        return self.tool.name

    @cached_property
    def called(self) -> frozenset[str]:
        """Stems of the last part of its name."""
        return stems(self.name.rpartition(".")[2])

    @cached_property
    def commands(self) -> frozenset[str]:
        """Stems of the verbs that call a careful tool: words of its name, and those that open its examples."""
        opened = (stem(word) for phrase in self.tool.examples for word in phrase.split()[:1])
        return self.called | (frozenset(opened) & self.verbs)

    def likeness(self, word: str, others: Collection[str]) -> float:
        """As ``words.likeness``; a careful tool has no synonyms."""
        fit = likeness(word, others)
        return fit if fit == 1 or not self.tool.careful else 0.0

    @cached_property
    def kinds(self) -> frozenset[str]:
        return frozenset(param.kind for param in self.params)

    @cached_property
    def values(self) -> frozenset[str]:
        """Stems of what can be chosen: values of enums and single outputs."""
        chosen = [str(value) for param in self.params for value in param.choices]
        return frozenset().union(*map(stems, [*chosen, *(() if self.tool.result_path else self.outputs)]))

    @cached_property
    def results(self) -> tuple[tuple[str, str], ...]:
        """(path, kind) of what "it" means; more than one when only one of them will be there."""
        path = self.tool.result_path
        if not path:
            return (("", self.kind),)
        return tuple((part, self.outputs.get(part, "any")) for part in map(str.strip, path.split("||")))


def profiles(tools: Sequence[ToolDef]) -> list[Profile]:
    return [_profile(tool) for tool in tools]


def weights(found: Sequence[Profile]) -> Mapping[str, float]:
    """How telling each noun is: 1 where one tool knows it, a half where two do."""
    counted = Counter(noun for profile in found for noun in profile.nouns)
    return {noun: 1 / count for noun, count in counted.items()}


def _profile(tool: ToolDef) -> Profile:
    required = tool.parameters.get("required", ())
    schemas = tool.parameters.get("properties", {})
    params = tuple(_param(name, _plain(schema), name in required) for name, schema in schemas.items())
    output = _plain(tool.output_schema or {})
    same = {p.name: p.kind for p in params if p.kind in ("file", "url")}
    outputs = {n: same.get(n) or _output_kind(n, _plain(s)) for n, s in output.get("properties", {}).items()}
    leads, nouns = _vocabulary(tool)
    chosen = [stems(str(value)) for param in params for value in param.choices]
    for weight, parts in ((1.0, [*chosen, *map(stems, outputs)]), (0.5, [p.own for p in params])):
        for word in frozenset().union(*parts) - _NO_NOUNS:
            nouns[word] = max(nouns.get(word, 0.0), weight)
    return Profile(
        tool=tool,
        params=tuple(sorted(params, key=lambda p: (not p.required, p.kind not in MAIN))),
        outputs=outputs,
        kind=_output_kind("", output),
        verbs=frozenset(map(stem, leads or GETTERS)),
        nouns=nouns,
        lead=leads[0] if leads else "",
    )


def _plain(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without "or null"."""
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    return {**schema, **options[0]} if options else schema


def _param(name: str, schema: Mapping[str, Any], required: bool) -> Param:
    own, words = stems(name), stems(f"{name} {schema.get('description', '')}")
    return Param(name, _param_kind(schema, own, words), required, schema, own, words)


def _param_kind(schema: Mapping[str, Any], own: frozenset[str], words: frozenset[str]) -> str:
    kind = schema.get("type", "any")
    if "enum" in schema:
        return "enum"
    if kind != "string":
        return {"integer": "number"}.get(kind, kind) if isinstance(kind, str) else "any"
    named = [meaning for word, meaning in BY_NAME.items() if stem(word) in own]
    told = [meaning for word, meaning in BY_DESCRIPTION.items() if stem(word) in words]
    if "jmespath" in told or schema.get("format") == "uri":
        return "jmespath" if "jmespath" in told else "url"
    return [*named, *told, "text"][0]


def _output_kind(name: str, schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "any")
    if kind == "string":
        return "url" if {stem("url"), stem("uri")} & stems(name) else "text"
    kinds = {"integer": "scalar", "number": "scalar", "boolean": "scalar", "array": "list", "object": "object"}
    if kind == "any" and any(option.get("type") == "array" for option in schema.get("anyOf", ())):
        return "list"
    return kinds.get(kind, "any") if isinstance(kind, str) else "any"


def _vocabulary(tool: ToolDef) -> tuple[list[str], dict[str, float]]:
    """The verbs that open its examples and its description, and every other word with its weight."""
    leads: list[str] = []
    nouns: dict[str, float] = {}
    first = re.split(r"\.\s", tool.description, maxsplit=1)[0]
    for phrase in (*tool.examples, first):
        words = [token.text for token in read(phrase) if token.kind == "word"]
        opens = bool(words) and stem(words[0]) not in _NO_VERBS
        leads += words[:1] if opens else []
        for word in (part for spoken in words[opens:] for part in stems(spoken)):
            nouns[word] = max(nouns.get(word, 0.0), 0.5 if phrase is first else 1.0)
    last = tool.name.rpartition(".")[2].lower().split("_")[0]
    leads += [last] if last and stem(last) not in nouns else []
    nouns |= dict.fromkeys(stems(tool.name), 1.0)
    return leads, {word: weight for word, weight in nouns.items() if word not in _NO_NOUNS}
