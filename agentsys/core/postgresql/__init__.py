"""Django's database backend of agentsys: settings name this package, Django imports its ``base``."""
