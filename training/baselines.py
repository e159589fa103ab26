"""What needs no model, and must stand beside every figure of one that does."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import metrics
from training.dataset import Example

Matrix = NDArray[np.float64]


def baselines(
    examples: Sequence[Example], labels: NDArray[np.int64], weights: dict[str, Matrix], prior: Sequence[float], seed: int
) -> dict[str, Any]:
    """What needs no model: every constant tier, chance, and thresholds on length or on a keyword count, fitted on these very
    rows, which favours them.
    """
    tiers = len(prior)
    lengths = np.array([example.prompt.chars for example in examples], dtype=np.float64)
    keywords = np.array([_keyword_count(example) for example in examples], dtype=np.float64)
    result: dict[str, Any] = {}
    for name, weight in weights.items():
        shares = list(prior) if name == "stated" else [1 / tiers] * tiers
        constant = {f"always_{tier}": np.full(len(labels), tier) for tier in range(tiers)}
        chance = np.random.default_rng(seed).choice(tiers, len(labels), p=shares)
        said = {
            **constant,
            "random_mix": chance,
            "length_only": _thresholds(lengths, labels, weight),
            "keywords": _thresholds(keywords, labels, weight),
        }
        result[name] = {
            key: {
                event: float(np.average(hit, weights=weight))
                for event, hit in (("exact", value == labels), ("under", value < labels), ("over", value > labels))
            }
            for key, value in said.items()
        }
        result[name]["oracle"] = {"exact": 1.0, "under": 0.0, "over": 0.0}
    result["auc"] = {
        key: {f"up_to_{tier}": metrics.soft_auc((labels <= tier).astype(float), -value) for tier in range(tiers - 1)}
        for key, value in (("length_only", lengths), ("keywords", keywords))
    }
    return result


_KEYWORDS = (
    "architect",
    "design",
    "plan",
    "strateg",
    "analy",
    "compare",
    "trade",
    "evaluate",
    "migrat",
    "scal",
    "security",
    "complex",
    "refactor",
    "why",
    "prove",
)


def _keyword_count(example: Example) -> int:
    text = example.prompt.text.lower()
    return sum(map(text.count, _KEYWORDS))


def _thresholds(values: Matrix, labels: NDArray[np.int64], weights: Matrix) -> NDArray[np.int64]:
    """Tiers by two cuts on ``values``, the cuts of best weighted accuracy among 30 quantiles."""
    cuts = np.unique(np.quantile(values, np.linspace(0, 1, 31)))
    best, found = -1.0, np.zeros(len(values), dtype=np.int64)
    for index, low in enumerate(cuts):
        for high in cuts[index:]:
            said = (values > low).astype(np.int64) + (values > high)
            exact = float(np.average(said == labels, weights=weights))
            if exact > best:
                best, found = exact, said
    return found
