"""The final answer of a run, from what its steps gave."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentsys.agents.prompts import Prompts, sections
from agentsys.core import schemas
from agentsys.core.errors import InvalidInput, ModelUnavailable, OutputInvalid
from agentsys.llm import client
from agentsys.llm.types import ModelRequest, Usage

#: How often a model may correct an answer that does not match the schema.
REPAIRS = 2
MAX_FAULTS = 20


def make_answer(
    goal: str,
    *,
    model: str,
    outputs: Mapping[str, Any],
    prompts: Prompts,
    output_schema: dict[str, Any] | None,
    timeout_s: float,
    messages: Sequence[str] = (),
    told: client.Told | None = None,
    ask: client.Complete = client.complete,
) -> tuple[Any, Usage]:
    """Answer ``goal`` from ``outputs`` ({step key: output}), in the shape of ``output_schema`` if given.

    ``messages`` are what people have told the run since; the offline model does not read them.  ``told`` is given an
    answer in text as it is written, see ``llm.client.complete``.  ``ask`` asks the model.

    Costs one model call, and up to two more while the answer does not match.

    Raises:
        OutputInvalid: the answer still does not match; ``errors`` has the faults.
        InvalidInput: ``output_schema`` is no JSON Schema.
        ModelFailed, ModelUnavailable: see ``llm.client.complete``.
    """
    prompt = sections(goal=goal, outputs=dict(outputs), messages=list(messages))
    system = prompts.system("answer")
    request = ModelRequest("answer", system, prompt, output_schema=output_schema, context={"outputs": dict(outputs)})
    usage, faults = Usage(), [""]
    until = time.monotonic() + timeout_s
    for _ in range(1 if model == client.OFFLINE else REPAIRS + 1):
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise ModelUnavailable(f"{model} took too long to answer.", model=model)
        response = ask(model, request, timeout_s=left_s, told=told)
        usage += response.usage
        faults = mismatches(response.output, output_schema)
        if not faults:
            return response.output, usage
        request = replace(request, prompt=prompts.repair(prompt, response.output, faults))
    raise OutputInvalid(f"The answer does not match the output schema: {faults[0]}", errors=faults)


def mismatches(value: Any, schema: dict[str, Any] | None) -> list[str]:
    """What does not match, each as "path: message"; at most 20.

    Raises:
        InvalidInput: the schema itself cannot be used.
    """
    if schema is None:
        return []
    if faults := schemas.faults(schema):
        raise InvalidInput(f"output_schema is no JSON Schema to use: {faults[0]['message']}"[:500], errors=faults)
    try:
        found = schemas.mismatches(value, schema, most=MAX_FAULTS)
        return [f"{fault.json_path}: {fault.message[:300]}" for fault in found]
    except schemas.Unusable as error:
        raise InvalidInput(f"output_schema is no JSON Schema that can be used: {error}"[:500]) from error
