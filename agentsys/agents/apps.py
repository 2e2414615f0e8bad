from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "agentsys.agents"
