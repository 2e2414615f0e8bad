"""All writes of state.  Every move is guarded by the old state and the holder; see ENGINE's protocol.

``claims`` and ``complete`` are the steady state, one statement each; ``moves`` are the rarer ways through
``change``; ``sweeps`` find what time has to move; ``create`` makes rows of plans.
"""

from . import change, children

change.take_over = children.take_over
