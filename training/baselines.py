"""What needs no model, and must stand beside every figure of one that does."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from training import metrics
from training.dataset import Example

Matrix = NDArray[np.float64]


def baselines(
    examples: Sequence[Example],
    labels: NDArray[np.int64],
    weights: dict[str, Matrix],
    prior: Sequence[float],
    seed: int,
    train: Sequence[Example] = (),
) -> dict[str, Any]:
    """What needs no model: every constant tier, chance, and thresholds on length or on a keyword count, fitted on these very
    rows, which favours them; and a bag of words learned from the labelled rows among ``train``, where all tiers are among those.
    """
    tiers = len(prior)
    labelled = [example for example in train if example.label is not None]
    bag = bag_of_words(labelled, examples) if len({example.label for example in labelled}) == tiers else None
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
        if bag is not None:
            said["bag_of_words"] = metrics.reprior(bag, [1 / tiers] * tiers, shares).argmax(axis=1)
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
    if bag is not None:
        upto = bag.cumsum(axis=1)
        result["auc"]["bag_of_words"] = {
            f"up_to_{tier}": metrics.soft_auc((labels <= tier).astype(float), upto[:, tier]) for tier in range(tiers - 1)
        }
    return result


def bag_of_words(train: Sequence[Example], examples: Sequence[Example]) -> Matrix:
    """(n_examples, n_tiers) probabilities at a balanced prior: logistic regression on which words occur in the scored window.

    What it finds, wording gives away.
    """
    words = CountVectorizer(binary=True, token_pattern=r"\w+")  # noqa: S106 - a pattern of words
    inputs = words.fit_transform([example.prompt.text for example in train])
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000).fit(inputs, [example.label for example in train])
    return np.asarray(model.predict_proba(words.transform([example.prompt.text for example in examples])))


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
