"""How long to wait before another try."""

import random


def half_jitter(failure: int, *, base_s: float, cap_s: float) -> float:
    """Delay before the next try, drawn uniformly from the upper half of ``min(cap, base·2^(failure-1))``.

    Args:
        failure: The failure that has just happened, counted from 1.
        base_s: Upper bound of the first delay, in seconds; > 0.
        cap_s: Upper bound of every delay, in seconds; >= ``base_s``.

    Returns:
        Seconds to wait, in ``[base_s / 2, cap_s]``.

    Raises:
        ValueError: ``failure`` < 1 or the bounds are not ``0 < base_s <= cap_s``.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("Equal Jitter").
    """
    if failure < 1 or not 0 < base_s <= cap_s:
        raise ValueError(f"{failure=} {base_s=} {cap_s=}")
    # 2**63 is beyond any cap; clamping the exponent keeps the float finite.
    return min(cap_s, base_s * 2.0 ** min(failure - 1, 63)) * random.uniform(0.5, 1.0)
