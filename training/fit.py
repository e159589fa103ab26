"""python -m training.fit: labelled prompts (and measured outcomes) -> a bundle that serves.

files -> examples -> the serving encoder and signals -> heads compared on held-out folds -> calibration and target on the
held-out logits -> the best head refitted on all training rows -> a staged bundle -> from here on only what will serve:
parity, evaluation on test rows, report -> models/<version> -> CURRENT moves if the new bundle is not worse.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from classifier import Router
from classifier import signals as signal_table
from classifier.bundle import LAYOUT, find
from classifier.errors import BundleError, PointsmanError
from classifier.head import OnnxHead
from classifier.router import CHECKOUT, MODELS
from training import evaluate, gate, staging
from training.arguments import add_labels, command
from training.augment import copies
from training.calibrate import DEFAULT_PRIOR
from training.dataset import TIERS, Example, fold_of, read_all
from training.export import PARITY, head_onnx, parity
from training.files import digests
from training.heads import CANDIDATES, make, tuned_vectors
from training.learn import Learned, features_of, learn, learning_targets, learning_weights, load_encoder
from training.table import table
from training.task import fit_tasks, task_onnx
from training.typical import typical_of

ENCODER = MODELS / "encoder"
AUGMENT = CHECKOUT / "data" / "augment" / "fillers.json"
TASK_FOLDS = 2  # enough for one temperature
ENOUGH = 30  # labelled prompts a tier, below which nothing can be calibrated


@dataclass(frozen=True, slots=True)
class Settings:
    """One training run."""

    prompts: tuple[Path, ...]
    outcomes: tuple[Path, ...]
    encoder: Path
    models: Path
    prior: tuple[float, ...]
    tiers: tuple[str, ...] = TIERS
    seed: int = 0
    candidates: tuple[str, ...] = CANDIDATES
    joined: tuple[tuple[Path, Path], ...] = ()  # labels, and the texts they are for
    augment: Path | None = None
    promote: bool = False
    command: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is learned from."""
        return (*self.prompts, *self.outcomes, *sum(self.joined, ()), *([self.augment] if self.augment else ()))


def fit(settings: Settings, console: Console) -> int:
    """Train, stage, evaluate, and promote where the gate allows it. Returns the exit code.

    Raises:
        PointsmanError: data, encoder or bundle cannot be used.
        ValueError: too few labels, or a tier of the prior without any.
    """
    examples = read_all([*settings.prompts, *settings.outcomes], settings.joined, settings.tiers)
    train = [example for example in examples if example.split == "train"]
    test = [example for example in examples if example.split == "test"]
    _enough(train, settings.tiers)
    _apart(train, test)
    encoder, vectors = load_encoder(settings.encoder)
    with Progress(console=console, transient=not console.is_terminal) as progress:
        task = progress.add_task("signals and embeddings", total=1)
        rows = [*train, *(copies(train, settings.augment, settings.seed) if settings.augment else ())]
        features = features_of(rows, encoder, vectors)
        progress.advance(task)
        learned = learn(
            rows,
            len(train),
            features,
            candidates=settings.candidates,
            prior=settings.prior,
            tiers=settings.tiers,
            seed=settings.seed,
            progress=progress,
        )
        task = progress.add_task(f"fitting {learned.candidate} on all training rows", total=1)
        head = make(learned.candidate, settings.seed).fit(features, learning_targets(rows), learning_weights(rows))
        tuned = tuned_vectors(head)
        progress.advance(task)
        task = progress.add_task("what kind of task", total=TASK_FOLDS + 1)
        folds = np.array([fold_of(example.group, TASK_FOLDS, settings.seed) for example in train])
        serving_vectors = vectors if tuned is None else tuned
        tasks = fit_tasks(train, features[: len(train)], serving_vectors, folds, lambda: progress.advance(task))
    _print_comparison(learned, console)
    bases = {"rubric": 0, "outcomes": 1}
    graphs = {
        name: head_onnx(head, calibration, basis=bases[name], n_signals=len(signal_table.NAMES), dim=encoder.dim)
        for name, calibration in learned.calibrations.items()
    }
    staged = staging.write(
        settings.models,
        encoder=settings.encoder,
        vectors=tuned,
        task=task_onnx(tasks) if tasks else None,
        typical=typical_of(train, features[: len(train)], serving_vectors, settings.prior),
        heads=graphs,
        tiers=settings.tiers,
        prior=settings.prior,
        calibrations=learned.calibrations,
        risk=learned.risk,
        facts={
            "basis": "rubric",
            "calibrated_for": {"basis": "rubric", "models": None},
            "head": {"candidate": learned.candidate, "comparison": learned.comparison, "cross_fitted_excess_ece": learned.cross_fitted},
            "task": {"names": tasks.names, "n": tasks.n, "accuracy": tasks.accuracy, "mean_probability": tasks.mean_probability}
            if tasks
            else None,
            "encoder": {"start": encoder.fingerprint, **encoder.provenance},
            "data": digests(settings.files),
            "risk_bound_held": learned.risk.qualified,
            "rows": {"train": len(train), "test": len(test)},
            "seed": settings.seed,
            "command": settings.command,
        },
        seen=train,
        estimators=head,
    )
    router = Router.load(staged)
    served = router.features([example.prompt for example in rows])
    difference = max(
        parity(head, calibration, features, served, bases[name], OnnxHead(staged / staging.HEADS[name]).run)
        for name, calibration in learned.calibrations.items()
    )
    if difference > PARITY:
        raise BundleError(LAYOUT.head, f"sufficiency that differs from the estimators' by {difference:.1e}", f"at most {PARITY:.0e}")
    cases = evaluate.behaviour_cases(evaluate.BEHAVIOUR, settings.prompts)
    result = evaluate.evaluate(router, staged, test, seed=settings.seed, cases=cases, train=train) if test else {}
    final = staging.finish(staged, result, parity=difference)
    if result:
        console.print(table({**result, "bundle": final.name}), highlight=False, soft_wrap=True, markup=False)
    console.print(f"parity with the estimators: {difference:.1e} (allowed {PARITY:.0e})", highlight=False)
    return promoted(final, test, settings.models, settings.promote, console)


def promoted(staged: Path, test: Sequence[Example], models: Path, regardless: bool, console: Console) -> int:
    """Promote a finished bundle where the gate allows it, or ``regardless``. Returns the exit code."""
    router = Router.load(staged)
    try:
        current = find(models)
    except BundleError:
        current = None
    verdict = gate.first(router) if current is None else gate.compare(router, current, test)
    console.print(verdict.text, highlight=False, markup=False)
    if verdict.passed or regardless:
        target = staging.promote(staged, models)
        console.print(f"promoted: {target.name} is current", highlight=False)
        return 0
    console.print(f"stays staged in {staged}; --promote overrides", highlight=False)
    return 3


def _enough(train: Sequence[Example], tiers: tuple[str, ...]) -> None:
    counts = np.bincount([example.label for example in train if example.label is not None], minlength=len(tiers))
    lacking = [f"{tier}: {count}, {ENOUGH - count} missing" for tier, count in zip(tiers, counts, strict=True) if count < ENOUGH]
    if lacking:
        raise ValueError(f"too few labelled training prompts, at least {ENOUGH} a tier are needed ({'; '.join(lacking)})")


def _apart(train: Sequence[Example], test: Sequence[Example]) -> None:
    tested = {staging.seen_key(example): example.id for example in test if example.kind == "labelled"}
    for example in train:
        if example.kind == "labelled" and (other := tested.get(staging.seen_key(example))) is not None:
            raise ValueError(f"{example.id}: found the text of the test row {other} among the training rows, expected it on one side only")


def _print_comparison(learned: Learned, console: Console) -> None:
    names = list(next(iter(learned.comparison.values())))
    lines = ["held-out comparison of heads (the lowest log-loss ships)", "  " + f"{'head':22}" + " ".join(f"{name:>22}" for name in names)]
    for candidate, figures in learned.comparison.items():
        mark = "*" if candidate == learned.candidate else " "
        lines.append(f"{mark} {candidate:22}" + " ".join(f"{figures[name]:22.4f}" for name in names))
    risk = learned.risk
    lines.append(
        f"target {risk.target}: under-routing {risk.under:.3f} (bound {risk.under_bound:.3f}), of the top tier's prompts "
        f"{risk.under_top:.3f} (bound {risk.under_top_bound:.3f}), over-routing {risk.over:.3f}, on {list(risk.n)} prompts"
    )
    if not risk.qualified:
        lines.append(f"no target keeps the risk bound; labels missing at these rates, by tier: {list(risk.missing)}")
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)


def prior_of(text: str | None, tiers: tuple[str, ...]) -> tuple[float, ...]:
    """``small=.6,medium=.3,large=.1`` -> shares in the order of ``tiers``.

    Raises:
        ValueError: other names than the tiers, or shares that are not positive or do not sum to 1.
    """
    if text is None:
        shares = DEFAULT_PRIOR if set(tiers) == set(DEFAULT_PRIOR) else dict.fromkeys(tiers, 1 / len(tiers))
    else:
        pairs = [part.partition("=") for part in text.split(",")]
        try:
            shares = {name.strip(): float(value) for name, _, value in pairs}
        except ValueError:
            raise ValueError(f"--prior: found {text!r}, expected tier=share pairs such as small=.6,medium=.3,large=.1") from None
    if set(shares) != set(tiers) or not min(shares.values()) > 0 or not abs(sum(shares.values()) - 1) <= 1e-6:
        raise ValueError(f"--prior: found {shares}, expected a share above 0 for each of {', '.join(tiers)}, 1 together")
    return tuple(shares[tier] for tier in tiers)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m training.fit", description=(__doc__ or "").splitlines()[0])
    result.add_argument(
        "--prompts", type=Path, nargs="+", default=[Path("data/prompts")], help="labelled prompts: files or folders (%(default)s)"
    )
    result.add_argument("--outcomes", type=Path, nargs="+", default=[], help="measured outcomes with their pools.json: files or folders")
    add_labels(result)
    result.add_argument("--augment", type=Path, default=AUGMENT, help="texts to dress copies of prompts with (%(default)s)")
    result.add_argument("--encoder", type=Path, default=ENCODER, help="folder with the static encoder to start from (%(default)s)")
    result.add_argument("--models", type=Path, default=MODELS, help="where bundles live (%(default)s)")
    result.add_argument("--tiers", default=",".join(TIERS), help="tier names, cheapest first (%(default)s)")
    result.add_argument("--prior", help="shares of tiers in traffic (default: small=.6,medium=.3,large=.1)")
    result.add_argument("--heads", nargs="+", default=list(CANDIDATES), choices=CANDIDATES, help="what to compare (%(default)s)")
    result.add_argument("--seed", type=int, default=0)
    result.add_argument("--promote", action="store_true", help="make the new bundle current whatever the gate says")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: promoted; 1: bad input; 3: trained, but stays staged."""
    arguments = parser().parse_args(argv)
    console = Console()
    try:
        tiers = tuple(name.strip() for name in arguments.tiers.split(","))
        settings = Settings(
            prompts=tuple(arguments.prompts),
            outcomes=tuple(arguments.outcomes),
            encoder=arguments.encoder,
            models=arguments.models,
            prior=prior_of(arguments.prior, tiers),
            tiers=tiers,
            seed=arguments.seed,
            candidates=tuple(arguments.heads),
            joined=tuple((labels, texts) for labels, texts in arguments.labels),
            augment=arguments.augment,
            promote=arguments.promote,
            command=command("training.fit", argv),
        )
        # On data this small a second thread gains little, and threads that spin for each other cost minutes on a busy machine.
        with threadpool_limits(limits=1):
            return fit(settings, console)
    except (PointsmanError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
