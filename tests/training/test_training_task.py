"""What kind of task a prompt is: which are told apart, how surely, and the graph that says so."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from classifier import from_text
from classifier.head import TaskHead
from classifier.runtime import session
from training.dataset import Example
from training.features import Features, embed
from training.task import FEWEST, Tasks, _linear, _temperature, fit_tasks, task_onnx

Matrix = NDArray[np.float64]
Floats = NDArray[np.float32]

N_SIGNALS, VOCABULARY, DIM = 5, 40, 6
KINDS = ("debug", "plan", "translate")


def named(names: Sequence[str | None]) -> list[Example]:
    """Rows with these tasks."""
    prompt = from_text("What is this?")
    return [Example(str(at), str(at), "made", prompt, (0.0, 1.0, 1.0), 1, "train", task=name) for at, name in enumerate(names)]


def features_of(names: Sequence[str | None], seed: int = 0, sure: float = 1.0) -> Features:
    """Each task has a token of its own, which stands in a share ``sure`` of its prompts and of some others, among any tokens."""
    random = np.random.default_rng(seed)
    known = sorted({name for name in names if name})
    counts = random.poisson(0.05, (len(names), VOCABULARY)).astype(np.float32)
    for at, name in enumerate(names):
        shown = name if name and random.random() < sure else random.choice(known) if known else None
        if shown:
            counts[at, known.index(shown)] += 4
    signals = random.gamma(0.7, 20, (len(names), N_SIGNALS)).astype(np.float32)
    vectors = np.random.default_rng(0).normal(size=(VOCABULARY, DIM)).astype(np.float32)
    return Features(signals, csr_matrix(counts), np.zeros(len(names), np.float32), vectors)


def tasks_of(names: Sequence[str | None], sure: float = 1.0, folds: NDArray[np.int64] | None = None, **changed: Any) -> Tasks | None:
    """What is learned of these rows, in three folds that each hold every task."""
    features = features_of(names, sure=sure)
    places = np.arange(len(names)) // 3 % 3 if folds is None else folds
    return fit_tasks(named(names), replace(features, **changed), features.vectors, places, lambda: None)


def some(names: Sequence[str | None], sure: float = 1.0) -> Tasks:
    """The same, where there are tasks to tell apart."""
    tasks = tasks_of(names, sure)
    assert tasks is not None
    return tasks


def said(tasks: Tasks, features: Features) -> Matrix:
    """Probabilities, in numpy."""
    inputs = tasks.scaler.join(features.signals, embed(features.tokens, features.vectors)).astype(np.float64)
    return np.asarray(softmax((inputs @ tasks.weights + tasks.bias) / tasks.temperature, axis=1))


@pytest.fixture(name="one_thread", autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Products this small lose more than they win by threads."""
    with threadpool_limits(1):
        yield


@pytest.fixture(name="tasks", scope="module")
def _tasks() -> Tasks:
    """Three tasks of eighty rows. Read-only."""
    return some(KINDS * 80, sure=0.8)


def saved(tasks: Tasks, folder: Path) -> TaskHead:
    """As it serves."""
    onnx.save(task_onnx(tasks), str(folder / "task.onnx"))
    return TaskHead(folder / "task.onnx")


# which tasks


def test_tasks_are_learned_by_their_names(tasks: Tasks) -> None:
    """In alphabetical order, whatever order they come in, with as many rows as taught them."""
    assert (tasks.names, tasks.n) == (KINDS, 240)
    assert some(KINDS[::-1] * 40).names == KINDS


def test_a_task_of_few_rows_is_not_told_apart() -> None:
    """One row less than enough: its rows teach nothing, those of the others all."""
    names = [*(("debug", "plan") * 60), *["rare"] * (FEWEST - 1)]
    assert (some(names).names, some(names).n) == (("debug", "plan"), 120)
    assert some([*names, "rare"]).names == ("debug", "plan", "rare")


@pytest.mark.parametrize(
    "names",
    [[None] * 90, ["debug"] * 90, ["debug"] * 90 + ["plan"] * (FEWEST - 1), [""] * 60 + ["debug"] * 60],
    ids=["none", "one", "one of enough rows", "no name is no task"],
)
def test_below_two_tasks_there_is_nothing_to_tell_apart(names: list[str | None]) -> None:
    """A bundle of such rows says nothing of tasks."""
    assert tasks_of(names) is None


def test_rows_without_a_task_teach_nothing() -> None:
    """Neither the weights nor how signals are scaled."""
    names, folds = [*KINDS * 40, *[None] * 60], np.arange(180) // 3 % 3
    features = features_of(names)
    odd = features.signals.copy()
    odd[120:] = 1e6
    found = fit_tasks(named(names), replace(features, signals=odd), features.vectors, folds, lambda: None)
    alone = fit_tasks(named(names[:120]), features[np.arange(120)], features.vectors, folds[:120], lambda: None)
    assert found is not None
    assert alone is not None
    np.testing.assert_array_equal(found.weights, alone.weights)
    np.testing.assert_array_equal(found.scaler.mean, alone.scaler.mean)
    assert (found.n, found.accuracy, found.temperature) == (120, alone.accuracy, alone.temperature)


def test_it_reads_the_vectors_that_serve() -> None:
    """Not those that the features came with, which a head may have tuned since."""
    features, names = features_of(KINDS * 40), KINDS * 40
    folds, turned = np.arange(120) // 3 % 3, features.vectors[::-1].copy()
    one = fit_tasks(named(names), features, turned, folds, lambda: None)
    other = fit_tasks(named(names), replace(features, vectors=turned), turned, folds, lambda: None)
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.weights, other.weights)
    assert one.scaler.embedding_scale == other.scaler.embedding_scale


# how surely


def test_what_a_word_gives_away_is_learned() -> None:
    """Nearly every held-out row where it always stands, and no more than chance where it says nothing."""
    assert some(KINDS * 80).accuracy > 0.9
    assert some(KINDS * 80, sure=0.0).accuracy == pytest.approx(1 / 3, abs=0.12)


@pytest.mark.parametrize("sure", [0.0, 0.5, 0.8])
def test_probabilities_mean_what_they_say(sure: float) -> None:
    """Of the likeliest task, on rows held out: as probable as it is often right, whatever the rows give away."""
    tasks = some(KINDS * 300, sure)
    assert tasks.mean_probability == pytest.approx(tasks.accuracy, abs=0.05)


@pytest.mark.parametrize("sure", [0.5, 0.8])
def test_they_mean_it_of_new_rows_as_well(sure: float) -> None:
    """By the model that ships, which was learned from all rows."""
    tasks, fresh = some(KINDS * 300, sure), features_of(KINDS * 300, seed=1, sure=sure)
    probabilities = said(tasks, fresh)
    right = probabilities.argmax(axis=1) == np.arange(900) % 3
    assert probabilities.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.05)


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_one_temperature_calibrates(factor: float) -> None:
    """Logits that are too sure by a factor are divided by it, and those that are too shy as well."""
    random = np.random.default_rng(0)
    logits = random.normal(scale=1.5, size=(6_000, 4))
    labels = np.array([random.choice(4, p=row) for row in softmax(logits, axis=1)])
    assert _temperature(factor * logits, labels) == pytest.approx(factor, rel=0.06)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(0.2, 5))
def test_a_temperature_turns_with_the_logits(seed: int, factor: float) -> None:
    """Twice the logits need twice the temperature."""
    random = np.random.default_rng(seed)
    logits, labels = random.normal(size=(60, 3)), random.integers(0, 3, 60)
    logits[np.arange(60), labels] += 1
    assert _temperature(factor * logits, labels) == pytest.approx(factor * _temperature(logits, labels), rel=1e-2)


@pytest.mark.parametrize("n_tasks", [2, 3, 5])
def test_the_linear_model_is_that_of_scikit_learn(n_tasks: int) -> None:
    """A column of weights a task, also for two, of which the library keeps one."""
    random = np.random.default_rng(0)
    inputs, labels = random.normal(size=(200, 4)), np.arange(200) % n_tasks
    inputs[:, 0] += labels
    weights, bias = _linear(inputs, labels, n_tasks)
    assert (weights.shape, bias.shape) == ((4, n_tasks), (n_tasks,))
    model = LogisticRegression(C=0.01, tol=1e-3, max_iter=1000).fit(inputs, labels)
    np.testing.assert_allclose(softmax(inputs @ weights + bias, axis=1), model.predict_proba(inputs), atol=1e-9)


def test_figures_are_of_rows_held_out() -> None:
    """A fold on which all tasks are exchanged is got wrong, however well it could be known by heart."""
    names = [*KINDS * 60, *(KINDS[1:] + KINDS[:1]) * 30]
    features = features_of(KINDS * 90)
    tasks = fit_tasks(named(names), features, features.vectors, (np.arange(270) >= 180).astype(np.int64), lambda: None)
    assert tasks is not None
    assert tasks.accuracy < 0.2


def test_the_same_rows_teach_the_same(tasks: Tasks) -> None:
    """To the last bit."""
    assert task_onnx(some(KINDS * 80, sure=0.8)).SerializeToString() == task_onnx(tasks).SerializeToString()


# folds


def test_every_fit_is_told() -> None:
    """One a fold, and one more of all rows."""
    done: list[int] = []
    features = features_of(KINDS * 40)
    fit_tasks(named(KINDS * 40), features, features.vectors, np.arange(120) // 3 % 4, lambda: done.append(1))
    assert len(done) == 5


def test_a_task_of_a_single_fold_is_refused() -> None:
    """Without that fold there is none of it to learn from: groups are too few, and it says so."""
    names = KINDS * 40
    folds = np.array([0 if name == "plan" else 1 + at // 3 % 2 for at, name in enumerate(names)])
    with pytest.raises(ValueError, match="found 2 of 3 tasks in a fold, expected each task in several groups"):
        tasks_of(names, folds=folds)


# the graph


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_graph_says_what_the_model_says(tasks: Tasks, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Probabilities of every task within 1e-5, which sum to 1; huge signals are cut as in training."""
    features = features_of(KINDS * 3, seed)
    features.signals[0] = 1e9
    folder = tmp_path_factory.mktemp("task")
    onnx.save(task_onnx(tasks), str(folder / "task.onnx"))
    feeds = {"signals": features.signals, "embedding": embed(features.tokens, features.vectors)}
    (found,) = session(folder / "task.onnx").run(("probabilities",), feeds)
    np.testing.assert_allclose(found, said(tasks, features), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kinds", [KINDS[:2], KINDS], ids=["two", "three"])
def test_serving_names_the_likeliest_task(kinds: tuple[str, ...], tmp_path: Path) -> None:
    """With its probability, by the names in the graph's metadata."""
    tasks = some(kinds * 60)
    head = saved(tasks, tmp_path)
    features = features_of(kinds * 5, seed=1)
    expected = said(tasks, features)
    found = head.run(features.signals, embed(features.tokens, features.vectors))
    assert head.names == kinds
    assert [name for name, _ in found] == [kinds[best] for best in expected.argmax(axis=1)]
    np.testing.assert_allclose([probability for _, probability in found], expected.max(axis=1), atol=1e-5)
    assert np.mean([name == kind for (name, _), kind in zip(found, kinds * 5, strict=True)]) > 0.8


def test_names_stand_in_the_metadata_whatever_they_are(tasks: Tasks) -> None:
    """As JSON, since a name may hold a comma or an umlaut."""
    odd = replace(tasks, names=("a, b", "prüfen", '"quoted"'))
    (entry,) = task_onnx(odd).metadata_props
    assert (entry.key, json.loads(entry.value)) == ("tasks", list(odd.names))
