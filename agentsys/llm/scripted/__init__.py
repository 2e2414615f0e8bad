"""A model server whose answers are written down beforehand: for demos and tests, without a key or a network.

Real HTTP on this machine, in the protocols of chat completions, responses, messages and embeddings, streamed or not.
``replies`` makes answers, ``protocols`` puts them into a protocol's words, ``server`` sends them.
"""

from agentsys.llm.scripted.replies import Reply, call, calls, ended, fault, spoken, submit, text
from agentsys.llm.scripted.server import ModelServer, serving

__all__ = ["ModelServer", "Reply", "call", "calls", "ended", "fault", "serving", "spoken", "submit", "text"]
