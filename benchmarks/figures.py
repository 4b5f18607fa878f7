"""Prints progress and computes percentiles for all benchmarks."""

import math
import sys
from collections.abc import Sequence


def say(text: str) -> None:
    """Prints progress on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def percentile(values: Sequence[float], percent: int) -> float:
    """Returns the smallest value that `percent` of the values do not exceed; NaN without values.

    >>> percentile([3.0, 1.0, 2.0], 50), percentile([3.0, 1.0, 2.0], 99)
    (2.0, 3.0)
    """
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)] if values else math.nan


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Returns count, p50, p90, p99 and maximum, rounded to a tenth."""
    if not values:
        return {"count": 0}
    cuts = {f"p{percent}": round(percentile(values, percent), 1) for percent in (50, 90, 99)}
    return {"count": len(values), **cuts, "max": round(max(values), 1)}
