"""The work sheet of one attempt: a clause, a tool, what is left to say and what is filled in."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from agentsys.llm.offline.catalogue import MAIN, Param, Profile
from agentsys.llm.offline.clauses import Clause
from agentsys.llm.offline.lexer import Token
from agentsys.llm.offline.sources import Source, Step
from agentsys.llm.offline.words import FUNCTION, GENERIC, PLURALS, PRONOUNS, stem, stems

#: These always refer to something.
REFERRING = ("it", "them", "they", "its", "their")
#: These refer to something only where nothing follows that they belong to: "that", not "that page".
_LOOSE = ("this", "that", "all", "both", "each")


class Miss(Exception):
    """The clause does not fit the tool; ``score`` is how near it was."""

    def __init__(self, reason: str, score: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.score = reason, score


class Unknown(Miss):
    """The clause has words that the tool does not know."""


class Several(Miss):
    """The clause chooses several things where the tool takes one at a time."""

    def __init__(self, tokens: Sequence[Token], score: float = 0.0) -> None:
        super().__init__("it asks for several things at once", score)
        self.tokens = tokens


class Surroundings(Protocol):
    """What an attempt needs of the plan so far."""

    nouns: Mapping[str, float]  # stem -> how telling
    values: frozenset[str]  # stems of all that tools let one choose

    def sources(self, inserted: Iterable[Step]) -> list[Source]: ...
    def loaded(self, kind: str, value: Any, inserted: list[Step]) -> Source: ...
    def nested(self, body: tuple[Token, ...], by: Profile, inserted: list[Step]) -> Source: ...
    def readable(self, source: Source, inserted: list[Step], taken_as: Param) -> Source: ...


class Sheet:
    """``named``: the clause calls the tool by its full name.  ``nested``: the object of the clause is a clause of its
    own, as in "save | the links of <page>"."""

    def __init__(self, plan: Surroundings, profile: Profile, clause: Clause, *, named: bool, nested: bool) -> None:
        self.plan, self.profile, self.clause, self.named, self.nested = plan, profile, clause, named, nested
        self.left = [token for token in clause.body if token.text != profile.name.lower()]
        self.known: set[str] = set()  # stems that an argument has used up
        self.spoken: set[str] = set()  # stems that speak of an earlier output
        self.arguments: dict[str, Any] = {}
        self.taken: set[tuple[str, str]] = set()  # literals that are arguments as they are
        self.inserted: list[Step] = []
        self.bound: list[Source] = []
        self.path: str | None = None
        self.kind = ""
        self.referred = False  # whether a word that refers to something has found it
        self.spread = False  # whether it may be about each of several outputs
        self.chosen = False  # whether a word of the clause chose one of a parameter's values
        self.score = 0.0
        self._places = {token.start: place for place, token in enumerate(clause.body)}
        # "to HTML" says what it is to become, not what it is.
        becomes = ("to", "into", "as")
        self.said = {stem(t.text) for t in clause.body if t.kind == "word" and self.before(t) not in becomes}

    def miss(self, reason: str) -> Miss:
        return Miss(reason, self.score)

    def give(self, param: Param, value: Any) -> None:
        self.arguments[param.name] = value

    def use(self, *tokens: Token) -> None:
        self.left = [token for token in self.left if token not in tokens]

    def refer(self, *tokens: Token) -> None:
        """These words have found what they refer to."""
        self.use(*tokens)
        self.referred = True

    def unfilled(self) -> list[Param]:
        """Parameters without a value."""
        return [param for param in self.profile.params if param.name not in self.arguments]

    def before(self, token: Token) -> str:
        """The word or mark before it, "" at the beginning."""
        place = self._places[token.start]
        return self.clause.body[place - 1].text if place else ""

    def after(self, token: Token) -> list[str]:
        """The two tokens after it."""
        place = self._places[token.start]
        return [other.text for other in self.clause.body[place + 1 : place + 3]]

    def nouns(self) -> list[Token]:
        """The words that are left and mean something."""
        return [t for t in self.left if t.kind == "word" and t.text not in FUNCTION | PRONOUNS]

    def pronoun(self) -> Token | None:
        """The first word that refers to something by itself: "it", "the result"."""
        for token in self.left:
            generic = token.kind == "word" and stem(token.text) in GENERIC - self.profile.values
            refers = token.text in PRONOUNS and (token.text not in _LOOSE or token is self.left[-1])
            if generic or refers:
                return token
        return None

    def is_plural(self, token: Token) -> bool:
        if self.before(token) in ("every", "each"):
            return True
        return token.text in PLURALS or (token.text.endswith("s") and token.text not in ("its", "this"))

    def earlier(self) -> list[Source]:
        """Outputs before this clause, newest first."""
        return [source for source in self.plan.sources(self.inserted) if source.name != "input"]

    def is_object(self, literal: str) -> bool:
        """Whether the literal stands right after the verb."""
        return bool(self.clause.body) and self.clause.body[0].text == literal

    def appositions(self) -> set[str]:
        """``the file notes.txt``: stems of nouns that only introduce a literal."""
        body = self.clause.body
        return {stem(body[n - 1].text) for n, t in enumerate(body) if n and t.values and body[n - 1].kind == "word"}

    def near(self) -> float:
        """How much of the clause the tool knows."""
        words = {word for token in self.clause.body if token.kind == "word" for word in stems(token.text)}
        return sum(self.weight(word) for word in words & self.profile.nouns.keys())

    def weight(self, word: str) -> float:
        """More for a noun that few tools know, most for one that is the tool's name."""
        named = 1.0 if word in self.profile.called else 0.0
        return self.plan.nouns.get(word, 0.5) * self.profile.nouns.get(word, 0.5) + named

    @property
    def works_on_something(self) -> bool:
        return any(param.kind in MAIN and param.required for param in self.profile.params)
