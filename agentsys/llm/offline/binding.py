"""What the tool works on: "it", "the links", a file or an address to be read first, or what was last spoken of."""

from dataclasses import replace

from agentsys.llm.offline.catalogue import MAIN, Param
from agentsys.llm.offline.lexer import Token
from agentsys.llm.offline.sheet import Miss, Sheet
from agentsys.llm.offline.sources import PAGES, Source
from agentsys.llm.offline.words import PLURALS, STORING, stem, stemmed

COST_OF_SKIP = 0.5
_BINDABLE = (*MAIN, "file", "url", "number")
_DEFINITE = ("", "the", "that", "this", "these", "those", "both", "all", "each", "every")
#: What people read of a page, and what they mean by its source.
_READABLE = stemmed("text word sentence paragraph term keyword summary summarize")
_RAW = stemmed("line character byte raw source link tag")
_TEXT = Param("", "text")


def bind(sheet: Sheet) -> None:
    """Fill what earlier outputs give.

    Raises:
        Miss: what the clause speaks of is not there or does not fit.
    """
    for param in sheet.unfilled():
        if param.kind not in _BINDABLE or not (param.required or _is_wanted(sheet, param)):
            continue
        if _as_list(sheet, param) or (source := _find(sheet, param)) is None:
            continue
        if param.kind == "text" and sheet.clause.verb not in STORING:
            source = _readable(sheet, source)
        if not (value := value_of(sheet, source, param)):
            raise Miss(f"{sheet.profile.name} does not take what {source.name} gives", sheet.score - 1)
        if not _together(sheet, param, source):
            sheet.give(param, value)
            sheet.bound.append(source)
        _address(sheet, source)


def value_of(sheet: Sheet, source: Source, param: Param) -> str:
    """The template that gives ``param`` the source's value; "" if it does not fit."""
    structured = source.is_json or any(kind in ("list", "object", "any") for _, kind in source.results)
    if "jmespath" in sheet.profile.kinds and (source.is_page or not structured):
        return ""
    if param.kind == "html" and not (source.is_web or source.is_page or PAGES & sheet.said):
        return ""
    return source.value(param, loosely=sheet.clause.verb in STORING)


def _is_wanted(sheet: Sheet, param: Param) -> bool:
    """An optional parameter is filled only by what is spoken of, and if nothing else can be what that is for."""
    literal = any(token.kind in ("url", "file") for token in sheet.left)
    spoken = literal or sheet.nested or bool(sheet.pronoun() or _spoken_of(sheet))
    return (
        param.kind in ("text", "any")
        and (spoken or (param.kind == "any" and sheet.clause.verb in STORING))
        and not sheet.works_on_something
    )


def _readable(sheet: Sheet, source: Source) -> Source:
    """A page without its tags; so is what an address gives that does not say what, where the words of it are meant."""
    words = {stem(token.text) for token in sheet.clause.body if token.kind == "word"} | {sheet.clause.verb}
    if source.is_page or (source.is_web and PAGES & sheet.said):
        return sheet.plan.readable(source, sheet.inserted, Param("", "html"))
    if source.may_be_page and _READABLE & words and not _RAW & words:
        return sheet.plan.readable(source, sheet.inserted, _TEXT)
    return source


def _address(sheet: Sheet, source: Source) -> None:
    """The page's own address, where a tool asks for it and the page has one."""
    for param in sheet.unfilled():
        if param.kind == "url" and stem("base") in param.own and source.outputs.get("url") == "url":
            sheet.give(param, f"${{{source.name}.url}}")


def _as_list(sheet: Sheet, param: Param) -> bool:
    """``them`` as one list: the outputs of all the steps that one clause made."""
    token = sheet.pronoun()
    if param.kind != "array" or token is None or not sheet.is_plural(token):
        return False
    newest = next((source for source in sheet.earlier() if source.group), None)
    if newest:
        members = _members(sheet, newest)
        sheet.give(param, [source.value(_TEXT) or source.reference() for source in members])
        sheet.bound += members
        sheet.refer(token)
    return newest is not None


def _together(sheet: Sheet, param: Param, source: Source) -> bool:
    """``write the counts to counts.txt``: what is handed over is handed over once, all of it."""
    if not (sheet.spread and source.group and sheet.clause.verb in STORING):
        return False
    members = _members(sheet, source)
    values = [value_of(sheet, member, param) for member in members]
    sheet.give(param, "\n".join(values) if param.kind == "text" else values)
    sheet.bound += members
    return True


def _members(sheet: Sheet, source: Source) -> list[Source]:
    """The source and those of its group, oldest first, each seen as it is."""
    group = [other for other in reversed(sheet.earlier()) if other.group == source.group]
    return [replace(other, results=source.results) for other in group]


def _find(sheet: Sheet, param: Param) -> Source | None:
    if sheet.nested and not sheet.bound and param.kind in MAIN:
        body, sheet.left = tuple(token for token in sheet.left if token.text not in (":", ",")), []
        return sheet.plan.nested(body, sheet.profile, sheet.inserted)
    places = [token for token in sheet.left if token.kind in ("url", "file")]
    loads_it = sheet.clause.verb and not sheet.clause.word  # this clause was made to read it
    if places and param.kind in MAIN and not loads_it:
        if len(places[0].values) > 1:
            raise sheet.miss(f"{sheet.profile.name} takes one of them at a time")
        sheet.use(places[0])
        return sheet.plan.loaded(places[0].kind, places[0].values[0], sheet.inserted)
    return _by_noun(sheet, param) or _by_pronoun(sheet, param) or _unsaid(sheet, param)


def _spoken_of(sheet: Sheet) -> list[tuple[Source, Token]]:
    """Sources that a noun of the clause speaks of, newest first; a tool's own choices are no such nouns."""
    definite = [token for token in sheet.nouns() if sheet.before(token) in _DEFINITE]
    nouns = [token for token in definite if stem(token.text) not in sheet.profile.values | sheet.known]
    sources = [source for source in sheet.plan.sources(sheet.inserted) if source not in sheet.bound]
    return [(source, token) for source in sources for token in nouns if stem(token.text) in source.names]


def _by_noun(sheet: Sheet, param: Param) -> Source | None:
    found = _spoken_of(sheet)
    for source, token in found:
        part = source.part(stem(token.text))
        if value_of(sheet, part, param):
            sheet.spoken |= {stem(other.text) for named, other in found if named is source}
            sheet.spread = sheet.is_plural(token)
            return part
        if part.is_many and stem(token.text) not in sheet.profile.nouns:
            raise sheet.miss(f'"{token.text}" is a list or an object, and {sheet.profile.name} takes text')
    return None


def _by_pronoun(sheet: Sheet, param: Param) -> Source | None:
    """The newest output that fits; "them" are several or a list."""
    if not (token := sheet.pronoun()):
        return None
    plural = sheet.is_plural(token)
    open_ones = [other for other in sheet.unfilled() if other.required and other.kind == param.kind]
    turn = len(open_ones) if plural and open_ones else 1  # "compare them": one for each, the oldest first
    earlier = sheet.earlier()
    fitting = [source for source in _fitting(sheet, param) if source not in sheet.bound]
    if earlier and earlier[0].file and param.kind in MAIN:  # what was just written: its content, at hand or read again
        fitting = [source for source in fitting if source.name in earlier[0].made_of]
    if plural and turn == 1 and not sheet.bound:
        several = [s for s in fitting if s.is_many or s.group or s.results[0][1] == "any"]
        fitting = several if several or token.text in PLURALS else fitting  # "the contents" may be one
    if len(fitting) >= turn:
        sheet.score -= COST_OF_SKIP * min(earlier.index(fitting[0]), 3)
        sheet.refer(*[token] if turn == 1 else [])
        sheet.spread = plural and turn == 1
        return fitting[turn - 1]
    if token.text not in PLURALS and (source := _written(sheet, param)):
        sheet.refer(token)
        return source
    raise sheet.miss(f'nothing before it gives what "{token.text}" should be for {sheet.profile.name}')


def _unsaid(sheet: Sheet, param: Param) -> Source | None:
    """Nothing is said: the newest output that fits, else an input if only one does.  Not where a tool works on two
    things: which of them is meant, nothing tells."""
    alike = [other for other in sheet.profile.params if other.required and other.kind in MAIN]
    handed_over = param.kind == "any" and sheet.clause.verb in STORING and not alike
    if param.kind not in MAIN or not (param.required or handed_over) or sheet.bound or len(alike) > 1:
        return None
    if sheet.clause.verb == "copy" and any(sheet.is_object(name) for _, name in sheet.taken):
        return None  # "copy a.txt" does not say where to
    fitting = _fitting(sheet, param)
    sheet.spread = bool(fitting)
    if fitting or (source := _written(sheet, param)):
        return fitting[0] if fitting else source
    given = [s for s in sheet.plan.sources(()) if s.name == "input" and value_of(sheet, s, param)]
    return given[0] if len(given) == 1 else None


def _fitting(sheet: Sheet, param: Param) -> list[Source]:
    """Newest first; but what is read is a text, and a number only if there is nothing else."""
    found = [source for source in sheet.earlier() if value_of(sheet, source, param)]
    reads = param.kind == "text" and sheet.clause.verb not in STORING
    return sorted(found, key=lambda source: reads and source.results[0][1] == "scalar")


def _written(sheet: Sheet, param: Param) -> Source | None:
    """The content of a file that an earlier step wrote."""
    file = next((source.file for source in sheet.earlier() if source.file), "")
    return sheet.plan.loaded("file", file, sheet.inserted) if file and param.kind in MAIN else None
