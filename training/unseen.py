"""python -m training.unseen: how well outcomes of a source are ranked by heads that never saw the source.

One head is fitted for every source of outcomes, on everything else. What it says of the held-out source shows how much it learned
of difficulty, and how much only of which data set a prompt comes from.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from threadpoolctl import threadpool_limits

from classifier.errors import PointsmanError
from training import metrics
from training.dataset import Example, read, targets_of
from training.features import Features
from training.figures import ZEBRA
from training.fit import ENCODER
from training.heads import CANDIDATES, make
from training.learn import features_of, learning_targets, learning_weights, load_encoder

Matrix = NDArray[np.float64]


def unseen(examples: Sequence[Example], features: Features, candidate: str, console: Console, seed: int = 0) -> dict[str, dict[str, float]]:
    """By source, the soft AUC of "the cheapest tier suffices" by a head that saw no row of it, and by prompt length alone; for a
    collection of sources, the mean over them.
    """
    sources = np.array([example.source for example in examples])
    outcomes = np.array([example.kind == "outcomes" for example in examples])
    targets, weights = learning_targets(examples), learning_weights(examples)
    cheapest = targets_of(examples)[:, 0]
    lengths = np.array([-np.log1p(example.prompt.chars) for example in examples])
    result = {}
    for source in track(sorted(set(sources[outcomes])), "leaving sources out", console=console, transient=True):
        held = outcomes & (sources == source)
        if np.isnan(cheapest[held]).all():
            continue
        if held.all():
            raise ValueError(f"found rows of the source {source} alone, expected others to learn from")
        head = make(candidate, seed).fit(features[~held], targets[~held], weights[~held])
        known = held & ~np.isnan(cheapest)
        strata = [example.stratum for example, keep in zip(examples, known, strict=True) if keep]
        scores = {"router": head.logits(features[known])[:, 0], "length_only": lengths[known]}
        result[source] = {name: metrics.within_source(cheapest[known], values, strata) for name, values in scores.items()}
    return result


def table(figures: dict[str, dict[str, float]]) -> str:
    """A line a source, and the mean without zebra."""
    kept = [values for source, values in figures.items() if source != ZEBRA and not np.isnan(values["router"])]
    mean = {name: float(np.mean([values[name] for values in kept])) for name in ("router", "length_only")} if kept else {}
    lines = [f"{'source never seen':28} {'router':>8} {'length':>8}"]
    rows = [*figures.items(), *([("mean without zebra", mean)] if mean else [])]
    return "\n".join([*lines, *(f"{name:28} {values['router']:8.3f} {values['length_only']:8.3f}" for name, values in rows)])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m training.unseen", description=(__doc__ or "").splitlines()[0])
    result.add_argument(
        "--prompts", type=Path, nargs="*", default=[Path("data/prompts")], help="labelled prompts to learn from too (%(default)s)"
    )
    result.add_argument("--outcomes", type=Path, nargs="+", required=True, help="measured outcomes with their pools.json")
    result.add_argument("--encoder", type=Path, default=ENCODER, help="folder with the static encoder to start from (%(default)s)")
    result.add_argument("--head", choices=CANDIDATES, default=CANDIDATES[-1], help="(%(default)s)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Fit and print. Exit code 1: bad input."""
    arguments = parser().parse_args(argv)
    console = Console()
    try:
        examples = [e for e in read([*arguments.prompts, *arguments.outcomes]) if e.kind == "outcomes" or e.split == "train"]
        features = features_of(examples, *load_encoder(arguments.encoder))
        with threadpool_limits(limits=1):
            figures = unseen(examples, features, arguments.head, console)
    except (PointsmanError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    console.print(table(figures), highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
