from django.apps import AppConfig
from prometheus_client import REGISTRY


class ObservabilityConfig(AppConfig):
    name = "agentsys.observability"

    def ready(self) -> None:
        """Add the engine's metrics to the web process's own."""
        from .collectors import EngineCollector  # noqa: PLC0415 - models are not there any sooner

        REGISTRY.register(EngineCollector())
