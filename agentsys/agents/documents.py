"""An agent as a YAML file, to be kept beside one's code: written from a version, read back into a definition."""

import difflib
import json
from typing import Any

import yaml

from agentsys.agents.definition import FIELDS, Definition
from agentsys.agents.models import Agent, AgentVersion
from agentsys.core.errors import InvalidInput

#: Of a document that is read; the definition's own limits are far below.
MAX_BYTES = 262_144
CONTENT_TYPE = "application/yaml"
MAX_DEPTH = 80
#: Longer documents are not compared line by line.
MAX_LINES = 2_000


def export(agent: Agent, version: AgentVersion) -> str:
    """The YAML file that makes this version again, here or elsewhere; fields that say nothing are left out."""
    plain, said = Definition(), Definition.of(version)
    told = {name: getattr(said, name) for name in FIELDS if getattr(said, name) != getattr(plain, name)}
    head = {"slug": agent.slug, "name": agent.name} | ({"description": agent.description} if agent.description else {})
    return _dumped({**head, "mode": said.mode, **told})


def file_name(agent: Agent, version: AgentVersion) -> str:
    """What :func:`export`'s file is called."""
    return f"{agent.slug}.v{version.number}.yaml"


def differences(old: AgentVersion, new: AgentVersion) -> dict[str, Any]:
    """What ``new`` says otherwise.

    Returns:
        ``changes``: ``[{field, before, after}]``; ``text``: a unified diff as YAML, None if it were too long.
    """
    before, after = ({name: getattr(version, name) for name in FIELDS} for version in (old, new))
    changes = [
        {"field": name, "before": before[name], "after": after[name]} for name in FIELDS if before[name] != after[name]
    ]
    return {"changes": changes, "text": _compared(old, _dumped(before), new, _dumped(after))}


def _compared(old: AgentVersion, before: str, new: AgentVersion, after: str) -> str | None:
    first, second = before.splitlines(), after.splitlines()
    if len(first) + len(second) > MAX_LINES:
        return None
    names = (f"version {old.number}", f"version {new.number}")
    return "\n".join(difflib.unified_diff(first, second, *names, lineterm=""))


def read(text: str) -> str:
    """A YAML document as the JSON that says the same.

    Raises:
        InvalidInput: it is no YAML, or says what JSON cannot (aliases, dates, names twice, keys that are no texts).
    """
    try:
        _look_over(text)
        return json.dumps(yaml.load(text, Loader=_Loader))  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        at = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise InvalidInput(f"The document is not YAML: {error.problem}{at}.") from None
    except (yaml.YAMLError, RecursionError, TypeError, ValueError, OverflowError):
        raise InvalidInput("The document is not YAML that says what JSON can say.") from None


def _look_over(text: str) -> None:
    """Before anything is made of it: what is small and yet grows, or exhausts the stack.

    Raises:
        InvalidInput: it has aliases, or is nested too deeply.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidInput("The document has aliases (*name), which are not read; write the value out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InvalidInput(f"The document is nested more than {MAX_DEPTH} levels deep.")


class _Loader(yaml.CSafeLoader):
    """Safe; dates stay texts, and a name is there once."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith(":timestamp")]
        for first, pairs in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "a name is a text", key.start_mark)
            if key.value in seen:
                problem = f"{key.value!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines are written as such."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _dumped(value: dict[str, Any]) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
