"""Risk control: the lowest target sufficiency whose under-routing is bounded, with confidence.

Learn-then-test with a fixed sequence (Angelopoulos et al., "Learn then Test", 2021): targets are tested from the safest
down and testing stops at the first that fails, so the whole search errs with probability ``delta`` at most. Under-routing
of a tier's prompts is a 0/1 loss, for which the Clopper-Pearson bound is exact; strata are joined by Bonferroni.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

Matrix = NDArray[np.float64]

MAX_UNDER = 0.08
"""Under-routed share of traffic at the stated prior."""
MAX_UNDER_TOP = 0.25
"""Under-routed share of the prompts whose label is the top tier."""
DELTA = 0.05
UNREACHABLE = 100_000
"""As many labels missing mean that no number would do at the observed rate."""
GRID = np.round(np.concatenate([np.arange(0.999, 0.9905, -0.001), np.arange(0.99, 0.495, -0.005)]), 4)


@dataclass(frozen=True, slots=True)
class Risk:
    """A target, and what is known of it on ``n`` held-out labelled prompts."""

    target: float
    qualified: bool  # the bounds hold with confidence 1 - DELTA
    under: float  # observed, at the prior
    under_bound: float
    under_top: float  # observed, among prompts labelled with the top tier
    under_top_bound: float
    over: float  # observed, at the prior: what safety costs
    n: tuple[int, ...]  # labelled prompts, by tier
    missing: tuple[int, ...]  # further labels that would let a target qualify at the observed rates, by tier


def choose(sufficiency: Matrix, target: float) -> NDArray[np.int64]:
    """(n,) index of the cheapest tier that reaches ``target``, the top tier where none does."""
    reached = sufficiency >= target
    reached[:, -1] = True
    return np.asarray(reached.argmax(axis=1))


def control(sufficiency: Matrix | Callable[[float], Matrix], labels: Sequence[int], prior: Sequence[float], delta: float = DELTA) -> Risk:
    """The lowest target in ``GRID`` that keeps both bounds; the safest one, not ``qualified``, where none does.

    ``sufficiency`` (n, n_tiers), or what gives it for a target where it depends on that, must be of rows that neither head nor
    calibration overfitted: that is the caller's duty. The guarantee is about traffic like these rows, re-weighted by ``prior``.
    """
    array = np.asarray(labels)
    best: Risk | None = None
    for target in GRID:
        now = sufficiency(float(target)) if callable(sufficiency) else sufficiency
        risk = assess(now, array, prior, float(target), delta)
        if not risk.qualified:
            return best or risk
        best = risk
    assert best is not None
    return best


def assess(sufficiency: Matrix, labels: NDArray[np.int64], prior: Sequence[float], target: float, delta: float = DELTA) -> Risk:
    """Observed rates and upper bounds at one target."""
    chosen = choose(sufficiency, target)
    top = len(prior) - 1
    under, over, bounds, counts, missing = [], [], [], [], []
    for tier in range(len(prior)):
        rows = chosen[labels == tier]
        failures = int((rows < tier).sum())
        counts.append(len(rows))
        under.append(failures / len(rows) if len(rows) else 0.0)
        over.append(float((rows > tier).mean()) if len(rows) else 0.0)
        # The cheapest tier cannot be under-routed; the others share delta.
        bounds.append(upper_bound(failures, len(rows), delta / top) if tier else 0.0)
    under_bound = float(np.dot(prior, bounds))
    top_bound = upper_bound(round(under[top] * counts[top]), counts[top], delta)
    qualified = under_bound <= MAX_UNDER and top_bound <= MAX_UNDER_TOP
    for tier, rate in enumerate(under):
        missing.append(0 if qualified or not tier else _missing(rate, counts[tier], delta / top, prior, tier))
    return Risk(
        target=target,
        qualified=qualified,
        under=float(np.dot(prior, under)),
        under_bound=under_bound,
        under_top=under[top],
        under_top_bound=top_bound,
        over=float(np.dot(prior, over)),
        n=tuple(counts),
        missing=tuple(missing),
    )


def upper_bound(failures: int, n: int, delta: float) -> float:
    """Clopper-Pearson: the rate that is exceeded with probability ``delta`` at most.

    >>> round(upper_bound(0, 58, 0.05), 3)
    0.05
    """
    return 1.0 if failures >= n else float(beta.ppf(1 - delta, failures + 1, n - failures))


def _missing(rate: float, n: int, delta: float, prior: Sequence[float], tier: int) -> int:
    """Further labels of ``tier`` after which its share of the allowed risk would hold at the observed ``rate``."""
    top = len(prior) - 1
    allowed = min(1.0, MAX_UNDER * 1.0 / (top * prior[tier])) if prior[tier] else 1.0
    if tier == top:
        allowed = min(allowed, MAX_UNDER_TOP)
    for size in range(max(n, 1), UNREACHABLE, 10):
        if upper_bound(int(np.ceil(rate * size)), size, delta) <= allowed:
            return max(0, size - n)
    return UNREACHABLE
