"""python -m training.evaluate: what a bundle is worth on rows it never saw.

Scores are taken from the bundle as it serves (``Router.load``), never from fitted estimators. Every figure carries a 95 %
bootstrap interval over rows, and baselines stand beside it.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from classifier import Router
from classifier.bundle import LAYOUT, find
from classifier.errors import BundleError, PointsmanError
from classifier.head import OnnxHead
from classifier.policy import cheapest
from classifier.router import CHECKOUT, MODELS
from classifier.types import Path as ScorePath
from training import behaviour, metrics
from training.baselines import baselines
from training.behaviour import Case
from training.calibrate import prior_weights
from training.dataset import Example, read_all, targets_of
from training.files import base_texts
from training.table import table

Matrix = NDArray[np.float64]
Figure = dict[str, Any]

BEHAVIOUR = CHECKOUT / "data" / "behaviour"
ZEBRA = "zeroeval_zebra"
"""Synthetic logic grids, unlike anything people ask: reported apart."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Examples with what the bundle says of them: ``sufficiency`` and ``probabilities`` are (n, n_tiers)."""

    examples: list[Example]
    sufficiency: Matrix
    probabilities: Matrix
    chosen: NDArray[np.int64]
    accurate: NDArray[np.bool_]  # (n,) whether the accurate path scored the row

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) label index; -1 for outcomes."""
        return np.array([-1 if example.label is None else example.label for example in self.examples])

    @property
    def targets(self) -> Matrix:
        """(n, n_tiers), NaN where unknown."""
        return targets_of(self.examples)


def score(router: Router, examples: Sequence[Example], path: ScorePath = "auto") -> Scored:
    """Score and decide every example with the bundle's own policy, whatever the prompt's size would exclude."""
    scores = router.score([example.prompt for example in examples], path)
    sufficiency = np.array([one.sufficiency for one in scores], dtype=np.float64).reshape(len(scores), -1)
    chosen = [cheapest(one.sufficiency, router.policy.target(one.target_path), range(len(one.tiers))) for one in scores]
    return Scored(
        list(examples),
        sufficiency,
        np.array([one.probabilities for one in scores], dtype=np.float64),
        np.array(chosen, dtype=np.int64),
        np.array([one.path == "accurate" for one in scores]),
    )


def evaluate(
    router: Router,
    bundle: Path,
    examples: Sequence[Example],
    path: ScorePath = "auto",
    seed: int = 0,
    cases: Sequence[Case] = (),
    train: Sequence[Example] = (),
) -> dict[str, Any]:
    """Everything ``metrics.json`` holds: a part ``labelled`` and a part ``outcomes``, each where ``examples`` has such rows, and a
    part ``behaviour`` where there are ``cases``. ``train`` is what the baseline of words may learn from.
    """
    result: dict[str, Any] = {"bundle": router.manifest.version, "tiers": router.manifest.tiers, "path": path}
    labelled = [example for example in examples if example.kind == "labelled"]
    outcomes = [example for example in examples if example.kind == "outcomes"]
    if labelled:
        scored = score(router, labelled, path)
        result["labelled"] = labelled_figures(scored, router.manifest.prior, seed, train)
        if router.accurate and path != "fast":
            result["labelled"]["against_fast"] = gains(scored, score(router, labelled, "fast"), router.manifest.prior, seed)
    if outcomes:
        logits, sufficiency = outcome_scores(router, bundle, outcomes, path)
        result["outcomes"] = outcome_figures(outcomes, logits, sufficiency, router.manifest.tiers, seed)
    if cases:
        result["behaviour"] = behaviour_figures(behaviour.run(router, cases, path), seed)
    return result


def behaviour_cases(folder: Path, data: Sequence[Path]) -> list[Case]:
    """The suite on the test prompts among ``data``; nothing where these are not the prompts that it was written for.

    Raises:
        DataError: see ``behaviour.cases``.
    """
    texts = base_texts(data)
    return [] if behaviour.bases(folder).isdisjoint(texts) else behaviour.cases(folder, texts)


def behaviour_figures(results: Mapping[str, Mapping[str, Sequence[bool]]], seed: int = 0) -> dict[str, Any]:
    """By suite, the share of cases that pass, and the same by kind."""
    figures: dict[str, Any] = {}
    for suite, kinds in results.items():
        passed = np.array([one for values in kinds.values() for one in values], dtype=np.float64)
        figures[suite] = {
            "n": len(passed),
            "rate": _figure(lambda rows, p=passed: p[rows].mean(), len(passed), seed),
            "kinds": {kind: {"n": len(values), "rate": float(np.mean(values))} for kind, values in kinds.items()},
        }
    return figures


def outcome_scores(router: Router, bundle: Path, examples: Sequence[Example], path: ScorePath = "auto") -> tuple[Matrix, Matrix]:
    """(logits, sufficiency), (n, n_tiers) each: the bundle's head asked for measured outcomes, at their own calibration.

    ``auto`` is a matter of decisions, which are made by the rubric: outcomes are ranked by the accurate path where there is one.

    Raises:
        BundleError: the bundle was trained without outcomes.
    """
    prompts = [example.prompt for example in examples]
    logits, sufficiency = _outcome_head(router, bundle, LAYOUT.outcomes).run(*router.features(prompts))
    if router.accurate and path != "fast":
        vectors = router.accurate.encoder.encode([prompt.text for prompt in prompts])
        logits, sufficiency = _outcome_head(router, bundle, LAYOUT.accurate_outcomes).run(logits, vectors)
    return logits.astype(np.float64), sufficiency.astype(np.float64)


def _outcome_head(router: Router, bundle: Path, name: str) -> OnnxHead:
    if name not in router.manifest.files:
        raise BundleError(name, "no entry in the manifest", "a bundle that was trained with outcomes")
    return OnnxHead(bundle / name)


def labelled_figures(scored: Scored, prior: Sequence[float], seed: int = 0, train: Sequence[Example] = ()) -> dict[str, Any]:
    """Tier figures, ranking, calibration and baselines on rows labelled by tier."""
    labels, tiers = scored.labels, len(prior)
    balanced = [1 / tiers] * tiers
    weights = {"stated": prior_weights(labels.tolist(), prior), "balanced": prior_weights(labels.tolist(), balanced)}
    likely = {
        "stated": scored.probabilities.argmax(axis=1),
        "balanced": metrics.reprior(scored.probabilities, prior, balanced).argmax(axis=1),
    }
    result: dict[str, Any] = {"n": len(labels), "n_by_tier": np.bincount(labels, minlength=tiers).tolist()}
    for name, weight in weights.items():
        result[name] = {
            "policy": _tier_figures(scored.chosen, labels, weight, seed),
            "most_likely": _tier_figures(likely[name], labels, weight, seed),
        }
    result["auc"] = {}
    result["calibration"] = {}
    weight = weights["stated"]
    for tier in range(tiers - 1):
        target = (labels <= tier).astype(np.float64)
        probability = scored.sufficiency[:, tier]
        result["auc"][f"up_to_{tier}"] = _figure(
            lambda rows, t=target, p=probability: metrics.soft_auc(t[rows], p[rows]), len(labels), seed
        )
        result["calibration"][f"up_to_{tier}"] = _calibration(probability, target, weight, seed)
    confidence = scored.sufficiency[np.arange(len(labels)), scored.chosen]
    result["calibration"]["confidence"] = _calibration(confidence, (labels <= scored.chosen).astype(np.float64), weight, seed)
    result["confusion"] = [[int(((labels == true) & (scored.chosen == said)).sum()) for said in range(tiers)] for true in range(tiers)]
    result["baselines"] = baselines(scored.examples, labels, weights, prior, seed, train)
    result["slices"] = {
        field: _slices(scored, weights["balanced"], [getattr(example, field) or "-" for example in scored.examples])
        for field in ("task", "style", "language")
    }
    return result


def gains(scored: Scored, fast: Scored, prior: Sequence[float], seed: int = 0) -> dict[str, Figure]:
    """What the accurate path brought, by paired bootstrap over rows that both scored: AUC at each boundary, log-loss (at the stated
    prior, mean over boundaries) and exact decisions (at the balanced prior); with the share of rows it was asked for.
    """
    labels, below_top = scored.labels, range(len(prior) - 1)
    stated, balanced = prior_weights(labels.tolist(), prior), prior_weights(labels.tolist(), [1 / len(prior)] * len(prior))
    result: dict[str, Figure] = {}
    losses = []
    for tier in below_top:
        target = (labels <= tier).astype(np.float64)
        one, other = scored.sufficiency[:, tier], fast.sufficiency[:, tier]
        result[f"auc_up_to_{tier}"] = _figure(
            lambda rows, t=target, a=one, b=other: metrics.soft_auc(t[rows], a[rows]) - metrics.soft_auc(t[rows], b[rows]),
            len(labels),
            seed,
        )
        losses.append(metrics.log_loss(one, target, stated) - metrics.log_loss(other, target, stated))
    loss = np.mean(losses, axis=0)
    right = (scored.chosen == labels).astype(np.float64) - (fast.chosen == labels)
    result["log_loss"] = _figure(lambda rows: loss[rows].mean(), len(labels), seed)
    result["exact"] = _figure(lambda rows: np.average(right[rows], weights=balanced[rows]), len(labels), seed)
    result["asked"] = _figure(lambda rows: np.average(scored.accurate[rows], weights=stated[rows]), len(labels), seed)
    return result


def outcome_figures(
    examples: Sequence[Example], logits: Matrix, sufficiency: Matrix, tiers: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """Ranking and calibration on measured outcomes, a tier at a time."""
    sources = [example.stratum for example in examples]
    lengths = np.array([-np.log1p(example.prompt.chars) for example in examples])
    targets = targets_of(examples)
    result: dict[str, Any] = {"n": len(sources), "sources": {name: sources.count(name) for name in sorted(set(sources))}}
    for index, tier in enumerate(tiers):
        target = targets[:, index]
        known = ~np.isnan(target)
        if not known.any():
            continue  # no model of this tier was measured on these rows
        target, score_, length = target[known], logits[known, index], lengths[known]
        names = [name for name, keep in zip(sources, known, strict=True) if keep]
        probability = sufficiency[known, index]
        rates = {name: float(np.mean([t for t, n in zip(target, names, strict=True) if n == name])) for name in set(names)}
        array = np.array(names)

        def ranking(values: Matrix, target: Matrix = target, array: NDArray[np.str_] = array) -> dict[str, Figure]:
            return {
                "pooled": _figure(lambda rows: metrics.soft_auc(target[rows], values[rows]), len(target), seed),
                "within_source": _figure(
                    lambda rows: metrics.within_source(target[rows], values[rows], array[rows].tolist()), len(target), seed, draws=100
                ),
                "within_source_without_zebra": _figure(
                    lambda rows: metrics.within_source(target[rows], values[rows], array[rows].tolist(), (ZEBRA,)),
                    len(target),
                    seed,
                    draws=100,
                ),
            }

        result[tier] = {
            "n": len(target),
            "auc": ranking(score_),
            "baselines": {
                "length_only": ranking(length),
                "source_rate": {"pooled": {"value": metrics.soft_auc(target, np.array([rates[name] for name in names]))}},
                "oracle": {
                    "pooled": {"value": metrics.soft_auc(target, target)},
                    "within_source": {"value": metrics.within_source(target, target, names)},
                },
            },
            "calibration": _calibration(probability, target, np.ones(len(target)), seed),
        }
    return result


def _figure(statistic: Any, n: int, seed: int, draws: int = 400) -> Figure:
    low, high = metrics.bootstrap(statistic, n, draws=draws, seed=seed)
    return {"value": float(statistic(np.arange(n))), "low": low, "high": high}


def _tier_figures(said: NDArray[np.int64], labels: NDArray[np.int64], weights: Matrix, seed: int) -> dict[str, Figure]:
    events = {
        "exact": said == labels,
        "two_off": np.abs(said - labels) >= 2,
        "under": said < labels,
        "over": said > labels,
    }
    return {
        name: _figure(lambda rows, e=event: np.average(e[rows], weights=weights[rows]), len(labels), seed) for name, event in events.items()
    }


def _calibration(probability: Matrix, target: Matrix, weights: Matrix, seed: int) -> dict[str, Any]:
    return {
        "ece": metrics.ece(probability, target, weights),
        "excess_ece": metrics.excess_ece(probability, target, weights, seed=seed),
        "log_loss": float(metrics.log_loss(probability, target, weights).mean()),
        "reliability": metrics.reliability(probability, target, weights),
    }


def _slices(scored: Scored, weights: Matrix, names: list[str]) -> dict[str, dict[str, float]]:
    array, labels = np.array(names), scored.labels
    return {
        name: {
            "n": int((rows := array == name).sum()),
            "exact": float(np.average(scored.chosen[rows] == labels[rows], weights=weights[rows])),
            "under": float(np.average(scored.chosen[rows] < labels[rows], weights=weights[rows])),
        }
        for name in sorted(set(names))
    }


def without_nan(value: Any) -> Any:
    """``value`` with None where a figure is not defined: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m training.evaluate", description=(__doc__ or "").splitlines()[0])
    result.add_argument("--bundle", type=Path, default=MODELS, help="a bundle, or a folder of bundles with CURRENT (%(default)s)")
    result.add_argument("--data", type=Path, nargs="+", default=[], help="JSONL files or folders")
    result.add_argument(
        "--labels", type=Path, nargs=2, action="append", default=[], metavar=("LABELS", "TEXTS"), help="labels by id, and the texts by id"
    )
    result.add_argument("--split", choices=("test", "train", "all"), default="test", help="rows to use (%(default)s)")
    result.add_argument("--path", choices=get_args(ScorePath), default="auto")
    result.add_argument("--behaviour", type=Path, default=BEHAVIOUR, help="texts of the behavioural suite (%(default)s)")
    result.add_argument("--json", type=Path, help="write every figure to this file")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate and print."""
    arguments = parser().parse_args(argv)
    if not arguments.data and not arguments.labels:
        print("found neither --data nor --labels, expected rows to evaluate on", file=sys.stderr)
        return 1
    try:
        bundle = find(arguments.bundle)
        router = Router.load(bundle)
        examples = read_all(arguments.data, arguments.labels, router.manifest.tiers)
        train = [example for example in examples if example.split == "train" and arguments.split == "test"]
        examples = [example for example in examples if arguments.split in ("all", example.split)]
        if not examples:
            places = [*arguments.data, *(labels for labels, _ in arguments.labels)]
            print(f"no rows of split {arguments.split} in {', '.join(map(str, places))}", file=sys.stderr)
            return 1
        result = evaluate(router, bundle, examples, arguments.path, cases=behaviour_cases(arguments.behaviour, arguments.data), train=train)
    except (PointsmanError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(table(result))
    if arguments.json:
        try:
            arguments.json.write_text(json.dumps(without_nan(result), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            print(f"--json: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
