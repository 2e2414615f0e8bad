"""The plan as JSON, and its answer: what was asked for, else what nobody worked on any further."""

from collections.abc import Iterable, Sequence
from typing import Any

from agentsys.core.errors import GoalNotPlannable
from agentsys.llm.offline.clauses import Clause
from agentsys.llm.offline.sheet import Miss
from agentsys.llm.offline.sources import Source, Step
from agentsys.llm.offline.words import FUNCTION, GENERIC, PLURALS, PRONOUNS, stem, stemmed

#: Tools whose output nothing can mean.
SILENT = ("wait",)
MAX_TITLE_CHARS = 200
ADVICE = "Say it in other words, split the sentence, or set AGENTSYS_MODEL to a language model."
_FIGURES = stemmed("number total count amount figure")


def plan(steps: Sequence[Step], answers: dict[str, str]) -> dict[str, Any]:
    """CONTRACT's grammar; ``answers`` are references by the key of their step."""
    data: dict[str, Any] = {"steps": [_step(step) for step in steps]}
    answer = answers or _references(_leaves(steps))
    if answer:
        data["answer"] = next(iter(answer.values())) if len(answer) == 1 else answer
    return data


def asked_for(said: Clause, steps: Sequence[Step], sources: Iterable[Source]) -> dict[str, str]:
    """What "tell me the result" means, as references by step; {} if the clause asks for something else."""
    again = any(token.text == "again" for token in said.body)
    if again or said.verb not in ("", "list") or not steps or any(token.values for token in said.body):
        return {}
    words = [token.text for token in said.body if token.kind == "word"]
    meant = [word for word in words if word not in FUNCTION | PRONOUNS and stem(word) not in GENERIC | _FIGURES]
    nouns = frozenset(map(stem, meant))
    plural = any(word in PLURALS or word in ("results", "counts", "totals") for word in words)
    if nouns:
        many = [source for source in sources if source.is_many or source.output(nouns)]
        return _named(nouns, many if meant[-1].endswith("s") else sources, plural=plural)
    if said.verb and not any(word in PRONOUNS for word in words):
        return {}
    heard = [step for step in steps if step.profile.name not in SILENT]
    last = _leaves(steps) if plural else heard[-1:]
    figure = next((word for word in words if stem(word) in _FIGURES), "")
    return _figures(last, figure) if figure else _references(last)


def _figures(steps: Sequence[Step], asked: str) -> dict[str, str]:
    """``the total``, ``the number``: of a list, how many there are; {} for "the numbers" of what is none.

    Raises:
        Miss: there is no such figure.
    """
    numbers = {step.key: step.source() for step in steps}
    if all(source.results[0][1] == "scalar" for source in numbers.values()):
        return {key: source.reference() for key, source in numbers.items()}
    if all(source.is_many and source.outputs.get("count") == "scalar" for source in numbers.values()):
        return {key: f"${{{key}.count}}" for key in numbers}
    if asked.endswith("s"):
        return {}
    raise Miss(f'nothing before it gives what "{asked}" should be')


def _named(nouns: frozenset[str], sources: Iterable[Source], *, plural: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in sources:
        output = source.output(nouns)
        tagged = source.outputs.get(output) == "text" and (source.is_page or source.may_be_page)
        if source.name != "input" and not tagged and (output or nouns <= source.names) and (plural or not found):
            found[source.name] = f"${{{source.name}.{output}}}" if output else source.reference()
    return found


def _leaves(steps: Sequence[Step]) -> list[Step]:
    """Steps whose output nobody works on; the writer of a file that another step reads is no leaf."""
    used = frozenset().union(*(step.uses for step in steps))
    literals = {step.key: step.literals for step in steps}
    files = {key for step in steps for key in step.after if literals[key] & step.literals}
    return [step for step in steps if step.key not in used | files and step.profile.name not in SILENT]


def _references(steps: Sequence[Step]) -> dict[str, str]:
    return {step.key: step.source().reference() for step in steps}


def _step(step: Step) -> dict[str, Any]:
    data: dict[str, Any] = {"key": step.key, "tool": step.profile.name, "arguments": step.arguments}
    if step.title:
        data["title"] = step.title[:MAX_TITLE_CHARS]
    if step.after:
        data["depends_on"] = sorted(step.after)
    return data


def refusal(said: Clause, reason: str) -> GoalNotPlannable:
    """The goal's planning ends at this clause."""
    text = " ".join(said.text.split())
    text = text if len(text) <= 300 else f"{text[:299]}…"
    return GoalNotPlannable(f'Cannot plan "{text}": {reason}. {ADVICE}', clause=text, reason=reason)
