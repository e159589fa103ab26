"""python -m training.recalibrate: a bundle for your own traffic, from 50 to 500 labels or outcomes of it.

Of the graphs only the calibration changes: one shift and one slope a tier. They are shrunk towards the shipped ones, at the shares of
tiers in your traffic: those stated, those of the rows, or those that unlabelled traffic shows. The policy's targets change where the
labels can bound under-routing. What changed is judged on your rows by cross-fitting, and the new bundle becomes current only if its
log-loss on them is no higher.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from classifier import Router
from classifier.bundle import LAYOUT, find
from classifier.errors import PointsmanError
from classifier.router import MODELS
from training import staging
from training.arguments import add_labels, command
from training.calibrate import Calibration
from training.crossfit import (
    DEARER,
    Vouched,
    base_of,
    calibration_of,
    comparison,
    cross_fit,
    readings_of,
    serving_heads,
    serving_paths,
    shipped,
    vouched,
)
from training.dataset import Example, requests
from training.files import digests
from training.fit import prior_of
from training.own import Own, enough, models_of, own_rows
from training.shrinkage import Prior, at_prior, traffic_shares
from training.table import table

ENOUGH_TRAFFIC = 100
"""Unlabelled prompts."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One run: by ``data`` and ``joined``, perhaps at a stated ``prior``; by ``traffic``; or by a ``prior`` alone."""

    bundle: Path
    models: Path
    data: tuple[Path, ...] = ()
    joined: tuple[tuple[Path, Path], ...] = ()
    traffic: tuple[Path, ...] = ()
    prior: str | None = None
    seed: int = 0
    at_any_cost: bool = False
    promote: bool = False
    command: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What a bundle shall bear instead: calibrations by the graph's file; the shares of tiers that they assume; evidence for targets."""

    calibrations: dict[str, Calibration]
    prior: Prior
    facts: dict[str, Any]  # of the run, for the manifest
    targets: dict[Any, Vouched] = field(default_factory=dict)  # by path
    figures: dict[str, Any] = field(default_factory=dict)  # by path: before, after and change on the user's own rows
    basis: dict[str, Any] | None = None  # what ``calibrated_for`` says; None leaves it
    seen: tuple[Example, ...] = ()


def recalibrate(settings: Settings, console: Console) -> int:
    """Adjust, stage, verify, and promote where the gate allows it. Returns the exit code.

    Raises:
        PointsmanError: data or bundle cannot be used.
        ValueError: too few rows, or arguments that contradict each other.
    """
    given = bool(settings.data or settings.joined)
    if not (given or settings.traffic or settings.prior):
        raise ValueError("found none of --data, --labels, --traffic and --prior, expected something to recalibrate by")
    if settings.traffic and (given or settings.prior):
        raise ValueError("--traffic: found beside --data, --labels or --prior, expected it alone: they say the shares of tiers themselves")
    base = find(settings.bundle)
    router = Router.load(base)
    if given:
        change = by_rows(settings, base, router)
    elif settings.traffic:
        change = by_traffic(settings, router)
    else:
        change = by_prior(router, prior_of(settings.prior, router.manifest.tiers), {"prior_from": "stated"})
    final = stage(settings, base, router, change)
    result = json.loads((final / LAYOUT.metrics).read_bytes())
    console.print(table(result), highlight=False, soft_wrap=True, markup=False)
    return promoted(final, settings, change, router, console)


def by_rows(settings: Settings, base: Path, router: Router) -> Change:
    """From labels or outcomes."""
    tiers, bundle = router.manifest.tiers, base_of(router)
    examples, left_out = own_rows(settings.data, settings.joined, base, tiers)
    outcomes = examples[0].kind == "outcomes"
    if outcomes and settings.prior:
        raise ValueError("--prior: found beside outcomes, expected it beside labels: shares of tiers follow from outcomes")
    own = Own.of(examples, prior_of(settings.prior, tiers) if settings.prior else None)
    enough(own, tiers)
    readings = readings_of(router, base, [example.prompt for example in examples], outcomes=outcomes)
    prior = own.prior(bundle)
    crossed = cross_fit(router, readings, own, settings.seed, at_any_cost=settings.at_any_cost)
    counts = np.bincount(own.labels, minlength=len(tiers)) if not outcomes else (~np.isnan(own.targets)).sum(axis=0)
    return Change(
        {name: reading.adjusted(own, bundle) for name, reading in readings.items()},
        prior,
        {
            "prior_from": "stated" if own.stated else "rows",
            "kind": own.kind,
            "rows": dict(zip(tiers, counts.tolist(), strict=True)),
            "left_out": left_out,
        },
        vouched(router, crossed.said, own, prior, at_any_cost=settings.at_any_cost),
        comparison(shipped(router, readings), crossed, own, tiers, settings.seed),
        {"basis": "outcomes", "models": models_of(settings.data, examples, tiers)} if outcomes else {"basis": "rubric", "models": None},
        tuple(examples),
    )


def by_traffic(settings: Settings, router: Router) -> Change:
    """From unlabelled prompts, of which the shares of tiers are all that is learned."""
    prompts = [prompt for *_, prompt in requests(settings.traffic)]
    if len(prompts) < ENOUGH_TRAFFIC:
        raise ValueError(
            f"--traffic: found {len(prompts)} prompts, expected at least {ENOUGH_TRAFFIC}: {ENOUGH_TRAFFIC - len(prompts)} missing"
        )
    probabilities = np.array([scores.probabilities for scores in router.score(prompts)], dtype=np.float64)
    shares = traffic_shares(probabilities, router.manifest.prior)
    return by_prior(router, shares, {"prior_from": "traffic", "rows": len(prompts)})


def by_prior(router: Router, prior: Prior, facts: dict[str, Any]) -> Change:
    """From shares of tiers alone."""
    old = router.manifest.prior
    return Change({name: at_prior(calibration_of(head), old, prior) for name, head in serving_heads(router).items()}, prior, facts)


def stage(settings: Settings, base: Path, router: Router, change: Change) -> Path:
    """A finished bundle in the staging folder: the base's files but for calibration, policy, manifest and figures; verified by loading it."""
    manifest, policy = router.manifest, json.loads((base / LAYOUT.policy).read_bytes())
    tiers = manifest.tiers
    data = (*settings.data, *sum(settings.joined, ()), *settings.traffic)
    targets = {path: router.policy.target(path) for path in serving_paths(router)}
    risks = {path: one.risk for path, one in change.targets.items()}
    recalibration = {
        "parent": manifest.version,
        "command": settings.command,
        "data": digests(data),
        "prior": dict(zip(tiers, change.prior, strict=True)),
        "parent_prior": dict(zip(tiers, manifest.prior, strict=True)),
        **change.facts,
    }
    staged = staging.copy(base, settings.models, accurate=True)
    staging.restate(
        staged,
        calibrations=change.calibrations,
        policy={
            **policy,
            "targets": targets | {path: risk.target for path, risk in risks.items()},
            "risk": policy.get("risk", {}) | {path: asdict(risk) for path, risk in risks.items()},
        },
        facts={
            "prior": dict(zip(tiers, change.prior, strict=True)),
            **({"basis": change.basis["basis"], "calibrated_for": change.basis} if change.basis else {}),
            "risk_bound_held": bool(risks) and all(risk.qualified for risk in risks.values()),
        },
        recalibration=recalibration,
        seen=change.seen,
    )
    Router.load(staged)
    result = {
        "bundle": manifest.version,
        "tiers": list(tiers),
        "path": "auto",
        "recalibration": {
            **recalibration,
            "figures": change.figures,
            "shipped_targets": targets,
            "targets": {path: asdict(one) for path, one in change.targets.items()},
        },
    }
    return staging.finish(staged, result, parity=manifest.raw["parity"])


def promoted(final: Path, settings: Settings, change: Change, router: Router, console: Console) -> int:
    """Promote where log-loss on the user's own rows did not rise on the default path, or regardless. Returns the exit code."""
    path = "auto" if router.accurate else "fast"
    if change.figures:
        passed = change.figures[path]["log-loss"]["change"]["value"] <= 0
        console.print(
            f"gate: cross-fitted log-loss on own rows, path {path}, {'is not higher' if passed else 'is higher'}", highlight=False
        )
    else:
        passed = False
        console.print("gate: without labelled rows nothing shows that the new bundle is better", highlight=False)
    if passed or settings.promote:
        console.print(f"promoted: {staging.promote(final, settings.models).name} is current", highlight=False)
        return 0
    console.print(f"stays staged in {final}; --promote overrides", highlight=False)
    return 3


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m training.recalibrate", description=(__doc__ or "").splitlines()[0])
    result.add_argument("--bundle", type=Path, default=MODELS, help="the bundle, or a folder of bundles with CURRENT (%(default)s)")
    result.add_argument("--data", type=Path, nargs="+", default=[], help="own rows with tier, votes or outcomes: JSONL files or folders")
    add_labels(result)
    result.add_argument("--traffic", type=Path, nargs="+", default=[], help="own prompts without labels, for the shares of tiers alone")
    result.add_argument("--prior", help="shares of tiers in traffic, such as small=.7,medium=.25,large=.05 (default: those of the rows)")
    result.add_argument("--models", type=Path, default=MODELS, help="where bundles live (%(default)s)")
    result.add_argument("--seed", type=int, default=0)
    result.add_argument(
        "--at-any-cost", action="store_true", help=f"take bounded targets also where they over-route {DEARER:.0%}% more of the traffic"
    )
    result.add_argument("--promote", action="store_true", help="make the new bundle current whatever the gate says")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: promoted; 1: bad input; 3: recalibrated, but stays staged."""
    arguments = parser().parse_args(argv)
    try:
        settings = Settings(
            bundle=arguments.bundle,
            models=arguments.models,
            data=tuple(arguments.data),
            joined=tuple((labels, texts) for labels, texts in arguments.labels),
            traffic=tuple(arguments.traffic),
            prior=arguments.prior,
            seed=arguments.seed,
            at_any_cost=arguments.at_any_cost,
            promote=arguments.promote,
            command=command("training.recalibrate", argv),
        )
        return recalibrate(settings, Console())
    except (PointsmanError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
