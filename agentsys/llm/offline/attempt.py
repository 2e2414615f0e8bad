"""One clause tried on one tool: a step whose arguments are all there, or a miss."""

from dataclasses import dataclass

from agentsys.llm.offline import binding, composed, literals
from agentsys.llm.offline.catalogue import MAIN, Profile
from agentsys.llm.offline.clauses import LISTED, Clause
from agentsys.llm.offline.lexer import Token
from agentsys.llm.offline.sheet import REFERRING, Miss, Sheet, Surroundings, Unknown
from agentsys.llm.offline.sources import PAGES, Step
from agentsys.llm.offline.words import (
    FUNCTION,
    GENERIC,
    NEUTRAL,
    SELECTIVE,
    SIGNS,
    STORING,
    likeness,
    stem,
    stemmed,
    stems,
)

EXACT, SYNONYM, NONE = 2.0, 1.2, 0.5  #: what a verb is worth
COST_OF_STEP, COST_OF_WORD = 0.3, 0.6
_PLACES = PAGES | stemmed("file document text report paper essay story note log")
_FILLERS = stemmed("request call")
_ADDRESSES = stemmed("url link address")
_CALLS = stemmed("call run use execute apply invoke")


@dataclass
class Draft:
    """A clause that fits: the step, and those inserted before it."""

    step: Step
    inserted: list[Step]
    score: float
    group: int  # of the outputs that it may be about in turn; 0 if it is about one


def draft(plan: Surroundings, profile: Profile, clause: Clause, *, named: bool = False, nested: bool = False) -> Draft:
    """
    Args:
        named, nested: See ``Sheet``.

    Raises:
        Miss: with the reason.
    """
    sheet = Sheet(plan, profile, clause, named=named, nested=nested)
    sheet.score = _verb(sheet)
    try:
        literals.fill(sheet)
        binding.bind(sheet)
        composed.fill(sheet)
        _check_places(sheet)
        _check_words(sheet)
        _check_required(sheet)
    except Miss as miss:
        near = sheet.near()
        if not near and not clause.verb:
            raise Miss("no tool answers this", -1.0) from None
        miss.score += near
        raise
    groups = [source.group for source in sheet.bound if source.group]
    group = groups[0] if sheet.spread and len(groups) == 1 else 0
    return Draft(_step(sheet), sheet.inserted, sheet.score, group)


def _verb(sheet: Sheet) -> float:
    """
    Raises:
        Miss: the tool does nothing of the kind.
    """
    verb, profile = sheet.clause.verb, sheet.profile
    if profile.tool.careful:
        return _command(sheet)
    if sheet.named:
        return EXACT
    if not verb and profile.verbs & STORING:
        raise Miss("nothing says to hand anything over", -1.0)
    if not verb:
        sums = "expression" in profile.kinds and composed.SUMS.keys() & sheet.said
        if not (sheet.near() or sums or _has_literal(sheet) or "jmespath" in profile.kinds):
            raise Miss("no tool answers this", -1.0)
        return NONE
    if fit := likeness(verb, profile.verbs):
        return EXACT if fit == 1 else SYNONYM
    if verb == "count" and profile.outputs.get("count") == "scalar":
        sheet.path = "count"
    elif not (
        (verb in SIGNS and "expression" in profile.kinds)
        or (verb in composed.QUERIES and "jmespath" in profile.kinds)
        or composed.function_of(sheet)
    ):
        raise Miss(f'no tool knows how to "{sheet.clause.word}"', -1.0)
    return SYNONYM


def _command(sheet: Sheet) -> float:
    """A tool whose work cannot be taken back is called by its own verb or by its full name, never by a likeness.

    Raises:
        Miss: the clause does neither.
    """
    verb, word = sheet.clause.verb, sheet.clause.word
    used = not verb and [token.text for token in sheet.clause.body[:1]] == ["use"]
    by_name = sheet.named and (used or verb in _CALLS or word == sheet.profile.name.lower())
    if sheet.clause.counts or not (by_name or verb in sheet.profile.commands):
        raise Miss(f'no tool knows how to "{word}"' if word else "no tool answers this", -1.0)
    return EXACT


def _has_literal(sheet: Sheet) -> bool:
    """A literal that says by itself what is wanted, such as a sum."""
    return any(token.kind not in (*LISTED, "word", "mark", "number") for token in sheet.clause.body)


def _check_places(sheet: Sheet) -> None:
    """Every literal and every pronoun has a place."""
    for token in sheet.left:
        if token.values:
            raise sheet.miss(f"{sheet.profile.name} has no place for {token.text[:80]}")
        if token.text in REFERRING and not (sheet.referred or sheet.spoken):
            raise sheet.miss(f'"{token.text}" does not speak of anything before it')


def _check_words(sheet: Sheet) -> None:
    """Every word is known to the tool, or describes what is fetched."""
    careful = sheet.profile.tool.careful
    passed = sheet.known if careful and not sheet.referred else sheet.known | GENERIC
    words = [t for t in sheet.nouns() if stem(t.text) not in passed]
    fits = {token: sheet.profile.likeness(stem(token.text), sheet.profile.nouns.keys()) for token in words}
    familiar = sheet.spoken | _place_words(sheet)
    familiar |= frozenset() if careful else sheet.profile.verbs | _FILLERS
    familiar |= frozenset() if sheet.clause.verb else frozenset(map(stem, NEUTRAL))
    unknown = [token for token in words if not fits[token] and stem(token.text) not in familiar]
    if unknown and (careful or not _describes(sheet, unknown)):
        named = ", ".join(f'"{token.text[:40]}"' for token in unknown[:3])
        asked = f'nothing that can "{sheet.clause.word}"' if sheet.clause.word else "no tool that fits"
        raise Unknown(f"{asked} knows {named}", sheet.score - 0.5 * len(unknown))
    hits = sum(sheet.weight(stem(token.text)) if fit == 1 else fit / 4 for token, fit in fits.items())
    if not (hits or sheet.arguments or sheet.named or sheet.clause.verb in sheet.profile.called):
        raise Miss("it does not say what", sheet.score - 1)
    if sheet.path == "count" and 1 not in fits.values() and not sheet.chosen:
        raise sheet.miss("nothing to count")
    sheet.score += hits - COST_OF_WORD * len(unknown) - COST_OF_STEP * sum(bool(step.title) for step in sheet.inserted)


def _place_words(sheet: Sheet) -> frozenset[str]:
    """What a file or an address may be called where one is given: by its kind, or by its own name."""
    aims = {value for value in sheet.arguments.values() if isinstance(value, str)} if sheet.works_on_something else ()
    places = [t for t in sheet.clause.body if t.kind in ("url", "file") and t.text not in aims]
    own = (word for token in places for value in token.values for word in stems(str(value)))
    return _PLACES.union(own, _ADDRESSES & sheet.appositions()) if places else frozenset()


def _describes(sheet: Sheet, unknown: list[Token]) -> bool:
    """``the product catalogue from <address>``: it names what is there and chooses nothing."""
    places = [t.start for t in sheet.clause.body if t.kind in ("url", "file") and t not in sheet.left]
    works_on = any(p.kind in MAIN and (p.required or p.kind != "object") for p in sheet.profile.params)
    if works_on or not places or sheet.clause.verb not in sheet.profile.verbs:
        return False
    return all(token.start < places[0] and stem(token.text) not in SELECTIVE for token in unknown)


def _check_required(sheet: Sheet) -> None:
    for param in sheet.unfilled():
        if param.required:
            raise sheet.miss(f'{sheet.profile.name} needs its argument "{param.name}"')


def _step(sheet: Sheet) -> Step:
    words = frozenset(stem(t.text) for t in sheet.clause.body if t.kind == "word" and t.text not in FUNCTION)
    fields = [sheet.arguments.get(param.name) for param in sheet.profile.params if param.kind == "jmespath"]
    return Step(
        profile=sheet.profile,
        arguments=sheet.arguments,
        title=sheet.clause.text,
        path=sheet.path if sheet.path is not None else _path(sheet, words - sheet.known - sheet.appositions()),
        kind=sheet.kind,
        uses=frozenset(source.name for source in sheet.bound),
        words=words.union(*(stems(str(field)) for field in fields)),
        literals=frozenset(sheet.taken),
    )


def _path(sheet: Sheet, words: frozenset[str]) -> str | None:
    """The one output that the clause names: "count the words" is about ``words``."""
    filled = [p.own for p in sheet.profile.params if p.name in sheet.arguments and not p.required]
    for name in sheet.profile.outputs:
        if any(own < stems(name) for own in filled):
            return name
    exact = [name for name in sheet.profile.outputs if stems(name) <= words]
    alike = [name for name in sheet.profile.outputs if all(likeness(word, words) for word in stems(name))]
    longer = [name for name in alike if any(stems(name) > stems(other) for other in exact)]  # "unique words"
    named = longer or exact
    longest = [name for name in named if not any(stems(name) < stems(other) for other in named)]
    return longest[0] if len(longest) == 1 else None
