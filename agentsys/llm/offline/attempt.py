"""One clause tried on one tool: its arguments filled from literals, words and earlier outputs, or a miss."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentsys.llm.offline.catalogue import MAIN, Param, Profile
from agentsys.llm.offline.clauses import LISTED, Clause
from agentsys.llm.offline.lexer import Token
from agentsys.llm.offline.sources import PAGES, Source, Step
from agentsys.llm.offline.words import (
    FUNCTION,
    GENERIC,
    PLURALS,
    PRONOUNS,
    SELECTIVE,
    STORING,
    TARGETS,
    UNITS,
    likeness,
    stem,
    stems,
)

#: Kinds of literal that a parameter of a kind takes.
NATIVE = {
    "url": ("url",),
    "file": ("file",),
    "time": ("time",),
    "zone": ("zone",),
    "expression": ("expression", "number"),
    "object": ("json",),
    "array": ("json",),
    "any": ("json",),
    "code": ("code",),
}
#: JMESPath of what a verb asks of a list or of a field; {} is the field, or @.
QUERIES = {"count": "length({})", "list": "type({0}) == 'object' && keys({0}) || {0}", "sort": "sort({})"}
WHOLE = frozenset("item element entry row record valu result object".split())
ABOUT_JSON = frozenset("json field key property attribut queri jmespath expression respons document".split())
PLACES = PAGES | frozenset(map(stem, "file document text report paper essay story note log".split()))
SUMS = {"add": "+", "plu": "+", "sum": "+", "multiply": "*", "subtract": "-", "minu": "-", "divid": "/"}
COST_OF_STEP, COST_OF_WORD, COST_OF_SKIP = 0.3, 0.6, 0.5


class Miss(Exception):
    """The clause does not fit the tool; ``score`` is how near it was."""

    def __init__(self, reason: str, score: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.score = reason, score


class Unknown(Miss):
    """The clause has words that the tool does not know."""


@dataclass
class Draft:
    """A clause that fits: the step, and those inserted before it."""

    step: Step
    inserted: list[Step]
    score: float
    bound: list[Source] = field(default_factory=list)


class Surroundings(Protocol):
    """What an attempt needs of the plan so far."""

    nouns: Mapping[str, float]  # stem -> how telling
    values: frozenset[str]  # stems of all that tools let one choose

    def sources(self, inserted: Iterable[Step]) -> list[Source]: ...
    def loaded(self, kind: str, value: Any, inserted: list[Step]) -> Source: ...
    def nested(self, body: tuple[Token, ...], by: Profile, inserted: list[Step]) -> Source: ...
    def readable(self, source: Source, inserted: list[Step]) -> Source: ...


class Attempt:
    """``named`` is true where the clause calls the tool by its full name; ``nested`` takes the object of the clause for
    a clause of its own: "save | the links of <page>"."""

    def __init__(
        self, plan: Surroundings, profile: Profile, clause: Clause, *, named: bool = False, nested: bool = False
    ) -> None:
        self.plan, self.profile, self.clause, self.named, self.nested = plan, profile, clause, named, nested
        self.left = [token for token in clause.body if token.text != profile.name.lower()]
        self._places_of = {token.start: place for place, token in enumerate(clause.body)}
        self.known: set[str] = set()  # stems that an argument has used up
        self.spoken: set[str] = set()  # stems that speak of an earlier output
        self.arguments: dict[str, Any] = {}
        self.taken: set[tuple[str, str]] = set()  # literals that are arguments as they are
        self.inserted: list[Step] = []
        self.bound: list[Source] = []
        self.path: str | None = None
        self.kind = ""
        self.score = 0.0

    def draft(self) -> Draft:
        """
        Raises:
            Miss: with the reason.
        """
        self.score = self._verb()
        try:
            self._fill()
        except Miss as miss:
            raise type(miss)(miss.reason, miss.score + self._near()) from None
        return Draft(self._step(), self.inserted, self.score, self.bound)

    def _fill(self) -> None:
        self._literals()
        self._choices()
        self._quotes()
        self._mains()
        self._composed()
        self._places()
        self._leftovers()
        self._required()

    # --- The verb ---------------------------------------------------------------------
    def _verb(self) -> float:
        verb, profile = self.clause.verb, self.profile
        if self.named:
            return 2.0
        near = self._near()
        if not verb and not near and not self._is_native() and "jmespath" not in self._kinds():
            raise Miss("no tool answers this", -1.0)
        if not verb:
            return 0.5
        fit = likeness(verb, profile.verbs)
        if not fit and verb == "count" and profile.outputs.get("count") == "scalar":
            fit, self.path = 0.6, "count"
        if not fit and verb in QUERIES | SUMS and self._kinds() & {"jmespath", "expression"}:
            fit = 0.6
        if not fit:
            raise Miss(f'no tool knows how to "{self.clause.word}"', -1.0)
        return 2 * fit

    def _near(self) -> float:
        """How much of the clause the tool knows; tells which miss is worth reporting."""
        words = {word for token in self.clause.body if token.kind == "word" for word in stems(token.text)}
        return sum(self._weight(word) for word in words & self.profile.nouns.keys())

    def _kinds(self) -> set[str]:
        return {param.kind for param in self.profile.params}

    # --- Literals ---------------------------------------------------------------------
    def _literals(self) -> None:
        for param in self.profile.params:
            if param.kind == "number":
                self._number(param)
            elif param.kind == "array" and (several := [t for t in self.left if t.kind in LISTED]):
                self._set(param, [self._literal(token, param) for token in several])
                self.left = [token for token in self.left if token not in several]
            elif pool := [token for token in self.left if self._is_for(token, param)]:
                if token := self._choose(pool, param):
                    self._set(param, self._literal(token, param))
                    self._use(token)
                    self.taken.add((token.kind, str(token.values[0])))
                    self.score += 0.5

    def _is_for(self, token: Token, param: Param) -> bool:
        """An address goes to an optional parameter only by name where the tool works on something else."""
        if token.kind not in NATIVE.get(param.kind, ()):
            return False
        works_on = any(p.kind in MAIN and p.required for p in self.profile.params)
        by_name = {stem(word) for word in self._before(token)[-1:]} & param.own
        return param.required or bool(by_name) or not (works_on and param.kind in ("url", "file"))

    def _choose(self, pool: list[Token], param: Param) -> Token | None:
        """With several addresses or files, the one that the sentence aims at: "a.txt to b.txt"."""
        if param.kind == "expression" and (self.clause.verb in SUMS or len(pool) > 1):
            return None
        if param.kind not in ("url", "file") or len(pool) == 1:
            return pool[0]
        aimed = [token for token in pool if self._before(token)[-1:] and self._before(token)[-1] in TARGETS]
        gives = any(p.kind in ("text", "any") for p in self.profile.params)
        return (aimed or pool)[-1] if gives else pool[0]

    def _number(self, param: Param) -> None:
        for token in [token for token in self.left if token.kind == "number"]:
            words = [stem(word) for word in (*self._after(token)[:2], *self._before(token)[-1:])]
            unit = next((UNITS[word] for word in words[:1] if word in UNITS and word not in param.own), None)
            timed = {"second", "sec", "s"} & param.own
            cued = bool(param.words - _COMMON & set(words)) or any(word in self.profile.nouns for word in words)
            if (unit is not None and not timed) or not (unit or cued or param.required):
                continue
            value = token.values[0] * (unit or 1) if timed else token.values[0]
            if param.schema.get("type") == "integer" and value != int(value):
                raise Miss(f'"{token.text}" must be a whole number', self.score)
            self._set(param, int(value) if value == int(value) else value)
            self._use(token)
            self.known |= param.own | {*words[:1], *words[-1:]} & ({"first", "top", "most"} | UNITS.keys())
            self.score += 0.5
            return

    def _literal(self, token: Token, param: Param) -> Any:
        if len(token.values) > 1:
            raise Miss(f"{self.profile.name} takes one of them at a time", self.score)
        value = token.values[0]
        return escape(str(value)) if token.kind != "json" else _escaped(value)

    def _choices(self) -> None:
        """Enums and flags, by their words."""
        words = [stem(token.text) for token in self.left if token.kind == "word"]
        for param in self.profile.params:
            if param.kind == "enum":
                free = [word for word in words if word not in self.known]
                fits = [(likeness(word, stems(str(v))), -n, v) for n, word in enumerate(free) for v in param.schema["enum"]]
                fit, place, value = max(fits, default=(0.0, 0, ""), key=lambda found: found[:2])
                if fit:
                    self._set(param, value)
                    self.known.add(free[-place])
                    self.score += fit / 2
            elif param.kind == "boolean" and param.own and param.own <= set(words):
                self._set(param, True)
                self.known |= param.own

    def _quotes(self) -> None:
        """Quoted text: to the parameter whose words precede it, else the main one, else the next."""
        for token in [token for token in self.left if token.kind in ("quote", "code", "email")]:
            free = [p for p in self.profile.params if p.name not in self.arguments]
            texts = [p for p in free if p.is_text] or [p for p in free if p.kind in NATIVE and p.kind not in MAIN]
            before = {stem(word) for word in self._before(token)[-1:]}
            cued = [p for p in texts if before & p.own] or [p for p in texts if before & (p.words - self._plain())]
            special = [p for p in texts if p.kind in ("code", "jmespath")]
            others = [p for p in texts if p.kind not in MAIN or not p.required]
            choice = cued or special or (others if self._has_main(token) else []) or texts
            if choice:
                self._set(choice[0], self._literal(token, choice[0]))
                self._use(token)
                self.known |= choice[0].own & before
                self._imply(choice[0])

    def _plain(self) -> set[str]:
        """Words too common in a tool's own texts to point at one parameter."""
        return _COMMON | {stem("text"), stem("file"), stem("data")}

    def _has_main(self, quote: Token) -> bool:
        """Whether something other than this quote can be what the tool works on."""
        others = [t for t in self.left if t is not quote]
        if any(t.kind in ("url", "file") or t.text in PRONOUNS - {"that", "this"} for t in others):
            return True
        words = {stem(t.text) for t in others if t.kind == "word"}
        return any(words & source.names for source in self.plan.sources(self.inserted)) and bool(self._refers())

    def _refers(self) -> list[Token]:
        """Words that speak of something by a definite article: "the text"."""
        texts = [token.text for token in self.left]
        return [t for n, t in enumerate(self.left) if t.kind == "word" and n and texts[n - 1] in ("the", "that")]

    def _imply(self, param: Param) -> None:
        """``separator`` is "only for by=separator": the value that a filled parameter's description names."""
        for other in self.profile.params:
            if other.kind == "enum" and other.name not in self.arguments:
                named = [v for v in other.schema["enum"] if stem(str(v)) in param.words]
                self._set(other, named[0]) if named else None

    # --- Earlier outputs --------------------------------------------------------------
    def _mains(self) -> None:
        """What the tool works on: literals to be read first, references, or what was last spoken of."""
        for param in self.profile.params:
            if param.kind not in (*MAIN, "file", "url", "number"):
                continue
            if param.name in self.arguments or not (param.required or self._wants(param)):
                continue
            source = None if self._several(param) else self._find(param)
            if source is None:
                continue
            if param.kind == "text" and self._is_page(source):
                source = self.plan.readable(source, self.inserted)
            if not (value := self._value(source, param)):
                raise Miss(f"{self.profile.name} does not take what {source.name} gives", self.score)
            self._set(param, value)
            self.bound.append(source)
            self._base(source)

    def _several(self, param: Param) -> bool:
        """"them" as one list: the outputs of all the steps that one clause made."""
        token = self._pronoun()
        if param.kind != "array" or token is None or token.text not in PLURALS:
            return False
        text = Param("", "text", True, {}, frozenset(), frozenset())
        sources = self.plan.sources(self.inserted)
        group = next((source.group for source in sources if source.group), 0)
        members = [source for source in reversed(sources) if group and source.group == group]
        if members:
            self._set(param, [source.value(text) or source.reference() for source in members])
            self.bound += members
            self._use(token)
        return bool(members)

    def _is_page(self, source: Source) -> bool:
        said = {stem(token.text) for token in self.clause.body if token.kind == "word"}
        return self.clause.verb not in STORING and (source.is_page or (source.is_web and bool(PAGES & said)))

    def _wants(self, param: Param) -> bool:
        """An optional parameter is filled only by what is spoken of."""
        literal = any(t.kind in ("url", "file") for t in self.left)
        return param.kind in ("text", "any") and (literal or self.nested or bool(self._pronoun() or self._named()))

    def _find(self, param: Param) -> Source | None:
        if self.nested and not self.bound and param.kind in MAIN:
            return self._nested()
        locators = [t for t in self.left if t.kind in ("url", "file")]
        if locators and param.kind in MAIN and (self.clause.word or not self.clause.verb):
            self._use(locators[0])
            if len(locators[0].values) > 1:
                raise Miss("one at a time", self.score)
            return self.plan.loaded(locators[0].kind, locators[0].values[0], self.inserted)
        return self._named_source(param) or self._pronoun_source(param) or self._implicit(param)

    def _nested(self) -> Source:
        body = tuple(t for t in self.left if t.text not in (":", ","))
        self.left = []
        return self.plan.nested(body, self.profile, self.inserted)

    def _named(self) -> list[tuple[Source, Token]]:
        """Sources that a noun of the clause speaks of, newest first; a tool's own choices are no such nouns."""
        nouns = [t for t in self.left if t.kind == "word" and t.text not in FUNCTION | PRONOUNS]
        nouns = [t for t in nouns if stem(t.text) not in self.profile.values | self.known]
        sources = self.plan.sources(self.inserted)
        return [(s, t) for s in sources for t in nouns if stem(t.text) in s.names and s not in self.bound]

    def _named_source(self, param: Param) -> Source | None:
        for source, token in self._named():
            source = self._part(source, token)
            if self._value(source, param):
                self.spoken |= {stem(t.text) for s, t in self._named() if s.name == source.name}
                return source
            if source.is_many and stem(token.text) not in self.profile.nouns:
                raise Miss(f'"{token.text}" is a list or an object, and {self.profile.name} takes text', self.score)
        return None

    def _part(self, source: Source, token: Token) -> Source:
        """The property that a noun names, if the noun is not just a word for the whole."""
        output = source.output(frozenset([stem(token.text)]))
        if not output or output in [path for path, _ in source.results]:
            return source
        return Source(source.name, ((output, source.outputs[output]),), {}, source.names, source.group)

    def _pronoun(self) -> Token | None:
        for token in self.left:
            if token.kind == "word" and (token.text in PRONOUNS or stem(token.text) in GENERIC - self.profile.values):
                if token.text not in ("this", "that", "all", "both", "each") or token is self.left[-1]:
                    return token
        return None

    def _pronoun_source(self, param: Param) -> Source | None:
        """The newest output that fits; "them" are several or a list."""
        if not (token := self._pronoun()):
            return None
        plural = token.text in PLURALS
        rest = self._open(param) if plural else 1  # "compare them": one for each parameter, the oldest first
        earlier = [s for s in self.plan.sources(self.inserted) if s.name != "input"]
        fitting = [s for s in earlier if s not in self.bound and self._value(s, param)]
        if plural and rest == 1 and not self.bound:
            fitting = [s for s in fitting if s.is_many or s.group or s.results[0][1] == "any"]
        if fitting[rest - 1 :]:
            source = fitting[rest - 1]
            self.score -= COST_OF_SKIP * min(earlier.index(fitting[0]), 3)
            if rest == 1:
                self._use(token)
            return source
        if file := next((s.file for s in earlier if s.file and param.kind in MAIN), ""):
            self._use(token)
            return self.plan.loaded("file", file, self.inserted)
        raise Miss(f'nothing before it gives what "{token.text}" should be for {self.profile.name}', self.score)

    def _open(self, param: Param) -> int:
        """How many required parameters of its kind still have no value."""
        alike = [p for p in self.profile.params if p.required and p.kind == param.kind]
        return sum(p.name not in self.arguments for p in alike)

    def _implicit(self, param: Param) -> Source | None:
        """Nothing is said: the newest output that fits, else an input of the one fitting kind."""
        if param.kind not in MAIN or not param.required or self.bound:
            return None
        earlier = [s for s in self.plan.sources(self.inserted) if s.name != "input"]
        for source in earlier:
            if self._value(source, param):
                return source
        if file := next((s.file for s in earlier if s.file), ""):
            return self.plan.loaded("file", file, self.inserted)
        given = [s for s in self.plan.sources(()) if s.name == "input" and self._value(s, param)]
        return given[0] if len(given) == 1 else None

    def _value(self, source: Source, param: Param) -> str:
        structured = source.is_json or any(kind in ("list", "object", "any") for _, kind in source.results)
        if "jmespath" in self._kinds() and (source.is_page or not structured):
            return ""
        said = {stem(token.text) for token in self.clause.body if token.kind == "word"}
        if param.kind == "html" and not (source.is_web or source.is_page or PAGES & said):
            return ""
        return source.value(param, loosely=self.clause.verb in STORING)

    def _base(self, source: Source) -> None:
        """The page's own address, where a tool asks for it and the page has one."""
        for param in self.profile.params:
            if param.kind == "url" and stem("base") in param.own and source.outputs.get("url") == "url":
                self.arguments.setdefault(param.name, f"${{{source.name}.url}}")

    # --- Composed arguments -------------------------------------------------------------
    def _composed(self) -> None:
        for param in self.profile.params:
            if param.name not in self.arguments and param.kind == "expression":
                self._sum(param)
            elif param.name not in self.arguments and param.kind == "jmespath" and self.bound:
                self._query(param)

    def _sum(self, param: Param) -> None:
        """"add 3 and 4", "multiply it by 5": operands in their order, joined by the verb's sign."""
        sign = SUMS.get(self.clause.verb)
        tokens = [t for t in self.left if t.kind in ("number", "expression") or t is self._pronoun()]
        if not sign or len(tokens) < 2:
            return
        if any("from" in self._before(t)[-1:] for t in tokens):
            tokens.reverse()
        self._set(param, f" {sign} ".join(self._operand(token) for token in tokens))
        for token in tokens:
            self._use(token)

    def _operand(self, token: Token) -> str:
        if token.values:
            return token.text if token.kind == "number" else f"({token.text})"
        number = Param("", "number", True, {}, frozenset(), frozenset())
        for source in self.plan.sources(self.inserted):
            if value := source.value(number):
                self.bound.append(source)
                return value
        raise Miss(f'nothing before it gives a number for "{token.text}"', self.score)

    def _query(self, param: Param) -> None:
        """"count them", "list its paths": a field is one word, owned by what came before."""
        verb, fields = self.clause.verb, self._fields()
        if self._slice(param):
            return
        if len(fields) > 1 or (not fields and verb not in QUERIES):
            return
        self._set(param, QUERIES.get(verb, "{}").format(fields[0].raw if fields else "@"))
        self.known |= {stem(t.text) for t in fields} or WHOLE
        self.kind = {"count": "scalar", "list": "list", "sort": "list"}.get(verb, "")
        self.score += 0.5 if fields and stem(fields[0].text) not in self.plan.values else 0.0

    def _slice(self, param: Param) -> bool:
        """"the first 3", "the last 5 links"."""
        for token in self.left:
            ends = {"first": "[:{}]", "top": "[:{}]", "last": "[-{}:]"}.get((self._before(token) or [""])[-1])
            if token.kind == "number" and ends:
                self._set(param, ends.format(token.text))
                self._use(token)
                self.known |= {"first", "top", "last"} | WHOLE
                self.kind = "list"
                return True
        return False

    def _fields(self) -> list[Token]:
        nouns = [t for t in self.left if t.kind == "word" and t.text not in FUNCTION | PRONOUNS]
        fields = [t for t in nouns if stem(t.text) not in self.known | WHOLE | ABOUT_JSON]
        is_json = any(source.is_json for source in self.bound)
        owned = is_json or any(self._before(t)[-1:] in (["its"], ["their"]) or "." in t.text for t in fields)
        return fields if owned else []

    # --- What must hold -----------------------------------------------------------------
    def _places(self) -> None:
        """Every literal and every pronoun has a place."""
        for token in self.left:
            if token.values:
                raise Miss(f"{self.profile.name} has no place for {token.text[:80]}", self.score)
            if token.text in ("it", "them", "they", "its", "their") and not self.bound:
                raise Miss(f'"{token.text}" does not speak of anything before it', self.score)

    def _required(self) -> None:
        for param in self.profile.params:
            if param.required and param.name not in self.arguments:
                raise Miss(f'{self.profile.name} needs its argument "{param.name}"', self.score)

    def _leftovers(self) -> None:
        """Words that the tool does not know: a description of what is fetched, else a reason to refuse."""
        unknown: list[Token] = []
        hits, exact = 0.0, False
        known, spoken = self.known | GENERIC, self._place_words() | self.spoken
        nouns = self.profile.nouns.keys()
        for token in self.left:
            word = stem(token.text)
            if token.kind != "word" or token.text in FUNCTION or word in known:
                continue
            fit = likeness(word, nouns)
            hits += self._weight(word) if fit == 1 else fit / 2
            exact |= fit == 1
            if not fit and word not in spoken and word not in self.profile.verbs:
                unknown.append(token)
        if unknown and not self._describes(unknown):
            words = ", ".join(f'"{token.text[:40]}"' for token in unknown[:3])
            asked = f'nothing that can "{self.clause.word}"' if self.clause.word else "no tool that fits"
            raise Unknown(f"{asked} knows {words}", self.score - 0.5 * len(unknown))
        said = self.named or self.clause.verb in stems(self.profile.name.rpartition(".")[2])
        if not (hits or self.arguments or said):
            raise Miss("it does not say what", self.score - 1)
        if self.path == "count" and not exact:
            raise Miss("nothing to count", self.score)
        self.score += hits - COST_OF_WORD * len(unknown) - COST_OF_STEP * len(self.inserted)

    def _weight(self, word: str) -> float:
        """More for a noun that few tools know, most for one that is the tool's name."""
        named = 0.5 * (word in stems(self.profile.name.rpartition(".")[2]))
        return self.plan.nouns.get(word, 0.5) * self.profile.nouns.get(word, 0.5) + named

    def _place_words(self) -> frozenset[str]:
        """What a file or an address may be called where one is given: by its kind, or by its own name."""
        works_on = any(p.kind in MAIN and p.required for p in self.profile.params)
        targets = {value for value in self.arguments.values() if isinstance(value, str)} if works_on else set()
        places = [t for t in self.clause.body if t.kind in ("url", "file") and t.text not in targets]
        own = (word for token in places for value in token.values for word in stems(str(value)))
        named = (stem(token.text) for token in self._appositions() if token.text in ("url", "link", "address"))
        return PLACES.union(own, named) if places else frozenset()

    def _is_native(self) -> bool:
        return any(t.kind not in (*LISTED, "word", "mark", "number") for t in self.clause.body)

    def _describes(self, unknown: list[Token]) -> bool:
        """``the product catalogue from <address>``: it names what is there and chooses nothing."""
        places = [t.start for t in self.clause.body if t.kind in ("url", "file") and t not in self.left]
        open_ended = any(p.kind in MAIN and (p.required or p.kind != "object") for p in self.profile.params)
        if open_ended or not places or self.clause.verb not in self.profile.verbs:
            return False
        return all(t.start < places[0] and stem(t.text) not in SELECTIVE for t in unknown)

    # --- The step -----------------------------------------------------------------------
    def _step(self) -> Step:
        words = {stem(t.text) for t in self.clause.body if t.kind == "word" and t.text not in FUNCTION}
        title = self.clause.text[:200]
        path = self.path if self.path is not None else self._output_path(words)
        uses = frozenset(source.name for source in self.bound)
        return Step(
            "", self.profile, self.arguments, title, path, self.kind, uses,
            words=frozenset(words), literals=frozenset(self.taken),
        )

    def _output_path(self, words: set[str]) -> str | None:
        """The one output that the clause names: "count the words" is about ``words``."""
        words = words - self.known - {stem(t.text) for t in self._appositions()}
        filled = [p.own for p in self.profile.params if p.name in self.arguments and not p.required]
        for name in self.profile.outputs:
            if any(own < stems(name) for own in filled):
                return name
        named = [name for name in self.profile.outputs if stems(name) <= words]
        named = [name for name in named if not any(stems(name) < stems(other) for other in named)]
        return named[0] if len(named) == 1 else None

    def _appositions(self) -> list[Token]:
        """``the file notes.txt``: nouns that only introduce a literal."""
        body = self.clause.body
        return [a for a, b in zip(body, body[1:], strict=False) if a.kind == "word" and b.values]

    # --- Tokens -------------------------------------------------------------------------
    def _before(self, token: Token) -> list[str]:
        """The two tokens before it."""
        at = self._places_of[token.start]
        return [t.text for t in self.clause.body[max(at - 2, 0) : at]]

    def _after(self, token: Token) -> list[str]:
        at = self._places_of[token.start]
        return [t.text for t in self.clause.body[at + 1 : at + 3]]

    def _use(self, token: Token) -> None:
        self.left = [other for other in self.left if other is not token]

    def _set(self, param: Param, value: Any) -> None:
        self.arguments[param.name] = value


_COMMON = frozenset(map(stem, FUNCTION))


def escape(text: str) -> str:
    """Text that a plan takes literally: what the user wrote is never a reference."""
    return text.replace("${", "$${")


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, list):
        return [_escaped(part) for part in value]
    return {key: _escaped(part) for key, part in value.items()} if isinstance(value, dict) else value
