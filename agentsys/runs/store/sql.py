"""The engine's statements, read once."""

from pathlib import Path

from agentsys.core import db

SQL = db.load(Path(__file__).resolve().parent.parent / "sql")
