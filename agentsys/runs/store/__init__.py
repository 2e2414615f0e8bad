"""All writes of state.  Every move is guarded by the old state and the holder; see ENGINE's protocol.

``claims`` and ``complete`` are the steady state, one statement each; ``moves`` are the rarer ways through
``change``; ``sweeps`` find what time has to move; ``create`` makes rows of plans.
"""

from . import children, families, kin

kin.take_over, kin.stop_children = children.take_over, families.stop
