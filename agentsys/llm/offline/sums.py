"""Sums in a text: runs of numbers, signs, brackets and functions become one token each."""

import re
from collections.abc import Sequence

from agentsys.llm.offline.lexer import Token
from agentsys.llm.offline.words import listed

FUNCTIONS = listed("abs ceil cos exp factorial floor gcd lcm log log10 log2 max min round sin sqrt tan")
SPOKEN = {"plus": "+", "minus": "-", "times": "*", "x": "*", "mod": "%", "squared": "** 2", "cubed": "** 3"}
SPOKEN_BY = {"divided": "/", "multiplied": "*"}
_UNFINISHED = frozenset(["+", "-", "*", "/", "%", "**", "//", ",", "(", "/ 100 *"])
_CALL = re.compile(rf"\b({'|'.join(sorted(FUNCTIONS))}) \(")
_IS_SUM = re.compile(r"\d.* [-+*/%]|^- \d|\w\(.*\d")
SIGNS = {"^": "**", "×": "*", "÷": "/"}  # noqa: RUF001 - as people type them


def fold(tokens: Sequence[Token]) -> list[Token]:
    """The tokens with each sum as one ``expression``; a run that is no sum stays as it is."""
    done: list[Token] = []
    at = 0
    while at < len(tokens):
        text, end = _expression(tokens, at)
        if text:
            done.append(Token("expression", text, tokens[at].start, tokens[end - 1].end, (text,)))
        else:
            done.extend(tokens[at:end])
        at = end
    return done


def _expression(tokens: Sequence[Token], at: int) -> tuple[str, int]:
    """The sum that starts here ("" if none) and where its run of tokens ends, at least one on."""
    parts: list[str] = []
    end, depth, whole = at, 0, (0, at)  # whole: how much of it would do as a sum of its own
    while end < len(tokens) and (piece := _piece(tokens, end, depth, bool(parts))):
        text, width = piece
        depth += text.count("(") - text.count(")")
        if depth < 0:
            break
        parts.append(text)
        end += width
        if depth == 0 and text not in _UNFINISHED and text not in FUNCTIONS:
            whole = (len(parts), end)
    text = _written(parts[: whole[0]])
    return (text, whole[1]) if _IS_SUM.search(text) else ("", max(end, at + 1))


def _written(parts: list[str]) -> str:
    text = " ".join(parts).replace("( ", "(").replace(" )", ")").replace(" ,", ",")
    return _CALL.sub(r"\1(", text)


def _piece(tokens: Sequence[Token], at: int, depth: int, inside: bool) -> tuple[str, int] | None:
    """One token of a sum as the calculator writes it, and how many words it took."""
    token, after = tokens[at], [t.text for t in tokens[at + 1 : at + 4]]
    if token.kind == "number":
        factorial = after[:1] == ["!"] and tokens[at + 1].start == token.end
        return (f"factorial ( {token.text} )", 2) if factorial else (token.text, 1)
    if token.kind == "mark":
        return _sign(tokens, at, depth, after)
    if token.text in FUNCTIONS and after[:1] == ["("]:
        return token.text, 1
    if of := _function_of(token, after):
        name, width = of
        number = tokens[at + width] if at + width < len(tokens) else None
        return (f"{name} ( {number.text} )", width + 1) if number and number.kind == "number" else None
    return _spoken(token, tokens[at - 1], after) if inside and token.kind == "word" else None


def _function_of(token: Token, after: list[str]) -> tuple[str, int] | None:
    """``square root of``, ``factorial of``."""
    if token.text == "square" and after[:2] == ["root", "of"]:
        return "sqrt", 3
    return (token.text, 2) if token.text in FUNCTIONS and after[:1] == ["of"] else None


def _spoken(token: Token, previous: Token, after: list[str]) -> tuple[str, int] | None:
    if token.text == "percent" and after[:1] == ["of"]:
        return "/ 100 *", 2
    if token.text in SPOKEN_BY and after[:1] == ["by"]:
        return SPOKEN_BY[token.text], 2
    if token.text == "to" and after == ["the", "power", "of"]:
        return "**", 4
    if token.text in ("pi", "e", "tau") and previous.kind == "mark":
        return token.text, 1
    return (SPOKEN[token.text], 1) if token.text in SPOKEN else None


def _sign(tokens: Sequence[Token], at: int, depth: int, after: list[str]) -> tuple[str, int] | None:
    text = tokens[at].text
    if text == "%" and after[:1] == ["of"]:
        return "/ 100 *", 2
    doubled = text in "*/" and after[:1] == [text] and tokens[at + 1].start == tokens[at].end
    if doubled:
        return text * 2, 2
    if text == "," and depth > 0:
        return ",", 1
    return (SIGNS.get(text, text), 1) if text in "+-*/%^×÷()" else None  # noqa: RUF001
