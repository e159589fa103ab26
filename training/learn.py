"""Examples -> what they teach: heads compared on held-out folds, and the best one's calibrations and target."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from scipy.sparse import csr_matrix

from classifier import signals as signal_table
from classifier.encoder import StaticEncoder
from classifier.errors import BundleError
from training import encoders, metrics
from training.calibrate import Calibration, fit_calibration, prior_weights, sufficiency_of
from training.dataset import Example, fold_of, targets_of
from training.features import Features
from training.figures import ZEBRA
from training.heads import FAMILIES, candidate_logits, cross_fit, source_weights
from training.risk import Risk, control

Matrix = NDArray[np.float64]

FOLDS = 5
OUTCOME_SHARE = 1.0
SOURCE_CAP = 2_000


@dataclass(frozen=True, slots=True)
class Learned:
    """What the training rows say of each candidate, and the calibrations and target of the best."""

    candidate: str
    comparison: dict[str, dict[str, float]]
    calibrations: dict[str, Calibration]
    risk: Risk
    cross_fitted: dict[str, float]  # excess calibration error by what is calibrated


def load_encoder(folder: Path) -> tuple[StaticEncoder, NDArray[np.float32]]:
    """The static encoder in ``folder``, and its vectors.

    Raises:
        BundleError: a file is missing, or is no encoder as training.encoders writes it.
    """
    for name in ("encoder.onnx", "tokenizer.json"):
        if not (folder / name).is_file():
            raise BundleError(str(folder / name), "no file", "an encoder as training.encoders writes it")
    return StaticEncoder(folder), encoders.read(folder)


def features_of(examples: Sequence[Example], encoder: StaticEncoder, vectors: NDArray[np.float32]) -> Features:
    """What serving would compute for these prompts, by the same code."""
    prompts = [example.prompt for example in examples]
    basis = np.array([example.kind == "outcomes" for example in examples], dtype=np.float32)
    ids = [np.array(encoder.token_ids(prompt.ask), dtype=np.int64) for prompt in prompts]
    flat, places = np.concatenate(ids), np.cumsum([0, *map(len, ids)])
    tokens = csr_matrix((np.ones(len(flat), np.float32), flat, places), (len(ids), len(vectors)))
    tokens.sum_duplicates()
    return Features(signal_table.signal_matrix(prompts), tokens, basis, vectors)


def learning_targets(examples: Sequence[Example]) -> Matrix:
    """(n, n_tiers) targets to learn from. That the top tier suffices for a labelled prompt is a definition, not an
    observation, so it is masked: outcomes alone teach the top tier.
    """
    targets = targets_of(examples)
    targets[[example.kind == "labelled" for example in examples], -1] = np.nan
    return targets


def learn(
    rows: Sequence[Example],
    count: int,
    features: Features,
    *,
    candidates: Sequence[str],
    prior: Sequence[float],
    tiers: Sequence[str],
    seed: int,
    progress: Progress,
) -> Learned:
    """Compare the candidates by cross-fitting; calibrate the best and choose its target, all on held-out logits.

    ``rows`` are the training examples, of which there are ``count``, and then changed copies of some, which heads learn from as
    well; every figure is of the examples alone. A copy is of its original's group, so that neither is learned while the other is
    held out.
    """
    targets, weights = learning_targets(rows), learning_weights(rows)
    folds = np.array([fold_of(row.group, FOLDS, seed) for row in rows])
    families = [name for name in FAMILIES if any(name in candidate.split("+") for candidate in candidates)]
    task = progress.add_task("cross-fitting heads", total=FOLDS * len(families))
    by_family = {
        name: cross_fit(name, features, targets, weights, folds, seed, lambda: progress.advance(task))[:count] for name in families
    }
    examples, folds, targets = rows[:count], folds[:count], targets[:count]
    labelled = np.array([example.kind == "labelled" for example in examples])
    labels = np.array([example.label for example in examples if example.label is not None])
    stated = prior_weights(labels.tolist(), prior, np.array([e.weight for e in examples if e.label is not None]))
    comparison: dict[str, dict[str, float]] = {}
    for candidate in candidates:
        comparison[candidate] = _compare(candidate_logits(candidate, by_family), examples, labelled, stated, tiers, folds)
    best = min(comparison, key=lambda name: comparison[name]["log_loss"])
    logits = candidate_logits(best, by_family)
    rubric = fit_calibration(logits[labelled], targets_of(examples)[labelled], stated, top_is_certain=True)
    calibrations = {"rubric": rubric}
    if not labelled.all():
        calibrations["outcomes"] = fit_calibration(logits[~labelled], targets[~labelled], by_source(examples), top_is_certain=False)
    crossed = cross_calibrated(logits[labelled], targets_of(examples)[labelled], stated, folds[labelled])
    return Learned(
        candidate=best,
        comparison=comparison,
        calibrations=calibrations,
        risk=control(crossed, labels.tolist(), prior),
        cross_fitted={
            f"up_to_{tiers[tier]}": metrics.excess_ece(crossed[:, tier], (labels <= tier).astype(float), stated)
            for tier in range(len(tiers) - 1)
        },
    )


def cross_calibrated(logits: Matrix, targets: Matrix, weights: Matrix, folds: NDArray[np.int64]) -> Matrix:
    """Sufficiency of rows under calibrations fitted without their fold, so that no figure of it flatters itself."""
    result = np.zeros_like(logits)
    for fold in np.unique(folds):
        inside = folds == fold
        calibration = fit_calibration(logits[~inside], targets[~inside], weights[~inside], top_is_certain=True)
        result[inside] = sufficiency_of(logits[inside], calibration)
    return result


def _compare(
    logits: Matrix, examples: Sequence[Example], labelled: NDArray[np.bool_], stated: Matrix, tiers: Sequence[str], folds: NDArray[np.int64]
) -> dict[str, float]:
    targets = targets_of(examples)
    sufficiency = cross_calibrated(logits[labelled], targets[labelled], stated, folds[labelled])
    below_top = range(len(tiers) - 1)
    result = {
        "log_loss": float(np.mean([metrics.log_loss(sufficiency[:, t], targets[labelled, t], stated).mean() for t in below_top])),
        **{f"auc_up_to_{tiers[t]}": metrics.soft_auc(targets[labelled, t], logits[labelled, t]) for t in below_top},
    }
    if not labelled.all():
        known = ~labelled & ~np.isnan(targets[:, 0])
        sources = [example.stratum for example, keep in zip(examples, known, strict=True) if keep]
        result["outcomes_pooled"] = metrics.soft_auc(targets[known, 0], logits[known, 0])
        result["outcomes_within_source"] = metrics.within_source(targets[known, 0], logits[known, 0], sources, (ZEBRA,))
    return result


def by_source(examples: Sequence[Example]) -> Matrix:
    """Weights of the outcome rows alone, balanced by source as in learning."""
    sources = [example.source for example in examples if example.kind == "outcomes"]
    return source_weights(sources, [False] * len(sources), 1.0, SOURCE_CAP)


def learning_weights(examples: Sequence[Example]) -> Matrix:
    """(n,) weights to learn by: a row's own, balanced over sources."""
    labelled = [example.kind == "labelled" for example in examples]
    balanced = source_weights([example.source for example in examples], labelled, OUTCOME_SHARE, SOURCE_CAP)
    return np.asarray(balanced * np.array([example.weight for example in examples]))
