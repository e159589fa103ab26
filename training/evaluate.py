"""python -m training.evaluate: what a bundle is worth on rows it never saw.

Scores are taken from the bundle as it serves (``Router.load``), never from fitted estimators. Every figure carries a 95 %
bootstrap interval over rows, and baselines stand beside it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
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
from training import behaviour
from training.arguments import add_labels
from training.behaviour import Case
from training.dataset import Example, read_all
from training.figures import Scored, behaviour_figures, gains, labelled_figures, outcome_figures, without_nan
from training.files import base_texts
from training.table import table

Matrix = NDArray[np.float64]

BEHAVIOUR = CHECKOUT / "data" / "behaviour"


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


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m training.evaluate", description=(__doc__ or "").splitlines()[0])
    result.add_argument("--bundle", type=Path, default=MODELS, help="a bundle, or a folder of bundles with CURRENT (%(default)s)")
    result.add_argument("--data", type=Path, nargs="+", default=[], help="JSONL files or folders")
    add_labels(result)
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
