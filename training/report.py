"""The report of a bundle: figures for people (MODEL_CARD.md, plots) and the headline that the manifest carries."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from classifier.bundle import LAYOUT
from training.table import table

Json = Mapping[str, Any]


def headline(metrics: Json) -> dict[str, Any]:
    """The few figures that stand in the manifest, each with its interval where it has one."""
    result: dict[str, Any] = {}
    if labelled := metrics.get("labelled"):
        result["test_prompts"] = labelled["n"]
        result["stated_prior"] = {name: labelled["stated"]["policy"][name] for name in ("exact", "under", "over")}
        result["balanced_prior_most_likely"] = {name: labelled["balanced"]["most_likely"][name] for name in ("exact", "two_off")}
        result["auc"] = labelled["auc"]
        result["excess_ece"] = {name: figure["excess_ece"] for name, figure in labelled["calibration"].items()}
    if recalibration := metrics.get("recalibration"):
        result["recalibration"] = recalibration["figures"]
    if outcomes := metrics.get("outcomes"):
        measured = [tier for tier in metrics["tiers"] if tier in outcomes]
        result["test_outcomes"] = outcomes["n"]
        result["outcomes_soft_auc"] = outcomes[measured[0]]["auc"]
        result["outcomes_excess_ece"] = {tier: outcomes[tier]["calibration"]["excess_ece"] for tier in measured}
    return result


def write(folder: Path, manifest: Json, metrics: Json) -> None:
    """MODEL_CARD.md, and below report/ the figures as text and the reliability diagrams as SVG."""
    target = folder / LAYOUT.report
    target.mkdir(exist_ok=True)
    text = table(dict(metrics)) if "tiers" in metrics else "no test rows: nothing was evaluated"
    (target / "figures.txt").write_text(text + "\n", encoding="utf-8")
    if labelled := metrics.get("labelled"):
        names = {f"up_to_{index}": f"{tier} suffices" for index, tier in enumerate(metrics["tiers"])}
        panels = {names.get(name, "confidence of decisions"): part["reliability"] for name, part in labelled["calibration"].items()}
        _reliability(panels, target / "reliability.svg", f"labelled test prompts ({labelled['n']}), stated prior")
    if outcomes := metrics.get("outcomes"):
        panels = {f"{tier} suffices": outcomes[tier]["calibration"]["reliability"] for tier in metrics["tiers"] if tier in outcomes}
        _reliability(panels, target / "reliability_outcomes.svg", f"held-out outcomes ({outcomes['n']}), their own calibration")
    (folder / LAYOUT.model_card).write_text(_card(manifest, text), encoding="utf-8")


def _reliability(panels: Mapping[str, Sequence[Sequence[float]]], file: Path, title: str) -> None:
    # No date and a fixed salt: the same figures give the same file.
    with mpl.rc_context({"svg.hashsalt": "pointsman"}):
        figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.6), squeeze=False)
        for axis, (name, points) in zip(axes[0], panels.items(), strict=True):
            axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
            axis.plot([point[0] for point in points], [point[1] for point in points], marker="o", color="#1f5fa8")
            axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted", title=name, aspect="equal")
        axes[0][0].set_ylabel("observed")
        figure.suptitle(title, fontsize=10)
        figure.tight_layout()
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)


def _task(manifest: Json) -> str:
    """The line on the task head, where there is one."""
    if not (part := manifest.get("task")):
        return ""
    return f"""- **Task**: one of {len(part["names"])} kinds of work; on {part["n"]} held-out prompts the likeliest is right in {part["accuracy"]:.0%}, at a mean probability
  of {part["mean_probability"]:.0%}.
"""


def _accurate(manifest: Json) -> str:
    """The lines on the accurate path, where there is one."""
    if "accurate" not in manifest:
        return ""
    part = manifest["accurate"]
    *_, (margin, figures) = part["margins"].items()
    return f"""- **Accurate path**: the first {part["layers"]} layers of {part["teacher"]}, fine-tuned, up to {part["max_tokens"]} tokens, in int8, stacked on the fast
  path's logits. `auto` asks it where the fast path comes within {margin} logits of the target: {figures["looks_twice"]:.0%} of held-out prompts at the
  stated prior, where {figures["agreement"]:.1%} of decisions are those of the accurate path alone.
- **Its training**: `{part["command"]}`, seed {part["seed"]}, on {part["rows"]["train"]} rows; weighed and calibrated on {part["rows"]["held_out"]} that it did not see.
"""


def _recalibrated(manifest: Json) -> str:
    """The lines on what was adjusted after training, where something was."""
    if not (part := manifest.get("recalibration")):
        return ""
    return f"""- **Recalibrated** from {part["parent"]} by `{part["command"]}`: shift and slope of each tier, the prior (by: {part["prior_from"]}), and targets that
  labels could vouch for. Encoders and heads are its parent's.
"""


_BASES = {
    "rubric": """rubric. Labels are the cheapest tier whose answer a demanding user would accept (data/LABELING.md); the top
  tier suffices by definition.""",
    "outcomes": "outcomes. What measured models got right (`calibrated_for` in the manifest names them); where no tier suffices, none is said to.",
}


def _card(manifest: Json, text: str) -> str:
    prior = ", ".join(f"{tier} {share:.0%}" for tier, share in manifest["prior"].items())
    comparison = manifest["head"]["comparison"]
    columns = list(next(iter(comparison.values())))
    rows = "\n".join(
        f"| {name} | " + " | ".join(f"{figures[column]:.4f}" for column in columns) + " |" for name, figures in comparison.items()
    )
    crossed = ", ".join(f"{name}: {value:+.3f}" for name, value in manifest["head"]["cross_fitted_excess_ece"].items())
    data = "\n".join(f"| {name} | {entry['rows']} | `{entry['sha256'][:16]}` |" for name, entry in manifest["data"].items())
    return f"""# Model card: {manifest["version"]}

Says for each tier ({", ".join(manifest["tiers"])}) how probable it is that its answer to a prompt is good enough.

- **Basis**: {_BASES[manifest["basis"]]}
- **Prior** that the calibration assumes: {prior}. Traffic with other shares needs another: `python -m training.recalibrate`.
- **Encoder**: static token vectors distilled from {manifest["encoder"].get("teacher", "an unnamed teacher")}, {manifest["encoder"].get("dim", "?")} dimensions. English above all.
- **Head**: {manifest["head"]["candidate"]}, with {len(manifest["signals"])} signals.
{_task(manifest)}{_accurate(manifest)}{_recalibrated(manifest)}- **Trained by** `{manifest["command"]}`, seed {manifest["seed"]}, on {manifest["rows"]["train"]} rows; {manifest["rows"]["test"]} held out.
- **Risk bound** (under-routing at most 8 % at the prior, at most 25 % of the top tier's prompts, 95 % confidence):
  {"held" if manifest["risk_bound_held"] else "NOT held: too few labels to show it for the targets that are set"}.
- **Parity** of the graph with the fitted estimators: {manifest["parity"]:.1e}.

## What it is not

It reads the prompt alone: it does not know your models, your users or the answer. Labels are judgements of people who wrote the
prompts, not measurements of the models in your catalog. Prompts in languages other than English, and of kinds that the data does
not hold, are judged with less knowledge than the confidence of others suggests.

## Held-out figures

{"On the rows that it was recalibrated by, cross-fitted" if "recalibration" in manifest else "Printed by `python -m training.evaluate` on the test split"}; intervals are 95 % bootstrap over rows.

```
{text}
```

Cross-fitted excess calibration error on the training prompts: {crossed}.

## Heads compared

On held-out folds of the training rows; the lowest log-loss (at the stated prior, mean over tiers below the top) ships.

| head | {" | ".join(columns)} |
|---|{"---|" * len(columns)}
{rows}

## Data

| file | rows | sha256 |
|---|---|---|
{data}
"""
