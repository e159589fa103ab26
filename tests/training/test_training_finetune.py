"""Fine-tuning a small transformer: what it learns, what it passes over, and what it leaves as it was.

What needs torch and transformers (extra ``encoder``) is skipped without them.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import training.finetune
from training.bert import Shape, graph
from training.finetune import _SORTED, BATCH, Row, Tuned, _batches, _padded, finetune

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY, DIM, HEADS, PLACES, EPOCHS = 50, 24, 2, 16, 5
TOLD = 7  # the token that gives a row away
UNKNOWN = float("nan")


def row(length: int = 3, targets: Sequence[float] = (0.0, 1.0), weight: float = 1.0, basis: int = 0) -> Row:
    """Any row of that many tokens."""
    return Row(list(range(1, length + 1)), np.array(targets), weight, basis)


# batches, without torch


@settings(deadline=None, max_examples=50)
@given(lengths=st.lists(st.integers(1, 200), max_size=4 * BATCH), seed=st.integers(0, 2**32 - 1))
def test_every_row_stands_in_one_batch(lengths: list[int], seed: int) -> None:
    """In batches of no more than there is room for."""
    batches = _batches([row(length) for length in lengths], np.random.default_rng(seed))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= BATCH for batch in batches)


def test_rows_of_like_length_stand_together() -> None:
    """Of a few thousand rows of all lengths a batch holds those of next to one, so that hardly anything is padding."""
    rows = [row(1 + at % 100) for at in range(BATCH * _SORTED * 2)]
    batches = _batches(rows, np.random.default_rng(0))
    spread = [max(lengths) - min(lengths) for lengths in ([len(rows[place].ids) for place in batch] for batch in batches)]
    assert np.mean(spread) < 5


def test_batches_come_in_another_order_every_time() -> None:
    """Not from the shortest to the longest, and not the same rows beside each other; by the generator alone."""
    rows = [row(1 + at % 60) for at in range(10 * BATCH)]
    random = np.random.default_rng(0)
    first, second = _batches(rows, random), _batches(rows, random)
    assert first != second
    assert first == _batches(rows, np.random.default_rng(0))
    lengths = [len(rows[batch[0]].ids) for batch in first]
    assert lengths not in (sorted(lengths), sorted(lengths, reverse=True))


def test_without_rows_there_are_no_batches() -> None:
    """Rather than an empty one."""
    assert _batches([], np.random.default_rng(0)) == []


def test_padding_is_masked() -> None:
    """Rows are as long as the longest; what was added is token 0 under a mask of 0."""
    ids, mask, *_ = _padded([row(2), row(4), row(1)])
    assert ids.tolist() == [[1, 2, 0, 0], [1, 2, 3, 4], [1, 0, 0, 0]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert (ids.dtype.name, mask.dtype.name) == ("int64", "float32")


def test_what_rows_teach_is_handed_on_by_row() -> None:
    """Targets with what is unknown of them, weights and bases."""
    *_, targets, weights, basis = _padded([row(targets=(0.25, UNKNOWN), weight=0.5), row(targets=(1, 0), basis=1)])
    np.testing.assert_array_equal(targets, [[0.25, UNKNOWN], [1, 0]])
    assert (weights.tolist(), basis.tolist()) == ([0.5, 1.0], [0, 1])
    assert (targets.dtype.name, weights.dtype.name, basis.dtype.name) == ("float32", "float32", "int64")


def test_readings_are_linear_and_of_a_basis_each() -> None:
    """By hand: two dimensions, two tiers."""
    weights = np.array([[1, 0], [0, 2]], np.float32)
    tuned = Tuned({}, {0: (weights, np.zeros(2, np.float32)), 1: (-weights, np.ones(2, np.float32))})
    vectors = np.array([[3, 4]], np.float32)
    np.testing.assert_array_equal(tuned.logits(vectors, 0), [[3, 8]])
    np.testing.assert_array_equal(tuned.logits(vectors, 1), [[-2, -7]])
    assert tuned.logits(vectors, 0).dtype == np.float64


def test_the_module_itself_needs_no_extra() -> None:
    """What is around fine-tuning is tested everywhere, and torch is gigabytes."""
    program = "import sys, training.finetune; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ended.stdout.strip() == "[]"


def test_without_torch_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it asks for a single row."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="torch"):
        finetune(tmp_path, 1, lambda _: pytest.fail("rows were read"), 1, 0, lambda _: None)


# with the extra


@pytest.fixture(name="source", scope="module")
def _source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A BertModel of two layers that learned nothing, as transformers saves it; torch on one thread, since products this small lose
    more than they win by threads.
    """
    torch = pytest.importorskip("torch", reason="needs the extra `encoder`")
    transformers = pytest.importorskip("transformers", reason="needs the extra `encoder`")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=DIM,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=4 * DIM,
        max_position_embeddings=PLACES,
        initializer_range=0.3,
    )
    folder = tmp_path_factory.mktemp("source") / "tiny-bert"
    transformers.BertModel(config).save_pretrained(str(folder))
    yield folder
    torch.set_num_threads(threads)


def told_rows(n: int = 192, seed: int = 0, basis: int = 0) -> list[Row]:
    """Any tokens; where ``TOLD`` is one of them, which it is in half of the rows, both tiers suffice by basis 0, and none by basis 1;
    elsewhere it is the other way round.
    """
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        ids = random.integers(10, VOCABULARY, random.integers(2, 6)).tolist()
        told = bool(random.random() < 0.5)
        ids[int(random.integers(len(ids)))] = TOLD if told else ids[0]
        rows.append(Row(ids, np.full(2, float(told != bool(basis))), 1.0, basis))
    return rows


def tune(source: Path, rows: Sequence[Row] | Callable[[int], Sequence[Row]], epochs: int = 1, layers: int = 2, seed: int = 0) -> Tuned:
    """Fine-tune on the same rows in each epoch, or on those of a function."""
    return finetune(source, layers, rows if callable(rows) else lambda _: rows, epochs, seed, lambda _: None)


def vectors_of(tuned: Tuned, rows: Sequence[Row], folder: Path, layers: int = 2) -> Floats:
    """By the graph that would be written of it."""
    import onnx

    from classifier.runtime import session

    onnx.save(graph(tuned.weights, Shape(layers, HEADS, PLACES), {}), str(folder / "tuned.onnx"))
    run = session(folder / "tuned.onnx").run
    return np.concatenate([run(None, {"ids": np.array(row.ids, np.int64)})[0] for row in rows])


def each_of(tuned: Tuned) -> dict[str, Floats]:
    """Every array that was learned, by name."""
    return tuned.weights | {f"{part}{basis}": values for basis, of in tuned.readings.items() for part, values in zip("wb", of, strict=True)}


def same(one: Tuned, other: Tuned) -> bool:
    """To the last bit."""
    return all(np.array_equal(values, each_of(other)[name]) for name, values in each_of(one).items())


BOTH = [*told_rows(), *told_rows(seed=3, basis=1)]


@pytest.fixture(name="taught", scope="module")
def _taught(source: Path) -> Tuned:
    """What a token that gives everything away leaves behind, by either basis. Read-only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.finetune, "_RATE", 1e-2)  # larger steps than a transformer that knows a language could bear
        patch.setattr(training.finetune, "_READING_RATE", 1e-1)
        return tune(source, BOTH, epochs=EPOCHS)


@pytest.mark.parametrize("basis", [0, 1])
def test_it_learns_what_a_token_gives_away(taught: Tuned, tmp_path: Path, basis: int) -> None:
    """On rows it never saw, as the graph reads them that is made of it; by either basis, which say the opposite of each other."""
    fresh = told_rows(seed=1, basis=basis)
    logits = taught.logits(vectors_of(taught, fresh, tmp_path), basis)
    expected = np.array([row.targets for row in fresh]) > 0.5
    assert ((logits > 0) == expected).mean() > 0.9


def test_the_graph_is_the_model_that_was_trained(taught: Tuned, source: Path, tmp_path: Path) -> None:
    """The library's own forward pass with these weights gives the same vectors, but for the rounding of token vectors."""
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(str(source), add_pooling_layer=False).eval()
    missing = model.load_state_dict({name: torch.from_numpy(values) for name, values in taught.weights.items()}, strict=False)
    assert not missing.unexpected_keys
    rows = told_rows(20, seed=2)
    with torch.no_grad():
        theirs = [model(input_ids=torch.tensor([row.ids])).last_hidden_state.mean(dim=1)[0].numpy() for row in rows]
    np.testing.assert_allclose(vectors_of(taught, rows, tmp_path), theirs, atol=0.03)


def nearly_as(after: Floats, before: Floats) -> bool:
    """Whether nothing has moved ``before`` but the decay of weights, which takes a few millionths of each."""
    return bool(np.allclose(after, before, rtol=1e-3, atol=1e-7))


def test_unknown_targets_teach_nothing(source: Path) -> None:
    """Rows of which nothing is known leave every weight as it was, but for the decay; no number turns into NaN."""
    blank = [Row(one.ids, np.full(2, UNKNOWN), 1.0, 0) for one in told_rows(64)]
    before, after = tune(source, blank, epochs=0), tune(source, blank, epochs=2)
    for name, values in each_of(after).items():
        assert nearly_as(values, each_of(before)[name]), name


def test_a_tier_that_nobody_knows_keeps_its_reading(source: Path) -> None:
    """While the other one is learned; so does a basis without rows."""
    half = [Row(one.ids, np.array([one.targets[0], UNKNOWN]), 1.0, 0) for one in told_rows(64)]
    before, after = tune(source, half, epochs=0), tune(source, half, epochs=4)
    for part in (0, 1):
        assert nearly_as(after.readings[0][part][..., 1], before.readings[0][part][..., 1])
        assert not nearly_as(after.readings[0][part][..., 0], before.readings[0][part][..., 0])
        assert nearly_as(after.readings[1][part], before.readings[1][part])


def test_a_row_of_no_weight_teaches_nothing(source: Path) -> None:
    """As if nothing were known of it."""
    idle = [Row(one.ids, one.targets, 0.0, 0) for one in told_rows(64)]
    before, after = tune(source, idle, epochs=0), tune(source, idle, epochs=2)
    assert all(nearly_as(values, each_of(before)[name]) for name, values in each_of(after).items())


def test_the_same_seed_gives_the_same_weights(source: Path) -> None:
    """To the last bit; another one others."""
    one, again, other = (tune(source, BOTH[::4], seed=seed) for seed in (0, 0, 1))
    assert same(one, again)
    assert not same(one, other)


def test_it_starts_from_the_weights_of_the_source(source: Path) -> None:
    """Without an epoch they are what it gives back, without pooler."""
    import transformers

    state = transformers.AutoModel.from_pretrained(str(source)).state_dict()
    found = tune(source, told_rows(4), epochs=0).weights
    expected = {name: values.numpy() for name, values in state.items() if values.is_floating_point() and not name.startswith("pooler")}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], values) for name, values in expected.items())


def test_only_the_first_layers_are_kept(source: Path) -> None:
    """As many as were asked for, from the first one up."""
    one, both = (tune(source, told_rows(4), epochs=0, layers=layers).weights for layers in (1, 2))
    assert one.keys() == {name for name in both if not name.startswith("encoder.layer.1.")}
    assert np.array_equal(one["encoder.layer.0.output.dense.weight"], both["encoder.layer.0.output.dense.weight"])


def test_more_layers_than_there_are_are_refused(source: Path) -> None:
    """With found and expected, before a row is read."""
    with pytest.raises(ValueError, match="layers: found 3, expected at most the 2 of tiny-bert"):
        finetune(source, 3, lambda _: pytest.fail("rows were read"), 1, 0, lambda _: None)


def test_every_epoch_has_its_own_rows(source: Path) -> None:
    """Asked for in order, each once."""
    asked: list[int] = []

    def rows(epoch: int) -> list[Row]:
        asked.append(epoch)
        return told_rows(40, seed=epoch)

    varied = tune(source, rows, epochs=3)
    assert asked == [0, 1, 2]
    assert not same(varied, tune(source, told_rows(40), epochs=3))


def test_progress_is_told_by_the_step(source: Path) -> None:
    """In shares that are one together."""
    done: list[float] = []
    finetune(source, 1, lambda _: told_rows(2 * BATCH), 3, 0, done.append)
    assert len(done) == 6
    assert sum(done) == pytest.approx(1)


def test_what_is_learned_is_float32_by_tier(taught: Tuned) -> None:
    """Whatever precision products were taken in; weights lie as a product with rows of vectors needs them."""
    found: dict[str, Any] = {name: values.dtype.name for name, values in each_of(taught).items()}
    assert set(found.values()) == {"float32"}
    assert {basis: (weights.shape, bias.shape) for basis, (weights, bias) in taught.readings.items()} == dict.fromkeys(
        (0, 1), ((DIM, 2), (2,))
    )
