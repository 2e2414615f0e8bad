"""How models are named: ``offline`` or ``<provider>:<model>``."""

from typing import Literal, cast

from agentsys.core.errors import ModelFailed

OFFLINE = "offline"
#: Whose key a model is asked with.
Account = Literal["openai", "anthropic", "ollama"]
PREFIXES = ("openai-chat", "openai", "anthropic", "ollama")


def split(model: str) -> tuple[str, str]:
    """``"openai-chat:gpt-x"`` as ``("openai-chat", "gpt-x")``.

    Raises:
        ModelFailed: no model of this form is known.
    """
    prefix, _, name = model.partition(":")
    if prefix not in PREFIXES or not name.strip():
        forms = ", ".join(f"{known}:<model>" for known in PREFIXES)
        raise ModelFailed(f"{model!r} is not a model; use {OFFLINE} or one of {forms}.", model=model)
    return prefix, name


def account(model: str) -> Account:
    return cast(Account, split(model)[0].partition("-")[0])
