"""Arguments that are made of words: sums of what came before, and JMESPath."""

from itertools import pairwise

from agentsys.llm.offline.catalogue import Param
from agentsys.llm.offline.lexer import Token
from agentsys.llm.offline.sheet import Sheet
from agentsys.llm.offline.words import SIGNS, listed, stem, stemmed, stems

#: JMESPath of what a verb asks of a list or of a field; {} is the field, or @.
QUERIES = {"count": "length({})", "list": "{} | (type(@) == 'object' && keys(@) || @)", "sort": "sort({})"}
#: Nouns of reckoning: "the sum of 3 and 4".
SUMS = {"sum": "+", "total": "+", "product": "*", "differenc": "-"}
_GIVES = {"count": "scalar", "list": "list", "sort": "list"}
_ENDS = {"first": "[:{}]", "top": "[:{}]", "last": "[-{}:]"}
#: Words for all of a list, and for JSON itself: no fields.
_WHOLE = stemmed("item element entry row record value result object")
_JSON = stemmed("json field key property attribute query jmespath expression response document")
#: Functions of one number, by their names and as they are spoken.
FUNCTIONS_OF_ONE = listed("abs ceil cos factorial floor round sin sqrt tan")
SPOKEN_FUNCTIONS = {("square", "root"): "sqrt"}
_CALLED = stemmed("square root")
_DIGITS = stemmed("decimal digit place")
_PICKS = stemmed("get take select query extract")
_LOUD = ("count", "sort")  #: what fails where a field is not there
_NUMBER = Param("", "number")
WORTH = 0.5


def fill(sheet: Sheet) -> None:
    """
    Raises:
        Miss: there is no number to go on with.
    """
    for param in sheet.unfilled():
        if param.kind == "expression":
            _sum(sheet, param)
        elif param.kind == "jmespath" and sheet.bound:
            _query(sheet, param)


def _sum(sheet: Sheet, param: Param) -> None:
    """``add 3 and 4``, ``multiply it by 5``: operands in their order, joined by the verb's sign."""
    if name := function_of(sheet):
        _call(sheet, param, name)
        return
    noun = next((stem(token.text) for token in sheet.nouns() if stem(token.text) in SUMS), "")
    sign = SIGNS.get(sheet.clause.verb) or SUMS.get(noun)
    sheet.known.add(noun)
    tokens = [t for t in sheet.left if t.kind in ("number", "expression") or t is sheet.pronoun()]
    plural = [token for token in tokens or sheet.nouns() if token.kind == "word" and sheet.is_plural(token)]
    if sign and len(tokens) < 2 and len(plural) == 1:
        _total(sheet, param, plural[0], sign)
    if sheet.clause.verb in SIGNS and len(tokens) == 1 and not plural and tokens[0].values:
        _go_on(sheet, param, sign or "", tokens[0])
    if not sign or len(tokens) < 2 or any(sheet.before(token) == "into" for token in tokens):
        return
    if any(sheet.before(token) == "from" for token in tokens):
        tokens.reverse()
    sheet.give(param, f" {sign} ".join(_operand(sheet, token) for token in tokens))
    sheet.refer(*tokens)


def _go_on(sheet: Sheet, param: Param, sign: str, token: Token) -> None:
    """``subtract 7``, ``divide by 2``: from or by the number that came out just before.

    Raises:
        Miss: there is none, or "divide 7" leaves open by what.
    """
    if sheet.before(token) not in ("by",) if sign in "*/" else sheet.before(token):
        raise sheet.miss(f'what to "{sheet.clause.word}" with {token.text} is not said')
    sheet.give(param, f"{_newest(sheet, sheet.clause.word)} {sign} {_operand(sheet, token)}")
    sheet.refer(token)
    sheet.score += WORTH


def function_of(sheet: Sheet) -> str:
    """The function of one number that the clause calls and the tool says it knows: "round it", "the square root"."""
    if "expression" not in sheet.profile.kinds:
        return ""
    words = [sheet.clause.word, *(token.text for token in sheet.clause.body if token.kind == "word")]
    pairs = list(pairwise(words))
    spoken = [name for pair, name in SPOKEN_FUNCTIONS.items() if pair in pairs]
    plain = [word for word in words if word in FUNCTIONS_OF_ONE]
    found = [name for name in (*spoken, *plain) if stem(name) in stems(sheet.profile.tool.description)]
    return found[0] if len(found) == 1 else ""


def _call(sheet: Sheet, param: Param, name: str) -> None:
    """``round it to 2 digits``, ``take the square root``.

    Raises:
        Miss: there is no number to call it with.
    """
    numbers = [token for token in sheet.left if token.kind in ("number", "expression")]
    digits = [token for token in numbers if name == "round" and sheet.before(token) == "to"]
    of = [token for token in numbers if token not in digits] + ([it] if (it := sheet.pronoun()) else [])
    if len(of) > 1 or len(digits) > 1:
        raise sheet.miss(f"{name} takes one number")
    value = _operand(sheet, of[0]) if of else _newest(sheet, sheet.clause.word or name)
    sheet.give(param, f"{name}({', '.join([value, *(token.text for token in digits)])})")
    sheet.refer(*of, *digits)
    sheet.known |= _CALLED | {stem(name)} | (_DIGITS if digits else frozenset())
    sheet.score += WORTH


def _newest(sheet: Sheet, word: str) -> str:
    """What came out just before, where it is a number by itself.

    Raises:
        Miss: it is none.
    """
    for source in sheet.earlier()[:1]:
        if source.results[0][1] == "scalar":
            sheet.bound.append(source)
            return source.value(_NUMBER)
    raise sheet.miss(f'there is no number just before to "{word}"')


def _total(sheet: Sheet, param: Param, token: Token, sign: str) -> None:
    """``add both results``, ``add the counts``: the numbers of all the steps of one group."""
    spoken_of = [s for s in sheet.earlier() if token is sheet.pronoun() or stem(token.text) in s.names]
    newest = next((source for source in spoken_of if source.group and source.value(_NUMBER)), None)
    members = [other for other in reversed(sheet.earlier()) if newest and other.group == newest.group]
    if members:
        sheet.give(param, f" {sign} ".join(source.value(_NUMBER) for source in members))
        sheet.bound += members
        sheet.refer(token)
        sheet.score += WORTH


def _operand(sheet: Sheet, token: Token) -> str:
    if token.values:
        return token.text if token.kind == "number" else f"({token.text})"
    for source in sheet.earlier():
        if value := source.value(_NUMBER):
            sheet.bound.append(source)
            return value
    raise sheet.miss(f'nothing before it gives a number for "{token.text}"')


def _part(sheet: Sheet, param: Param) -> bool:
    """``the first 3``, ``the last 5 links``."""
    for token in sheet.left:
        end = sheet.before(token)
        if end in _ENDS and (token.kind == "number" or token.text == "one"):
            one = {"last": "[-1]"}.get(end, "[0]")
            sheet.give(param, one if token.text == "one" else _ENDS[end].format(token.text))
            sheet.use(token)
            sheet.known |= _ENDS.keys() | _WHOLE
            sheet.kind = "any" if token.text == "one" else "list"
            return True
    return False


def _query(sheet: Sheet, param: Param) -> None:
    """``count them``, ``list its paths``: a field is one word, owned by what came before."""
    verb, fields = sheet.clause.verb, _fields(sheet)
    if _part(sheet, param):
        return
    if len(fields) > 1 or (not fields and verb not in QUERIES):
        return
    whole = [token.raw for token in sheet.nouns() if stem(token.text) in _WHOLE]
    field = fields[0].raw if fields else " || ".join([*whole[:1], "@"])  # {"items": […]} as well as […]
    sheet.give(param, QUERIES.get(verb, "{}").format(field))
    sheet.known |= {stem(token.text) for token in fields} or _WHOLE
    sheet.kind = _GIVES.get(verb, "")
    plain = bool(fields) and stem(fields[0].text) not in sheet.plan.values
    asked = bool(fields) and verb in ("", *_PICKS) and any(source.is_json for source in sheet.bound)
    sheet.score += WORTH * (plain + 2 * asked)


def _fields(sheet: Sheet) -> list[Token]:
    fields = [token for token in sheet.nouns() if stem(token.text) not in sheet.known | _WHOLE | _JSON]
    if any(source.results[0][1] == "list" for source in sheet.bound):
        return []  # a list has no fields
    if any(sheet.before(token) in ("its", "their") or "." in token.text for token in fields):
        return fields
    if not any(source.is_json for source in sheet.bound):
        return []
    asked = sheet.clause.verb in _PICKS and any(token.text in ("from", "for") for token in sheet.clause.body)
    if fields and not (asked or sheet.clause.verb in _LOUD):
        # A guess gives null, and that looks like an answer.
        raise sheet.miss(f'where "{fields[0].text}" is in the JSON is not said; quote its path, as in `items[].name`')
    return fields
