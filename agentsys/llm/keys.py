"""The installation's keys for providers, so that nothing that is kept or told shows one."""

from functools import lru_cache

from django.conf import settings

from agentsys.core.hidden import Hidden


def own_keys() -> Hidden:
    """All that are set."""
    return _hidden((settings.OPENAI_API_KEY, settings.ANTHROPIC_API_KEY, settings.OLLAMA_API_KEY))


@lru_cache(maxsize=4)
def _hidden(keys: tuple[str, ...]) -> Hidden:
    return Hidden(key for key in keys if len(key) >= 8)
