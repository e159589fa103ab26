"""The figures of an evaluation as text: one line each, with intervals and baselines beside them."""

from collections.abc import Sequence
from typing import Any

from training.risk import UNREACHABLE


def table(result: dict[str, Any]) -> str:
    """What ``training.evaluate`` found, as it prints it; the fast path's own figures below, where ``result`` holds them as ``fast``."""
    lines = [f"bundle {result['bundle']}, path {result['path']}"]
    if "labelled" in result:
        lines += _labelled_lines(result["labelled"])
    if "outcomes" in result:
        lines += _outcome_lines(result["outcomes"], result["tiers"])
    for suite, part in result.get("behaviour", {}).items():
        kinds = ", ".join(f"{kind} {figure['rate']:.2f}" for kind, figure in part["kinds"].items())
        lines.append(f"behaviour {suite:10} {_text(part['rate'])} of {part['n']} pass ({kinds})")
    if "recalibration" in result:
        lines += _recalibration_lines(result["recalibration"], result["tiers"])
    if "fast" in result:
        lines += ["", table({**result["fast"], "bundle": result["bundle"]})]
    return "\n".join(lines)


def _labelled_lines(part: dict[str, Any]) -> list[str]:
    lines = [
        f"labelled prompts: {part['n']} (by tier {part['n_by_tier']})",
        f"  {'prior':9} {'decision by':12} {'exact':20} {'two tiers off':20} {'under-routed':20} over-routed",
    ]
    for prior in ("stated", "balanced"):
        for by in ("policy", "most_likely"):
            figures = part[prior][by]
            lines.append(
                f"  {prior:9} {by:12} " + " ".join(f"{_text(figures[name]):20}" for name in ("exact", "two_off", "under", "over")).rstrip()
            )
        for name, figures in part["baselines"][prior].items():
            lines.append(f"  {prior:9} {name:12} {figures['exact']:<20.3f} {'':20} {figures['under']:<20.3f} {figures['over']:.3f}")
    for tier, figure in part["auc"].items():
        rows = ", ".join(f"{name} {values[tier]:.3f}" for name, values in part["baselines"]["auc"].items())
        lines.append(f"  AUC {tier}: {_text(figure)}; {rows}")
    for name, figure in part["calibration"].items():
        lines.append(
            f"  calibration {name}: excess ECE {figure['excess_ece']:+.3f}, ECE {figure['ece']:.3f}, log-loss {figure['log_loss']:.3f}"
        )
    if gained := part.get("against_fast"):
        names = ", ".join(f"{name} {_text(figure, '+.3f')}" for name, figure in gained.items() if name != "asked")
        lines.append(f"  accurate path asked for {_text(gained['asked'])} at the stated prior; against the fast path alone: {names}")
    return lines


def _outcome_lines(part: dict[str, Any], tiers: Sequence[str]) -> list[str]:
    lines = [f"outcomes: {part['n']} rows of {len(part['sources'])} sources"]
    for tier in filter(part.__contains__, tiers):
        figures = part[tier]
        for name, auc in (("router", figures["auc"]), *figures["baselines"].items()):
            lines.append(f"  {tier:7} soft AUC, {name:12} " + ", ".join(f"{key} {_text(value)}" for key, value in auc.items()))
        lines.append(
            f"  {tier:7} calibration: excess ECE {figures['calibration']['excess_ece']:+.3f}, ECE {figures['calibration']['ece']:.3f}"
        )
    return lines


def _recalibration_lines(part: dict[str, Any], tiers: Sequence[str]) -> list[str]:
    shares = [", ".join(f"{tier} {part[name][tier]:.3f}" for tier in tiers) for name in ("parent_prior", "prior")]
    lines = [f"recalibrated from {part['parent']}; prior {shares[0]} -> {shares[1]} ({part['prior_from']})"]
    if part["figures"]:
        rows = ", ".join(f"{tier} {part['rows'][tier]}" for tier in tiers)
        lines += [
            f"own rows: {rows} ({part['kind']}); left out: {part['left_out']['test']} test rows, {part['left_out']['seen']} learned from before",
            f"  {'path':9} {'figure':20} {'shipped':23} {'recalibrated':23} change (after: cross-fitted)",
        ]
    for path, figures in part["figures"].items():
        for name, figure in figures.items():
            lines.append(f"  {path:9} {name:20} {_text(figure['before']):23} {_text(figure['after']):23} {_text(figure['change'], '+.3f')}")
    for path, shipped in part["shipped_targets"].items():
        lines.append(f"  target {path}: {_target(part['targets'].get(path), shipped, tiers)}")
    return lines


def _target(vouched: dict[str, Any] | None, shipped: float, tiers: Sequence[str]) -> str:
    """What became of the shipped target of a path, and why."""
    if vouched is None:
        return f"{shipped} stays; it takes labels by tier to bound under-routing"
    risk, dear = vouched["risk"], vouched["dear"]
    found = (
        f"under-routing {risk['under']:.3f} (bound {risk['under_bound']:.3f}), "
        f"of the top tier's prompts {risk['under_top']:.3f} (bound {risk['under_top_bound']:.3f}), over-routing {risk['over']:.3f}"
    )
    if risk["qualified"]:
        return f"{shipped} -> {risk['target']}: {found}"
    if dear:
        return f"{shipped} stays, not bounded: {found}; {dear['target']} is, with over-routing {dear['over']:.3f}: --at-any-cost takes it"
    missing = [
        f"{count} labels of {tier} are missing" if count < UNREACHABLE else f"{tier} is under-routed too often for any number of labels"
        for tier, count in zip(tiers, risk["missing"], strict=True)
        if count
    ]
    return f"{shipped} stays, not bounded: {found}; at these rates {', '.join(missing)}"


def _text(figure: dict[str, Any], form: str = ".3f") -> str:
    return f"{figure['value']:{form}}" + (f" [{figure['low']:{form}}, {figure['high']:{form}}]" if "low" in figure else "")
