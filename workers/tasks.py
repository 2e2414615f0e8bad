"""The three tasks.  Each is a bell: its result says what it ran, and what that is PostgreSQL decides."""

from workers import node
from workers.celery import app


@app.task(name="plan")
def plan(lane: str) -> str:
    """Do what the model lane has due: plans, acts, answers."""
    return node.answer_bell(lane)


@app.task(name="execute")
def execute(lane: str) -> str:
    """Do what a lane of tools has due."""
    return node.answer_bell(lane)


@app.task(name="system")
def system(lane: str) -> str:
    """Do what the system lane has due: waits and upkeep."""
    return node.answer_bell(lane)
