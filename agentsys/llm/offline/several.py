"""Clauses about several things: one call for all of them, or a call for each."""

from dataclasses import replace

from agentsys.llm.offline.catalogue import Profile
from agentsys.llm.offline.clauses import Clause
from agentsys.llm.offline.lexer import Token
from agentsys.llm.offline.sheet import Miss, Several
from agentsys.llm.offline.words import STORING, stem


def one_by_one(said: Clause, miss: Miss) -> list[Clause]:
    """The clause once for each of the things that it is about; [] if it is about one."""
    if isinstance(miss, Several):
        return [
            replace(said, body=tuple(token for token in said.body if token is one or token not in miss.tokens))
            for one in miss.tokens
        ]
    many = next((token for token in said.body if len(token.values) > 1), None)
    if many is None:
        return []
    at = said.body.index(many)
    tokens = [replace(many, values=(value,), text=str(value)) for value in many.values]
    return [replace(said, body=(*said.body[:at], token, *said.body[at + 1 :])) for token in tokens]


def are_taken(profile: Profile) -> bool:
    """Whether "a.txt and b.txt" are two arguments of one call."""
    kinds = [param.kind for param in profile.params if param.required]
    return "array" in kinds or any(kinds.count(kind) > 1 for kind in ("text", "file", "url"))


def apart(said: Clause) -> Clause:
    body: list[Token] = []
    for token in said.body:
        parts = [replace(token, values=(v,), text=str(v), start=token.start + n) for n, v in enumerate(token.values)]
        body += parts if len(parts) > 1 else [token]
    return replace(said, body=tuple(body))


def with_saving(said: Clause) -> tuple[Clause, Clause] | None:
    """``download <address> as a.txt`` as two clauses: do it, and save it there."""
    for at, token in enumerate(said.body):
        if token.kind == "file" and len(token.values) == 1 and at and said.body[at - 1].text in ("to", "into", "as"):
            it = Token("word", "it", token.start - 2, token.start - 1)
            to = Token("word", "to", token.start - 1, token.start)
            first = replace(said, body=(*said.body[: at - 1], *said.body[at + 1 :]))
            saving = replace(said, verb=stem("save"), word="save", body=(it, to, token), ordered=False, joint="and")
            return (first, saving) if said.verb not in STORING else None
    return None
