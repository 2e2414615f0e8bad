"""Literals and words into arguments: each by the kind of the parameter that can take it."""

import json
import re
from typing import Any

from agentsys.llm.offline.catalogue import MAIN, Param
from agentsys.llm.offline.clauses import LISTED
from agentsys.llm.offline.composed import function_of
from agentsys.llm.offline.lexer import Token
from agentsys.llm.offline.sheet import REFERRING, Several, Sheet
from agentsys.llm.offline.words import FUNCTION, SIGNS, STORING, TARGETS, UNITS, likeness, listed, stem, stemmed, stems

#: Kinds of literal that a parameter of a kind takes as they are.
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
    "jmespath": ("jmespath",),
}
#: Too common in descriptions to point at one parameter.
_PLAIN = frozenset(map(stem, FUNCTION)) | stemmed("text file data")
#: What quoted text looks like where a parameter of a kind can take it.
_LOOKS = {
    "expression": re.compile(r"\A[\w\s+*/%().,^-]*\d[\w\s+*/%().,^-]*\Z"),
    "url": re.compile(r"\Ahttps?://", re.IGNORECASE),
    "file": re.compile(r"\A(?!https?://)[^\n]{1,255}\Z"),
    "html": re.compile(r"<"),
}
_TIMED = listed("second sec s")
_ORDER = listed("first top most")
WORTH = 0.5  #: of an argument that a literal gives


def fill(sheet: Sheet) -> None:
    """Fill what literals and choices say.

    Raises:
        Miss: a literal cannot be what its parameter wants.
    """
    for param in sheet.profile.params:
        if param.kind == "number":
            _number(sheet, param)
        elif param.kind == "array" and (several := [t for t in sheet.left if t.kind in LISTED]):
            sheet.give(param, [literal(sheet, token) for token in several])
            sheet.use(*several)
        else:
            _native(sheet, param)
    for param in sheet.profile.params:
        _choice(sheet, param)
    for token in [t for t in sheet.left if t.kind in ("quote", "code", "email")]:
        _quote(sheet, token)
    if sheet.clause.verb in STORING:
        _as_text(sheet)


def _as_text(sheet: Sheet) -> None:
    """``write 42 to a.txt``, ``write {"a": 1} to a.json``."""
    for param in [param for param in sheet.unfilled() if param.kind == "text" and param.required]:
        for token in [token for token in sheet.left if token.kind in ("number", "json")][:1]:
            value = literal(sheet, token)
            sheet.give(param, json.dumps(value, ensure_ascii=False) if token.kind == "json" else token.text)
            sheet.use(token)


def literal(sheet: Sheet, token: Token) -> Any:
    """A literal's value, so that a plan takes it literally: what people write is never a reference."""
    if len(token.values) > 1:
        raise sheet.miss(f"{sheet.profile.name} takes one of them at a time")
    return _escaped(token.values[0])


def _escaped(value: Any) -> Any:
    if isinstance(value, list):
        return [_escaped(part) for part in value]
    if isinstance(value, dict):
        return {key: _escaped(part) for key, part in value.items()}
    return value.replace("${", "$${") if isinstance(value, str) else value


def _native(sheet: Sheet, param: Param) -> None:
    pool = [token for token in sheet.left if _is_for(sheet, token, param)]
    token = _choose(sheet, pool, param)
    if token:
        value = literal(sheet, token)
        sheet.give(param, str(value) if param.kind == "expression" else value)
        sheet.use(token)
        sheet.taken.add((token.kind, str(token.values[0])))
        sheet.score += WORTH


def _is_for(sheet: Sheet, token: Token, param: Param) -> bool:
    """An optional address goes by its name where the tool works on something else."""
    if token.kind not in NATIVE.get(param.kind, ()):
        return False
    by_name = stem(sheet.before(token)) in param.own
    return param.required or by_name or not (sheet.works_on_something and param.kind in ("url", "file"))


def _choose(sheet: Sheet, pool: list[Token], param: Param) -> Token | None:
    """Of several files or addresses the one that the sentence aims at: "a.txt to b.txt"."""
    made = sheet.clause.verb in SIGNS or len(pool) > 1 or bool(function_of(sheet))  # of more than this
    if not pool or (param.kind == "expression" and made):
        return None
    gives = any(other.kind in ("text", "any") for other in sheet.profile.params)
    if param.kind not in ("url", "file") or not gives:
        return pool[0]
    return ([token for token in pool if sheet.before(token) in TARGETS] or pool)[-1]


def _number(sheet: Sheet, param: Param) -> None:
    """``in 3 sentences``, ``the top 5``, ``2 minutes``: by the words around it."""
    for token in [token for token in sheet.left if token.kind == "number"]:
        following, around = _around(sheet, token)
        unit = UNITS.get(following) if following not in param.own else None
        timed = bool(param.own & _TIMED)
        cued = bool(around & (param.words - _PLAIN | sheet.profile.nouns.keys())) or (timed and not following)
        if (unit is not None and not timed) or not (unit or cued or param.required):
            continue
        parts = _timed(sheet) if unit else [token]
        value = sum(part.values[0] * UNITS[_around(sheet, part)[0]] for part in parts) if unit else token.values[0]
        if param.schema.get("type") == "integer" and value != int(value):
            raise sheet.miss(f'"{token.text}" must be a whole number')
        sheet.give(param, int(value) if value == int(value) else value)
        sheet.use(*parts)
        sheet.known |= param.own | around & (_ORDER | UNITS.keys())
        sheet.score += WORTH
        return
    _single_unit(sheet, param)
    _the_most(sheet, param)


def _timed(sheet: Sheet) -> list[Token]:
    """``1 minute and 2 seconds``: all numbers with a unit of time."""
    found = [t for t in sheet.left if t.kind == "number" and _around(sheet, t)[0] in UNITS]
    sheet.known |= {_around(sheet, token)[0] for token in found}
    return found


def _single_unit(sheet: Sheet, param: Param) -> None:
    """``a minute``."""
    for token in sheet.nouns():
        unit = UNITS.get(stem(token.text))
        if unit and param.own & _TIMED and sheet.before(token) in ("a", "an"):
            sheet.give(param, unit)
            sheet.known.add(stem(token.text))


def _the_most(sheet: Sheet, param: Param) -> None:
    """``the most common word``, ``which word occurs most often``: one of them."""
    if "most" not in sheet.said or param.name in sheet.arguments or param.schema.get("type") != "integer":
        return
    counted = [token for token in sheet.nouns() if token.text != "most" and likeness(stem(token.text), param.words)]
    if stem("many") in param.words and counted and not any(sheet.is_plural(token) for token in counted):
        sheet.give(param, 1)
        sheet.score += WORTH


def _around(sheet: Sheet, token: Token) -> tuple[str, set[str]]:
    following = [stem(word) for word in sheet.after(token)]
    return next(iter(following), ""), {*following, stem(sheet.before(token))}


def _choice(sheet: Sheet, param: Param) -> None:
    """Enums and flags, by their words."""
    words = [stem(token.text) for token in sheet.left if token.kind == "word"]
    if param.kind == "boolean" and param.own and param.own <= set(words):
        sheet.give(param, True)
        sheet.known |= param.own
    if param.kind != "enum":
        return
    _check_one(sheet, param)
    free = [word for word in words if word not in sheet.known]
    fits = [(sheet.profile.likeness(word, stems(str(value))), word, value) for word in free for value in param.choices]
    fit, word, value = max(fits, default=(0.0, "", ""), key=lambda found: found[0])  # the first of the best
    if fit:
        sheet.give(param, value)
        sheet.known.add(word)
        sheet.chosen = True
        sheet.score += WORTH * fit


def _check_one(sheet: Sheet, param: Param) -> None:
    """
    Raises:
        Several: "the dates and the email addresses" are more than one call can choose.
    """
    values = [stems(str(value)) for value in param.choices]
    tokens = [token for token in sheet.nouns() if any(stem(token.text) in value for value in values)]
    alike = sum(other.choices == param.choices for other in sheet.profile.params)
    if len({stem(token.text) for token in tokens}) > alike:
        raise Several(tokens, sheet.score)


def _quote(sheet: Sheet, token: Token) -> None:
    """Quoted text: to the parameter whose word precedes it, else the main one, else the next."""
    fit = [param for param in sheet.unfilled() if _looks_right(param, str(token.values[0]))]
    texts = [param for param in fit if param.is_text] or [p for p in fit if p.kind in NATIVE.keys() - MAIN]
    word = stem(sheet.before(token))
    named = [p for p in texts if word in p.own] or [p for p in texts if word in p.words - _PLAIN]
    special = [p for p in texts if p.kind in ("code", "jmespath")]
    others = [p for p in texts if p.kind not in MAIN or not p.required] if _has_main(sheet, token) else []
    choice = named or special or others or texts
    if choice:
        sheet.give(choice[0], literal(sheet, token))
        sheet.use(token)
        sheet.known |= choice[0].own & {word}
        _imply(sheet, choice[0])


def _looks_right(param: Param, text: str) -> bool:
    looks = _LOOKS.get(param.kind)
    return (looks is None or bool(looks.search(text))) and param.accepts(text)


def _has_main(sheet: Sheet, quote: Token) -> bool:
    """Whether something other than this quote can be what the tool works on."""
    others = [token for token in sheet.left if token is not quote]
    if any(t.kind in ("url", "file") or t.text in REFERRING for t in others):
        return True
    spoken_of = {stem(t.text) for t in others if t.kind == "word" and sheet.before(t) in ("the", "that")}
    return any(spoken_of & source.names for source in sheet.plan.sources(sheet.inserted))


def _imply(sheet: Sheet, param: Param) -> None:
    """``separator`` is "only for by=separator": the choice that a filled parameter's description names."""
    for other in sheet.unfilled():
        named = [value for value in other.choices if stem(str(value)) in param.words]
        if named:
            sheet.give(other, named[0])
