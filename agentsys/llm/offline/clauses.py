"""A goal split into clauses, and a clause taken apart: the one grammar of the offline planner.

goal    = clause { ("." | ";" | newline | "then" | ("," | "and") before a verb) clause }
clause  = [leading words] [verb] object…         "Then please count | the words in notes.txt"
object  = words and literals; without a verb of its own it takes the last one's
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from agentsys.llm.offline import sums
from agentsys.llm.offline.lexer import Token, tokens
from agentsys.llm.offline.words import (
    DETERMINERS,
    FUNCTION,
    GENERIC,
    KNOWN_VERBS,
    LEADS,
    NEUTRAL,
    ORDERED,
    POLITE,
    PREPOSITIONS,
    PRONOUNS,
    stem,
    stemmed,
)

LISTED = ("url", "file", "quote")
_ORDINALS = frozenset(["first", "second", "third", "last", "next"])
_READ = stemmed("file document page address url say")  #: words for what is read, and for what it says
_JOINTS = (",", "and", "&", "but")
_ENDS = (".", "!", "?", ";")
_OPENERS = frozenset(["how", "if", "unless", "don't", "not", "never", "do"]) | NEUTRAL


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing to do: ``verb`` is a stem, "" where any tool that knows the object will do.

    ``counts`` is true of "how many …"; ``ordered`` of what was said to come after what precedes it;
    ``joint`` is the word or mark that joined it.
    """

    text: str
    verb: str
    word: str  # the verb as written
    body: tuple[Token, ...]
    counts: bool = False
    ordered: bool = False
    joint: str = ""


def read(text: str, *, files: Collection[str] = ()) -> list[Token]:
    """The tokens of a text; sums, and lists of like literals, are one token each."""
    return list(_with_lists(sums.fold(list(tokens(text, files)))))


def clauses(
    text: str, *, verbs: Collection[str], nouns: Collection[str] = (), files: Collection[str] = ()
) -> list[Clause]:
    """What a goal asks for, one by one.

    Args:
        verbs: Stems of the words that open a clause because a tool knows them.
        nouns: Stems of the other words that tools know.
        files: Names of the run's files: literals wherever they stand.
    """
    return _Splitter(text, read(text, files=files), verbs, nouns).clauses()


def clause(body: Sequence[Token], text: str, *, ordered: bool = False, joint: str = "") -> Clause:
    """Find the verb: the first word that neither leads up to it nor asks for an answer only."""
    words = [token.text if token.kind in ("word", "mark") else "" for token in body]
    at, neutral = 0, False
    while at < len(words):
        if words[at] in NEUTRAL or words[at : at + 2] == ["find", "out"]:
            neutral = True
            at += 2 if words[at] == "find" else 1
        elif _leads_up(words, at):
            at += 1
        else:
            break
    counting = _counting(words, at)
    if counting:
        # "how many there are" speaks of what came before.
        bare = all(word in FUNCTION for word in words[counting:])
        them = (Token("word", "them", body[-1].end, body[-1].end),) if bare else ()
        return Clause(text, "count", "count", (*body[counting:], *them), True, ordered, joint)
    rest = tuple(body[at:])
    if neutral or not words[at:] or not words[at] or words[at] in FUNCTION:
        meant = (t for n, t in enumerate(rest, at) if not (words[n] == "it" and "is" in words[n - 1 : n + 2]))
        return Clause(text, "", "", tuple(meant), False, ordered, joint)
    return Clause(text, stem(words[at]), words[at], rest[1:], False, ordered, joint)


def as_reading(said: Clause) -> Clause:
    """ "show me a.txt", "what is in <address>": to answer with it is to read it."""
    words = [token for token in said.body if token.kind == "word" and token.text not in FUNCTION]
    places = [token for token in said.body if token.kind in ("url", "file")]
    if said.verb or not places or any(stem(token.text) not in GENERIC | _READ for token in words):
        return said
    return replace(said, verb="read", word="read", body=tuple(places))


def _leads_up(words: list[str], at: int) -> bool:
    word, following = words[at], words[at + 1 : at + 2]
    if word in ("the", "these", "those"):
        return bool(following) and following[0] in LEADS - _ORDINALS
    adverb = word.endswith("ly") and len(word) > 4 and stem(word) not in KNOWN_VERBS
    return word in LEADS or word in (":", "-") or adverb


def _counting(words: list[str], at: int) -> int:
    """Where the object begins of "[find] how many …" or "[get] the number of …"; 0 if it is neither."""
    for start in range(max(at - 1, 0), min(at + 3, len(words))):
        if words[start : start + 3] == ["how", "many", "times"]:
            return start + 3
        if words[start] == "how" and words[start + 1 : start + 2] in (["many"], ["often"]):
            return start + 2
        if words[start] in ("number", "amount") and words[start + 1 : start + 2] == ["of"]:
            return start + 2
    return 0


def _with_lists(found: Sequence[Token]) -> Iterator[Token]:
    """``a.txt, b.txt and c.txt`` as one literal with three values."""
    at = 0
    while at < len(found):
        token, end = found[at], at + 1
        while (
            token.kind in (*LISTED, "expression")
            and (following := _after_joint(found, end))
            and (found[following].kind == token.kind)
        ):
            last = found[following]
            token = replace(token, values=token.values + last.values, end=last.end)
            end = following + 1
        yield token
        at = end


def _after_joint(found: Sequence[Token], at: int) -> int:
    """Where the next token is after "," or "and" or both, and "the"; 0 without them or at the end."""
    end = at
    while end < min(len(found), at + 2) and found[end].text in (",", "and", "&"):
        end += 1
    if at < end < len(found) - 1 and found[end].text == "the":
        end += 1
    return end if at < end < len(found) else 0


class _Splitter:
    def __init__(self, text: str, found: list[Token], verbs: Collection[str], nouns: Collection[str]) -> None:
        self.text, self.tokens, self.verbs, self.nouns = text, found, verbs, nouns
        self.done: list[Clause] = []
        self.now: list[Token] = []
        self.opening: list[Token] = []  # "In notes.txt," before its clause
        self.borrowed: Token | None = None  # the verb of a clause that has none of its own
        self.bodies: list[Token] = []  # of the clause before
        self.ordered, self.joint, self.has_listed = False, "", False

    def clauses(self) -> list[Clause]:
        at = 0
        while at < len(self.tokens):
            token, width = self.tokens[at], self._order(at)
            if width:
                self._end("then")
                self.ordered = True
            elif token.kind == "break" or (token.kind == "mark" and token.text in _ENDS):
                self._end(".")
            elif token.kind in ("word", "mark") and token.text in _JOINTS:
                self._join(at)
            else:
                self.now.append(token)
                self.has_listed |= token.kind in LISTED
            at += width or 1
        self._end(".")
        return self.done

    def _order(self, at: int) -> int:
        """How many tokens say here that the next clause comes after this one; 0 for none."""
        if self.tokens[at].kind != "word":
            return 0
        word, following = self.tokens[at].text, self.tokens[at + 1 : at + 2]
        if word == "after" and following and following[0].text in ("that", "this", "which"):
            return 2
        return 1 if word == "then" or (word in ORDERED and not self.now) else 0

    def _join(self, at: int) -> None:
        joint = self.tokens[at]
        if not self.now:
            return
        if self._starts_clause(at + 1):
            if joint.text == "," and self.now[0].text in PREPOSITIONS and not self.opening:
                self.opening, self.now = self.now, []
            else:
                self._end(joint.text)
        elif self._is_elliptical(at + 1):
            verb = self.borrowed or self.now[0]
            self._end(joint.text)
            self.borrowed = verb
        else:
            self.now.append(joint)

    def _starts_clause(self, at: int) -> bool:
        """Whether the tokens from here on open with a verb."""
        for ahead in range(at, min(at + 12, len(self.tokens))):
            token = self.tokens[ahead]
            if token.text in ("then", "please", "finally", "afterwards"):
                return True
            if token.kind not in ("word", "mark") or (token.text not in LEADS and token.text not in _JOINTS):
                return self._is_verb(ahead)
        return False

    def _is_verb(self, at: int) -> bool:
        token, following = self.tokens[at], self.tokens[at + 1 : at + 2]
        if token.kind != "word":
            return False
        if token.text in _OPENERS:
            return True
        if token.text in FUNCTION or token.text in PREPOSITIONS:
            return False
        if stem(token.text) in self.verbs or stem(token.text) in KNOWN_VERBS:
            return True
        if stem(token.text) in self.nouns:
            return False
        # An unknown word before an object is a verb that no tool has: a clause to refuse, not a noun to skip.
        return bool(following) and (following[0].text in DETERMINERS | PRONOUNS or bool(following[0].values))

    def _is_elliptical(self, at: int) -> bool:
        """``…the words in a.txt and the lines in b.txt``: a second object for the same verb."""
        if not (self.borrowed or self.now[0].kind == "word"):
            return False
        if not self.has_listed or self._is_labelled(at):
            return False
        for token in self.tokens[at:]:
            if token.kind in LISTED:
                return True
            if token.kind == "break" or token.text in (*_JOINTS, *_ENDS, "then"):
                break
        return False

    def _is_labelled(self, at: int) -> bool:
        """``…titled 'A' and body 'B'``: another argument of the same call."""
        found = [token for token in self.tokens[at : at + 3] if token.text not in DETERMINERS | PREPOSITIONS][:2]
        kinds = [token.kind for token in found]
        return kinds == ["word", "quote"] and stem(found[0].text) in self.nouns

    def _end(self, joint: str) -> None:
        if any(token.values or (token.kind == "word" and token.text not in POLITE) for token in self.now):
            body = self._borrowing()
            text = self.text[(self.opening or self.now)[0].start : self.now[-1].end]
            text = f"{body[0].text} {text}" if body[0] is not self.now[0] and body[0].kind == "word" else text
            self.done.append(clause((*body, *self.opening), text, ordered=self.ordered, joint=self.joint))
            self.bodies = body
            self.ordered, self.opening = False, []
            self.joint = joint
        self.now, self.borrowed, self.has_listed = [], None, False

    def _borrowing(self) -> list[Token]:
        """The tokens of a clause, with what it leaves out taken from the one before: its verb, or ("then in b.txt")
        all but the place."""
        places = [token for token in self.now if token.kind in LISTED]
        bare = all(token.kind in LISTED or token.text in PREPOSITIONS for token in self.now)
        before = [token for token in self.bodies if token.kind in LISTED]
        if places and before and bare and (self.borrowed or self.now[0].text in PREPOSITIONS):
            return [places[0] if token is before[-1] else token for token in self.bodies]
        return [*([self.borrowed] if self.borrowed else []), *self.now]
