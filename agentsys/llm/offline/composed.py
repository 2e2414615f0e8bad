"""Arguments that are made of words: sums of what came before, and JMESPath."""

from agentsys.llm.offline.catalogue import Param
from agentsys.llm.offline.lexer import Token
from agentsys.llm.offline.sheet import Sheet
from agentsys.llm.offline.words import SIGNS, stem, stemmed

#: JMESPath of what a verb asks of a list or of a field; {} is the field, or @.
QUERIES = {"count": "length({})", "list": "{} | (type(@) == 'object' && keys(@) || @)", "sort": "sort({})"}
#: Nouns of reckoning: "the sum of 3 and 4".
SUMS = {"sum": "+", "total": "+", "product": "*", "differenc": "-"}
_GIVES = {"count": "scalar", "list": "list", "sort": "list"}
_ENDS = {"first": "[:{}]", "top": "[:{}]", "last": "[-{}:]"}
#: Words for all of a list, and for JSON itself: no fields.
_WHOLE = stemmed("item element entry row record value result object")
_JSON = stemmed("json field key property attribute query jmespath expression response document")
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
    noun = next((stem(token.text) for token in sheet.nouns() if stem(token.text) in SUMS), "")
    sign = SIGNS.get(sheet.clause.verb) or SUMS.get(noun)
    sheet.known.add(noun)
    tokens = [t for t in sheet.left if t.kind in ("number", "expression") or t is sheet.pronoun()]
    plural = [token for token in tokens or sheet.nouns() if token.kind == "word" and sheet.is_plural(token)]
    if sign and len(tokens) < 2 and len(plural) == 1:
        _total(sheet, param, plural[0], sign)
    if not sign or len(tokens) < 2:
        return
    if any(sheet.before(token) == "from" for token in tokens):
        tokens.reverse()
    sheet.give(param, f" {sign} ".join(_operand(sheet, token) for token in tokens))
    sheet.refer(*tokens)


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
    asked = bool(fields) and verb in ("", "get", "tak", "select") and any(source.is_json for source in sheet.bound)
    sheet.score += WORTH * (plain + 2 * asked)


def _fields(sheet: Sheet) -> list[Token]:
    fields = [token for token in sheet.nouns() if stem(token.text) not in sheet.known | _WHOLE | _JSON]
    owned = any(sheet.before(token) in ("its", "their") or "." in token.text for token in fields)
    return fields if owned or any(source.is_json for source in sheet.bound) else []
