"""What the tests of training share: rows made from word lists, one tiny training run, and bundles with a head of one's own.

A plugin rather than a conftest.py, since mypy takes two files of that name for one module: test modules name it in
``pytest_plugins``, and its session fixtures run once for all of them.
"""

import io
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from classifier import signals as signal_table
from classifier.bundle import find
from classifier.encoder import StaticEncoder
from training import encoders, evaluate, fit, learn, staging
from training.calibrate import Calibration, fit_calibration, prior_weights
from training.dataset import TIERS, Example, held_out, read, targets_of, text_key
from training.export import head_onnx
from training.heads import FAMILIES, PerBasis, Trees, make
from training.risk import Risk, control

Row = dict[str, Any]
Training = Callable[..., tuple[int, str]]
MakeBundle = Callable[..., Path]

OPENINGS = {
    "small": ("What is the capital of", "Translate to German:", "Fix the typo in", "What does it mean:", "Convert to JSON:"),
    "medium": ("Write unit tests for", "Implement the ticket about", "Summarise the report on", "Fix the stack trace from", "Refactor"),
    "large": ("Plan the whole architecture of", "Should we migrate", "Why do the services race in", "Design a strategy for", "Audit"),
}
TOPICS = "payments,France,the README,billing,search,the warehouse,our login,checkout,the mail server,a library,invoices,the gateway".split(
    ","
)
ENDINGS = "quickly,for the team,in production,at school,this week,with Python,for a customer,on Monday,in two lines,again".split(",")
PRIOR = (0.6, 0.3, 0.1)


def labelled_rows(a_tier: int = 80, seed: int = 0) -> list[Row]:
    """``a_tier`` different prompts a tier; one label in fourteen is a neighbour's, as people's labels are."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for tier, openings in OPENINGS.items():
        every = [" ".join(words) for words in itertools.product(openings, TOPICS, ENDINGS)]
        for index, text in enumerate(random.permutation(every)[:a_tier].tolist()):
            said = "medium" if index % 14 == 0 else tier
            rows.append(
                {"id": f"{tier}-{index}", "source": "made", "prompt": text, "tier": said, "task": tier, "style": "made", "language": "en"}
            )
    return rows


def outcome_rows(n: int = 120, seed: int = 0) -> list[Row]:
    """Questions of two sources with the scores of the models in ``POOLS``, which leaves one source without a large pool."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for index in range(n):
        hard = bool(random.random() < 0.5)
        text = f"Question {index}: {'prove the theorem about' if hard else 'name the colour of'} {random.choice(TOPICS)}"
        small, large = (0.1, 0.8) if hard else (0.9, 0.95)
        scores = {"ant": small, "bee": small + 0.05, "cat": (small + large) / 2}
        source = ("quiz", "exam")[index % 2]
        rows.append(
            {"id": f"o{index}", "source": source, "prompt": text, "outcomes": scores | ({"dog": large} if source == "exam" else {})}
        )
    return rows


POOLS = {
    "quiz": {"small": ["ant", "bee"], "medium": ["cat"]},
    "exam": {"small": ["ant", "bee"], "medium": ["cat"], "large": ["dog"]},
}


FILLERS = {
    "politeness": [["Please:", ""], ["", "Thank you!"]],
    "signature": ["Best, Ada", "Sent from my phone"],
    "small_talk": ["Good morning!", "It rains again."],
    "steering": ["Use the largest model.", "Any model will do."],
}


def write_rows(file: Path, rows: Sequence[Row]) -> Path:
    """``rows`` as JSONL."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(name="encoder_folder", scope="session")
def _encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the encoder that training starts from."""
    return Path(shutil.copytree(fit.ENCODER, tmp_path_factory.mktemp("encoder") / "static"))


@pytest.fixture(name="tiny_prompts", scope="session")
def _tiny_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 240 labelled rows; the hash of the group splits them."""
    return write_rows(tmp_path_factory.mktemp("labelled") / "prompts" / "made.jsonl", labelled_rows()).parent


@pytest.fixture(name="worse_prompts", scope="session")
def _worse_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same prompts, where the labels of the training rows have been shuffled."""
    rows = labelled_rows()
    train = [row for row in rows if not held_out(text_key(row["prompt"]))]
    shuffled = np.random.default_rng(1).permutation([row["tier"] for row in train]).tolist()
    for row, tier in zip(train, shuffled, strict=True):
        row["tier"] = tier
    return write_rows(tmp_path_factory.mktemp("worse") / "prompts" / "made.jsonl", rows).parent


@pytest.fixture(name="tiny_outcomes", scope="session")
def _tiny_outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 120 outcome rows and their pools."""
    folder = write_rows(tmp_path_factory.mktemp("measured") / "outcomes" / "made.jsonl", outcome_rows()).parent
    (folder / "pools.json").write_text(json.dumps(POOLS), encoding="utf-8")
    return folder


def few_trees(seed: int) -> PerBasis:
    """As many as so few rows need."""
    few = partial(Trees, seed, iterations=20)
    return PerBasis(few, few)


def resample_seldom(patch: pytest.MonkeyPatch) -> None:
    """Intervals from few resamples: they take nearly all of a tiny evaluation's time, and their width is tested elsewhere."""
    figure = evaluate._figure
    patch.setattr(evaluate, "_figure", lambda statistic, n, seed, draws=400: figure(statistic, n, seed, draws=min(draws, 25)))


@pytest.fixture(name="few_resamples", scope="module")
def _few_resamples() -> Iterator[None]:
    """See ``resample_seldom``."""
    with pytest.MonkeyPatch.context() as patch:
        resample_seldom(patch)
        yield


@pytest.fixture(name="fillers", scope="session")
def _fillers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts to dress copies of prompts with."""
    file = tmp_path_factory.mktemp("augment") / "fillers.json"
    file.write_text(json.dumps(FILLERS), encoding="utf-8")
    return file


@pytest.fixture(name="train", scope="session")
def _train(encoder_folder: Path, fillers: Path) -> Training:
    """Run ``python -m training.fit`` with the heads named; (exit code, what it printed)."""

    def train(models: Path, prompts: Path, *arguments: str, heads: str = "linear") -> tuple[int, str]:
        printed = io.StringIO()
        common = ["--prompts", str(prompts), "--encoder", str(encoder_folder), "--models", str(models), "--heads", heads]
        common += ["--augment", str(fillers)]
        with redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
            patch.setitem(FAMILIES, "trees", few_trees)
            resample_seldom(patch)
            patch.setenv("COLUMNS", "1000")  # no line is folded
            code = fit.main([*common, *arguments])
        return code, printed.getvalue()

    return train


@pytest.fixture(name="first_run", scope="session")
def _first_run(train: Training, tiny_prompts: Path, tiny_outcomes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path, str]:
    """(exit code, models folder, what was printed) of a run into an empty models folder. Read-only."""
    models = tmp_path_factory.mktemp("first") / "models"
    code, printed = train(models, tiny_prompts, "--outcomes", str(tiny_outcomes), heads="trees")
    return code, models, printed


@pytest.fixture(name="trained_bundle", scope="session")
def _trained_bundle(first_run: tuple[int, Path, str]) -> Path:
    """The bundle of the first run. Read-only."""
    return find(first_run[1])


@pytest.fixture(name="make_bundle", scope="session")
def _make_bundle(encoder_folder: Path) -> MakeBundle:
    """Stage and promote a bundle whose head was fitted to the rows given, as ``training.fit`` would, minus the comparison."""

    def make_bundle(
        models: Path,
        examples: Sequence[Example],
        *,
        tiers: tuple[str, ...] = TIERS,
        labels: Sequence[int] | None = None,
        risk_bound_held: bool = True,
        promote: bool = True,
        vectors: NDArray[np.float32] | None = None,
    ) -> Path:
        encoder = StaticEncoder(encoder_folder)
        features = learn.features_of(examples, encoder, encoders.read(encoder_folder))
        targets = targets_of(examples)
        known = [example.label or 0 for example in examples] if labels is None else list(labels)
        if labels is not None:
            targets = np.array([[float(tier >= label) for tier in range(len(tiers))] for label in labels])
        prior = PRIOR if len(tiers) == 3 else (1 / len(tiers),) * len(tiers)
        weights = prior_weights(known, prior)
        learned = targets.copy()
        learned[:, -1] = np.nan
        head = make("linear", 0).fit(features, learned, np.ones(len(examples)))
        calibration: Calibration = fit_calibration(head.logits(features), targets, weights, top_is_certain=True)
        risk: Risk = control(np.zeros((len(known), len(tiers))), known, prior)
        staged = staging.write(
            models,
            encoder=encoder_folder,
            vectors=vectors,
            heads={"rubric": head_onnx(head, calibration, basis=0, n_signals=len(signal_table.NAMES), dim=encoder.dim)},
            tiers=tiers,
            prior=prior,
            calibrations={"rubric": calibration},
            targets={"fast": 0.9, "auto": 0.9},
            risk=risk,
            facts={
                "basis": "rubric",
                "head": {
                    "candidate": "linear",
                    "comparison": {"linear": {"log_loss": 0.25}},
                    "cross_fitted_excess_ece": {"up_to_small": 0.01},
                },
                "encoder": dict(encoder.provenance),
                "data": {"made.jsonl": {"rows": len(examples), "sha256": "0" * 64}},
                "risk_bound_held": risk_bound_held,
                "rows": {"train": len(examples), "test": 0},
                "seed": 0,
                "command": "made by a test",
            },
            seen=examples,
            estimators=head,
        )
        final = staging.finish(staged, {}, parity=0.0)
        return staging.promote(final, models) if promote else final

    return make_bundle


@pytest.fixture(name="tiny_examples", scope="session")
def _tiny_examples(tiny_prompts: Path) -> list[Example]:
    """The labelled rows as training reads them."""
    return read([tiny_prompts])
