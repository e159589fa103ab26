"""python -m training.recalibration_study: what recalibration by 50 to 300 labels brings on sources that no part of the heads has seen.

Sources are left out in turn, some at once: of outcomes and of labelled prompts (each file is one). On the others a head is fitted, and
calibrated on every fifth group, as training does. Then labels are drawn from a source that was left out, the calibration is adjusted by
them, and judged on the rest of the source. A measured score between 0 and 1 is drawn as 0 or 1: one answer, as a user would grade it.
The width of the prior is chosen for each source on the others. Training rows alone: test rows have no part in it.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from threadpoolctl import threadpool_limits

from classifier.errors import PointsmanError
from training import metrics
from training.arguments import add_labels
from training.augment import copies
from training.calibrate import DEFAULT_PRIOR, Calibration, fit_calibration, prior_weights, sufficiency_of
from training.crossfit import Reading
from training.dataset import Example, fold_of, read, read_all, targets_of
from training.features import Features
from training.files import below_test, jsonl_files
from training.fit import AUGMENT, ENCODER
from training.heads import CANDIDATES, Head, make
from training.learn import FOLDS, by_source, features_of, learning_targets, learning_weights, load_encoder
from training.own import Base, Own
from training.shrinkage import FOREIGN, WIDTH, Width, at_prior, traffic_shares

Matrix = NDArray[np.float64]

SIZES = (50, 100, 300)
REST = 100
"""Rows that must be left to judge on."""
ROUNDS = 8
"""Heads that are fitted: so many sources of a kind, or fewer, are left out one by one."""
WIDTHS = tuple(Width(shift, slope) for shift in (0.25, 0.5, 1.0, 2.0) for slope in (0.2, 0.4, 0.8))
BASE = Base(tuple(DEFAULT_PRIOR.values()), "rubric")
_WIDTH_DRAWS = 20
_NULLS = 20


@dataclass(frozen=True, slots=True)
class Case:
    """A source that was left out, and what a head that never saw it says of its rows."""

    source: str
    head: str
    reading: Reading
    own: Own

    @property
    def foreign(self) -> bool:
        """Whether its rows are of another basis than the head's calibration."""
        return self.reading.serves and self.own.basis != BASE.basis

    def sizes(self) -> list[int]:
        """Numbers of labels that leave enough to judge on."""
        return [size for size in SIZES if size + REST <= len(self.own.labels)]

    def drawn(self, random: np.random.Generator) -> Own:
        """Its rows with targets of 0 and 1."""
        with np.errstate(invalid="ignore"):
            passed = (random.random((len(self.own.labels), 1)) < self.own.targets).astype(np.float64)
        return replace(self.own, targets=np.where(np.isnan(self.own.targets), np.nan, passed))


@dataclass(frozen=True, slots=True)
class Effect:
    """(n_draws,) log-losses and (n_draws,) excess calibration errors before and after, means over tiers."""

    loss: tuple[Matrix, Matrix]
    excess: tuple[Matrix, Matrix]

    @property
    def rise(self) -> Matrix:
        """(n_draws,) of log-loss."""
        return self.loss[1] - self.loss[0]


def cases(rows: Sequence[Example], count: int, features: Features, candidate: str, console: Console, seed: int = 0) -> list[Case]:
    """Every source with enough rows, read by a head that was fitted without it.

    ``rows`` are the training examples, of which there are ``count``, and then changed copies of some.

    Raises:
        ValueError: no source has enough rows, or others of its kind to learn from.
    """
    sources = np.array([row.source for row in rows])
    kinds = np.array([row.kind for row in rows])
    example = np.arange(len(rows)) < count
    large = {
        kind: [name for name in sorted(set(sources[kinds == kind])) if (example & (sources == name)).sum() >= SIZES[0] + REST]
        for kind in ("labelled", "outcomes")
        if len(set(sources[kinds == kind])) > 1  # others to learn from
    }
    rounds = [out for turn in range(ROUNDS) if (out := [name for names in large.values() for name in names[turn::ROUNDS]])]
    if not rounds:
        raise ValueError(
            f"found the sources {sorted({row.source for row in rows})}, expected several of a kind, one of them of {SIZES[0] + REST} rows"
        )
    targets, weights = learning_targets(rows), learning_weights(rows)
    kept = np.array([fold_of(row.group, FOLDS, seed) for row in rows]) == 0
    result = []
    for out in track(rounds, "leaving sources out", console=console, transient=True):
        held = np.isin(sources, out)
        learned = ~held & ~kept
        head = make(candidate, seed).fit(features[learned], targets[learned], weights[learned])
        shipped = _shipped(
            head, [row for row, taken in zip(rows, ~held & kept & example, strict=True) if taken], features[~held & kept & example]
        )
        for source in out:
            chosen = example & (sources == source)
            own = Own.of([row for row, taken in zip(rows, chosen, strict=True) if taken])
            for name, calibration in shipped.items():
                if name == "serving" or own.kind == "outcomes":
                    logits = _logits(head, features[chosen], int(name == "outcomes"))
                    result.append(Case(source, name, Reading(logits, calibration, name == "serving"), own))
    return result


def _logits(head: Head, features: Features, basis: int) -> Matrix:
    return head.logits(replace(features, basis=np.full(len(features), basis, np.float32)))


def _shipped(head: Head, rows: Sequence[Example], features: Features) -> dict[str, Calibration]:
    """Calibrations as training would ship them, on rows that the head did not see."""
    measured = np.array([row.kind == "outcomes" for row in rows])
    targets = targets_of(rows)
    labels = [row.label for row in rows if row.label is not None]
    stated = prior_weights(labels, BASE.prior, np.array([row.weight for row in rows if row.label is not None]))
    result = {"serving": fit_calibration(_logits(head, features[~measured], 0), targets[~measured], stated, top_is_certain=True)}
    if measured.any():
        result["outcomes"] = fit_calibration(_logits(head, features[measured], 1), targets[measured], by_source(rows), top_is_certain=False)
    return result


def effect(case: Case, size: int, width: Width, draws: int, seed: int = 0, *, excess: bool = True) -> Effect:
    """Recalibrate by ``size`` rows drawn at random, and judge on the rest, ``draws`` times. Without ``excess`` those figures are 0."""
    random = np.random.default_rng(seed)
    losses, errors = np.zeros((2, draws)), np.zeros((2, draws))
    for draw in range(draws):
        own = case.drawn(random)
        taken = np.isin(np.arange(len(own.labels)), random.permutation(len(own.labels))[:size])
        now = case.reading.adjusted(own, BASE, taken, width)
        for at, calibration in enumerate((case.reading.shipped, now)):
            losses[at, draw], errors[at, draw] = _figures(
                sufficiency_of(case.reading.logits[~taken], calibration), own.rows(~taken), excess=excess
            )
    return Effect((losses[0], losses[1]), (errors[0], errors[1]))


def _figures(sufficiency: Matrix, own: Own, *, excess: bool = True) -> tuple[float, float]:
    """(log-loss, excess ECE), means over the tiers that rows tell of."""
    losses, errors = [], []
    for tier in own.judged:
        known = ~np.isnan(own.targets[:, tier])
        if known.any():
            values, targets = sufficiency[known, tier], own.targets[known, tier]
            losses.append(metrics.log_loss(values, targets).mean())
            errors.append(metrics.excess_ece(values, targets, draws=_NULLS) if excess else 0.0)
    return float(np.mean(losses)), float(np.mean(errors))


def best_width(losses: Sequence[tuple[Case, Matrix]], foreign: bool, without: str | None = None) -> Width:
    """Of ``WIDTHS`` the one of least mean log-loss, of which ``losses`` hold one a width, among cases that are ``foreign`` or not. Labels
    and outcomes count alike, however many sources there are of each.
    """
    kept = [(case.own.kind, values) for case, values in losses if case.foreign == foreign and case.source != without]
    means = [np.mean([values for kind, values in kept if kind == one], axis=0) for one in sorted({kind for kind, _ in kept})]
    return WIDTHS[int(np.mean(means, axis=0).argmin())]


def by_traffic(case: Case) -> Effect:
    """What its unlabelled rows alone bring: one draw."""
    before = sufficiency_of(case.reading.logits, case.reading.shipped)
    shares = traffic_shares(np.diff(before, prepend=0.0), BASE.prior)
    after = sufficiency_of(case.reading.logits, at_prior(case.reading.shipped, BASE.prior, shares))
    (old_loss, old_excess), (new_loss, new_excess) = (_figures(values, case.own) for values in (before, after))
    return Effect((np.array([old_loss]), np.array([new_loss])), (np.array([old_excess]), np.array([new_excess])))


def study(found: Sequence[Case], draws: int, console: Console) -> list[str]:
    """The lines of the table: every case and size, and the means over sources."""
    losses = [
        (case, np.array([effect(case, size, width, _WIDTH_DRAWS, 1, excess=False).loss[1].mean() for width in WIDTHS]))
        for case in track(found, "choosing widths", console=console, transient=True)
        for size in case.sizes()
    ]
    widths = {(case.source, case.head): best_width(losses, case.foreign, case.source) for case in found}
    effects: dict[tuple[str, str], list[Effect]] = {}
    lines = [_line("source", "basis, head", "rows", ("log-loss", "after", "rise, 95 %"), ("excess ECE", "after"))]

    def add(case: Case, kind: str, rows: str, one: Effect) -> None:
        effects.setdefault((kind, rows), []).append(one)
        lines.append(_line(case.source, kind, rows, *_values([one])))

    for case in track(found, "recalibrating", console=console, transient=True):
        kind = f"{case.own.kind}, {case.head}"
        for size in case.sizes():
            add(case, kind, str(size), effect(case, size, widths[case.source, case.head], draws))
        if case.own.kind == "labelled":
            add(case, kind, "traffic", by_traffic(case))
    lines += [
        _line(f"mean of {len(ones)}", kind, rows, *_values(ones))
        for (kind, rows), ones in sorted(effects.items(), key=lambda item: item[0][0])
    ]
    for foreign in sorted({case.foreign for case in found}):
        chosen = sorted({astuple(widths[case.source, case.head]) for case in found if case.foreign == foreign})
        every, used = astuple(best_width(losses, foreign)), astuple(FOREIGN if foreign else WIDTH)
        lines.append(
            f"widths (shift, slope){', another basis' if foreign else ''}: chosen without the source {chosen}, by all {every}, used {used}"
        )
    return lines


def _values(effects: Sequence[Effect]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Means over sources; of the 95th percentiles of the rise too."""
    losses = [np.mean([one.loss[at].mean() for one in effects]) for at in (0, 1)]
    rise = np.mean([np.percentile(one.rise, 95) for one in effects])
    errors = [np.mean([one.excess[at].mean() for one in effects]) for at in (0, 1)]
    return (f"{losses[0]:.4f}", f"{losses[1]:.4f}", f"{rise:+.4f}"), (f"{errors[0]:+.4f}", f"{errors[1]:+.4f}")


def _line(source: str, kind: str, rows: str, losses: Iterable[str], errors: Iterable[str]) -> str:
    return f"{source:22} {kind:19} {rows:>7} " + " ".join(f"{value:>10}" for value in (*losses, *errors))


def training_rows(prompts: Sequence[Path], outcomes: Sequence[Path], joined: Sequence[tuple[Path, Path]]) -> list[Example]:
    """Training rows; of labelled prompts each file is a source of its own."""
    files = [file for path in prompts for file in jsonl_files(path) if not below_test(file, path)]
    written = [replace(example, source=file.stem) for file in files for example in read([file], unassigned="train")]
    return [example for example in [*written, *read_all(outcomes, joined)] if example.split == "train"]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m training.recalibration_study", description=(__doc__ or "").splitlines()[0])
    result.add_argument("--prompts", type=Path, nargs="+", default=[Path("data/prompts")], help="labelled prompts (%(default)s)")
    result.add_argument("--outcomes", type=Path, nargs="+", default=[], help="measured outcomes with their pools.json")
    add_labels(result)
    result.add_argument("--augment", type=Path, default=AUGMENT, help="texts to dress copies of prompts with (%(default)s)")
    result.add_argument("--encoder", type=Path, default=ENCODER, help="folder with the static encoder to start from (%(default)s)")
    result.add_argument("--head", choices=CANDIDATES, default=CANDIDATES[-1], help="(%(default)s)")
    result.add_argument("--draws", type=int, default=200, help="of labels, for each source and number (%(default)s)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, recalibrate and print. Exit code 1: bad input."""
    arguments = parser().parse_args(argv)
    console = Console()
    try:
        examples = training_rows(arguments.prompts, arguments.outcomes, [tuple(pair) for pair in arguments.labels])
        rows = [*examples, *copies(examples, arguments.augment, 0)]
        features = features_of(rows, *load_encoder(arguments.encoder))
        with threadpool_limits(limits=1):
            found = cases(rows, len(examples), features, arguments.head, console)
            lines = study(found, arguments.draws, console)
    except (PointsmanError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
