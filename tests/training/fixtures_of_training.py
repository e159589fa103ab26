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
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece

from classifier import signals as signal_table
from classifier.bundle import find
from classifier.encoder import StaticEncoder
from training import accurate, bert, encoders, figures, fit, learn, staging
from training.calibrate import Calibration, fit_calibration, prior_weights
from training.dataset import TIERS, Example, held_out, read, targets_of, text_key
from training.export import head_onnx
from training.finetune import Row as Taught
from training.finetune import Tuned
from training.heads import FAMILIES, PerBasis, Trees, make
from training.risk import Risk, control

Row = dict[str, Any]
Floats = NDArray[np.float32]
Training = Callable[..., tuple[int, str]]
MakeBundle = Callable[..., Path]
RandomBert = Callable[..., dict[str, Floats]]

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
    figure = figures._figure
    patch.setattr(figures, "_figure", lambda statistic, n, seed, draws=400: figure(statistic, n, seed, draws=min(draws, 25)))


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


# the accurate path


BERT_DIM, BERT_TOKENS = 24, 32


@pytest.fixture(name="random_bert", scope="session")
def _random_bert() -> RandomBert:
    """Weights of a small BERT that has learned nothing, by their names in ``transformers``."""

    def random_bert(
        layers: int = 1, vocabulary: int = 50, dim: int = BERT_DIM, places: int = BERT_TOKENS, seed: int = 0
    ) -> dict[str, Floats]:
        random = np.random.default_rng(seed)
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings.word_embeddings.weight": (vocabulary, dim),
            "embeddings.position_embeddings.weight": (places, dim),
            "embeddings.token_type_embeddings.weight": (2, dim),
        }
        norms = ["embeddings.LayerNorm"]
        for layer in (f"encoder.layer.{index}" for index in range(layers)):
            denses = {f"attention.self.{part}": (dim, dim) for part in ("query", "key", "value")}
            denses |= {"attention.output.dense": (dim, dim), "intermediate.dense": (4 * dim, dim), "output.dense": (dim, 4 * dim)}
            for name, shape in denses.items():
                shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
            norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        weights = {name: random.normal(scale=shape[-1] ** -0.5, size=shape) for name, shape in shapes.items()}
        for norm in norms:
            weights |= {f"{norm}.weight": random.uniform(0.5, 1.5, dim), f"{norm}.bias": random.normal(scale=0.1, size=dim)}
        return {name: values.astype(np.float32) for name, values in weights.items()}

    return random_bert


@pytest.fixture(name="teacher_folder", scope="session")
def _teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer to start from: a tokenizer that knows the words of the tiny rows, and weights whose digest alone is read."""
    folder = tmp_path_factory.mktemp("teacher") / "tiny"
    folder.mkdir()
    texts = [*itertools.chain(*OPENINGS.values()), *TOPICS, *ENDINGS, "Question", "prove the theorem name colour", ". , ! ? :"]
    words = sorted({word for text in texts for word in text.lower().replace(":", " :").split()})
    digits = [f"{prefix}{digit}" for prefix in ("", "##") for digit in range(10)]
    vocabulary = {word: number for number, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, *digits))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no secret
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.enable_padding(length=BERT_TOKENS)  # as such files often come
    tokenizer.enable_truncation(max_length=BERT_TOKENS)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "model.safetensors").write_bytes(b"nothing that anything reads")
    return folder


@dataclass
class Reader:
    """What stands in for fine-tuning, since torch is gigabytes: the transformer stays random, and its readings are fitted by ridge
    regression. Remembers what it was asked for and gave.
    """

    weights: dict[str, Floats]
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __call__(  # noqa: D102 - see training.finetune.finetune
        self, source: Path, layers: int, rows: Callable[[int], Sequence[Taught]], epochs: int, seed: int, advance: Callable[[float], object]
    ) -> Tuned:
        taught = [list(rows(epoch)) for epoch in range(epochs)]
        graph = bert.graph(self.weights, bert.Shape(layers, max_tokens=BERT_TOKENS), {})
        run = onnxruntime.InferenceSession(graph.SerializeToString()).run
        vectors = np.concatenate([run(None, {"ids": np.array(row.ids, np.int64)})[0] for row in taught[0]])
        targets, basis = np.array([row.targets for row in taught[0]]), np.array([row.basis for row in taught[0]])
        inputs = np.hstack([vectors, np.ones((len(vectors), 1), np.float32)])
        readings = {}
        for which in (0, 1):
            found = np.zeros((inputs.shape[1], targets.shape[1]), np.float32)
            for tier in range(targets.shape[1]):
                known = (basis == which) & ~np.isnan(targets[:, tier])
                x, y = inputs[known], 6 * (targets[known, tier] - 0.5)
                found[:, tier] = np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ y)
            readings[which] = (found[:-1], found[-1])
        advance(1.0)
        tuned = Tuned(self.weights, readings)
        self.asked.append({"source": source, "layers": layers, "rows": taught, "seed": seed, "tuned": tuned})
        return tuned


LookTwice = Callable[..., tuple[int, str, Reader]]


@pytest.fixture(name="look_twice", scope="session")
def _look_twice(encoder_folder: Path, fillers: Path, teacher_folder: Path, random_bert: RandomBert) -> LookTwice:
    """Run ``python -m training.accurate`` on the bundles in ``models``; (exit code, what it printed, what stood in for torch)."""

    def look_twice(models: Path, prompts: Path, *arguments: str) -> tuple[int, str, Reader]:
        printed, reader = (
            io.StringIO(),
            Reader(random_bert(2, vocabulary=Tokenizer.from_file(str(teacher_folder / "tokenizer.json")).get_vocab_size())),
        )
        common = ["--bundle", str(models), "--models", str(models), "--prompts", str(prompts), "--encoder", str(encoder_folder)]
        common += ["--augment", str(fillers), "--teacher", str(teacher_folder), "--layers", "1", "--max-tokens", str(BERT_TOKENS)]
        with redirect_stdout(printed), threadpool_limits(1), pytest.MonkeyPatch.context() as patch:
            patch.setattr(accurate, "finetune", reader)
            patch.setattr(staging, "TUNING", ())  # packages that are not there have no version
            patch.setitem(FAMILIES, "trees", few_trees)
            resample_seldom(patch)
            patch.setenv("COLUMNS", "1000")  # no line is folded
            code = accurate.main([*common, *arguments])
        return code, printed.getvalue(), reader

    return look_twice


@pytest.fixture(name="many_prompts", scope="session")
def _many_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 1,200 labelled rows, so that of a fifth of them a target can be chosen. Some topics make a prompt a tier dearer:
    trees see no words, and leave something for the accurate path to know.
    """
    rows = labelled_rows(400)
    for row in rows:
        if any(topic in row["prompt"] for topic in ("France", "library", "gateway", "search")):
            row["tier"] = {"small": "medium"}.get(row["tier"], "large")
    return write_rows(tmp_path_factory.mktemp("many") / "prompts" / "made.jsonl", rows).parent


AccurateRun = tuple[int, Path, str, Reader]


@pytest.fixture(name="base_models", scope="session")
def _base_models(train: Training, many_prompts: Path, tiny_outcomes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder whose bundle has the fast path alone. Read-only."""
    models = tmp_path_factory.mktemp("base") / "models"
    train(models, many_prompts, "--outcomes", str(tiny_outcomes), "--promote", heads="trees")
    return models


@pytest.fixture(name="accurate_run", scope="session")
def _accurate_run(
    look_twice: LookTwice, base_models: Path, many_prompts: Path, tiny_outcomes: Path, tmp_path_factory: pytest.TempPathFactory
) -> AccurateRun:
    """(exit code, models folder, what was printed, what stood in for torch) of giving that bundle the accurate path. Read-only."""
    models = Path(shutil.copytree(base_models, tmp_path_factory.mktemp("accurate") / "models"))
    code, printed, reader = look_twice(models, many_prompts, "--outcomes", str(tiny_outcomes), "--epochs", "2", "--promote")
    return code, models, printed, reader


@pytest.fixture(name="accurate_bundle", scope="session")
def _accurate_bundle(accurate_run: AccurateRun) -> Path:
    """The bundle with both paths. Read-only."""
    return find(accurate_run[1])
