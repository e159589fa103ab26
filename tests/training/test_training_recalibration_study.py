"""``python -m training.recalibration_study``: heads that never saw a source, recalibrated by labels of it, judged on the rest of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from scipy.sparse import csr_matrix
from scipy.special import expit
from threadpoolctl import threadpool_limits

from classifier import from_text
from training import recalibration_study
from training.calibrate import CERTAIN, Calibration
from training.crossfit import Reading
from training.dataset import Example
from training.features import Features
from training.heads import CANDIDATES, FAMILIES
from training.own import Own
from training.recalibration_study import WIDTHS, Case, best_width, by_traffic, cases, effect, main, parser, study, training_rows
from training.shrinkage import WIDTH

pytest_plugins = ("tests.training.fixtures_of_training",)

Matrix = NDArray[np.float64]

UNKNOWN = float("nan")
SHIPPED = Calibration((0.0, 1.0, CERTAIN[0]), (1.0, 1.0, CERTAIN[1]))
A_SOURCE = 40


@pytest.fixture(name="small_sources", autouse=True)
def _small_sources(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sources of forty rows are enough, of which ten or twenty are drawn."""
    monkeypatch.setattr(recalibration_study, "SIZES", (10, 20))
    monkeypatch.setattr(recalibration_study, "REST", 10)
    with threadpool_limits(1):
        yield


def examples() -> list[Example]:
    """Two labelled sources, three of outcomes and one that is too small, each row with its place as an id."""
    rows: list[Example] = []
    for source in ("mail", "chat", "quiz", "exam", "test", "tiny"):
        for at in range(A_SOURCE if source != "tiny" else 5):
            label = at % 3 if source in ("mail", "chat") else None
            targets = (0.2, 0.6, 0.9) if label is None else tuple(float(tier >= label) for tier in range(3))
            name = f"{source}{at}"
            rows.append(Example(str(len(rows)), name, source, from_text(name), targets, label, "train"))
    return rows


def features_of(rows: Sequence[Example]) -> Features:
    """One signal: the place of the row, or of the row that it is a copy of."""
    return Features(
        np.array([[float(row.id.partition("~")[0])] for row in rows], dtype=np.float32),
        csr_matrix((len(rows), 2), dtype=np.float32),
        np.array([row.kind == "outcomes" for row in rows], dtype=np.float32),
        np.eye(2, dtype=np.float32),
    )


@dataclass
class Spy:
    """A head that remembers which rows it was fitted on, and answers with them and the basis."""

    seed: int
    fitted: ClassVar[list[set[int]]] = []

    def fit(self, features: Features, targets: Matrix, weights: Matrix) -> Self:
        """As many targets and weights as rows."""
        assert len(features) == len(targets) == len(weights)
        self.fitted.append(set(features.signals[:, 0].astype(int).tolist()))
        return self

    def logits(self, features: Features) -> Matrix:
        """(n, 3): which basis was asked for, and a logit that varies."""
        basis = features.basis.astype(np.float64)
        return np.stack([basis, features.signals[:, 0] % 7 - 3.0, basis], axis=1)


@pytest.fixture(name="spied")
def _spied(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """The rows that each head of a family "spy" was fitted on."""
    monkeypatch.setitem(FAMILIES, "spy", Spy)
    monkeypatch.setattr(Spy, "fitted", [])
    return Spy.fitted


def found_in(rows: Sequence[Example], count: int) -> list[Case]:
    """The cases of these rows."""
    return cases(rows, count, features_of(rows), "spy", Console(quiet=True))


# leaving sources out


def test_a_source_is_read_by_a_head_that_saw_none_of_its_rows(spied: list[set[int]]) -> None:
    """Nor copies of them; every source that is large enough has its turn, one of each kind at once."""
    rows = examples()
    dressed = [replace(row, id=f"{row.id}~typos") for row in rows if row.kind == "labelled"]
    found = found_in([*rows, *dressed], len(rows))
    places = {name: {int(row.id) for row in rows if row.source == name} for name in {row.source for row in rows}}
    turns = [{"chat", "exam"}, {"mail", "quiz"}, {"test"}]
    assert len(spied) == len(turns)
    for fitted, out in zip(spied, turns, strict=True):
        assert not fitted & set().union(*(places[name] for name in out))
        assert all(fitted & places[name] for name in places.keys() - out - {"tiny"})
    assert {case.source for case in found} == {"chat", "mail", "exam", "quiz", "test"}


def test_a_fifth_of_the_groups_is_kept_for_the_calibration(spied: list[set[int]]) -> None:
    """No head is fitted on all that it might have seen."""
    rows = examples()
    found_in(rows, len(rows))
    assert all(0.6 < len(fitted) / (len(rows) - 2 * A_SOURCE) < 0.95 for fitted in spied[:2])


def test_outcomes_are_read_twice_and_labels_once(spied: list[set[int]]) -> None:
    """By the head that reports on them and by the one that serves, which is of another basis."""
    found = {(case.source, case.head): case for case in found_in(examples(), len(examples()))}
    assert set(found) == {(source, "serving") for source in ("mail", "chat", "quiz", "exam", "test")} | {
        (source, "outcomes") for source in ("quiz", "exam", "test")
    }
    assert [key for key, case in found.items() if case.foreign] == [("exam", "serving"), ("quiz", "serving"), ("test", "serving")]
    assert {key[1]: set(case.reading.logits[:, 0].tolist()) for key, case in found.items()} == {"serving": {0.0}, "outcomes": {1.0}}
    assert found["chat", "serving"].reading.shipped.shift[2] == CERTAIN[0]
    assert found["exam", "outcomes"].reading.shipped.shift[2] != CERTAIN[0]


def test_a_source_of_its_kind_alone_is_not_left_out(spied: list[set[int]]) -> None:
    """There would be nothing to learn that kind from; with no source left there is nothing to study."""
    rows = [row for row in examples() if row.source in ("mail", "quiz")]
    with pytest.raises(ValueError, match=r"found the sources \['mail', 'quiz'\]"):
        found_in(rows, len(rows))


# drawing labels


def simulated(n: int = 200, seed: int = 0, slope: float = 0.4, shift: float = -0.5) -> Case:
    """A labelled source whose truth lies at this slope and shift of what the head says."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (n, 3))
    logits[:, 1] = logits[:, 0] + 1
    drawn = random.random(n)[:, None]
    labels = (drawn > expit(slope * logits[:, :2] + shift)).sum(axis=1)
    targets = (labels[:, None] <= np.arange(3)).astype(np.float64)
    own = Own("labelled", targets, labels, np.ones(n), np.arange(n).astype(str))
    return Case("made", "serving", Reading(logits, SHIPPED), own)


def measured(source: str = "quiz") -> Case:
    """A source of outcomes with scores between 0 and 1, one of them missing."""
    targets = np.tile([0.25, 0.5, 1.0], (60, 1))
    targets[0, 1] = UNKNOWN
    own = Own("outcomes", targets, np.full(60, -1), np.ones(60), np.arange(60).astype(str))
    return Case(
        source, "outcomes", Reading(np.random.default_rng(0).normal(0, 1, (60, 3)), Calibration((0, 0, 1), (1, 1, 1)), serves=False), own
    )


def test_a_score_is_drawn_as_0_or_1() -> None:
    """As often 1 as it says; a better tier never fails where a worse one passes, and what is not known stays unknown."""
    random = np.random.default_rng(0)
    draws = np.array([measured().drawn(random).targets for _ in range(200)])
    assert np.isnan(draws[:, 0, 1]).all()
    assert set(np.unique(draws[:, 1:]).tolist()) == {0.0, 1.0}
    assert draws[:, 1:].mean(axis=(0, 1)) == pytest.approx([0.25, 0.5, 1.0], abs=0.03)
    assert (np.diff(draws[:, 1:], axis=2) >= 0).all()


def test_labels_are_drawn_as_they_are() -> None:
    """They are 0 and 1 already."""
    case = simulated()
    np.testing.assert_array_equal(case.drawn(np.random.default_rng(0)).targets, case.own.targets)


def test_only_sizes_that_leave_enough_to_judge_on_are_tried() -> None:
    """Of thirty rows twenty may be drawn, of 25 ten."""
    case = simulated()
    few = np.arange(200) < 25
    assert case.sizes() == [10, 20]
    assert replace(case, own=case.own.rows(few)).sizes() == [10]


def test_recalibration_lowers_log_loss_and_calibration_error() -> None:
    """Where the shipped calibration does not suit the source; before is the same whatever the width."""
    found = effect(simulated(), 20, WIDTH, 10)
    assert found.rise.mean() < -0.05
    assert found.excess[1].mean() < found.excess[0].mean() / 2
    np.testing.assert_array_equal(effect(simulated(), 20, WIDTHS[0], 10).loss[0], found.loss[0])


def test_the_same_seed_draws_the_same_labels() -> None:
    """Another draws others."""
    one, same, other = (effect(measured(), 20, WIDTH, 3, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.loss, same.loss)
    assert (one.loss[1] != other.loss[1]).all()


def test_what_was_drawn_is_not_judged_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200 rows 180 are left."""
    judged = []
    figures = recalibration_study._figures

    def spy(sufficiency: Matrix, own: Own, *, excess: bool = True) -> tuple[float, float]:
        judged.append((len(sufficiency), len(own.labels)))
        return figures(sufficiency, own, excess=excess)

    monkeypatch.setattr(recalibration_study, "_figures", spy)
    effect(simulated(), 20, WIDTH, 2)
    assert set(judged) == {(180, 180)}


def test_unlabelled_rows_alone_bring_something_where_shares_are_others() -> None:
    """Here small suffices less often than the head assumes, and nothing else has changed."""
    found = by_traffic(simulated(2_000, slope=1.0, shift=-1.5))
    assert found.rise.mean() < 0


# widths


def losses(*best: tuple[Case, int]) -> list[tuple[Case, Matrix]]:
    """For each case, log-losses that are least at one width."""
    return [(case, np.abs(np.arange(len(WIDTHS)) - place) / 10) for case, place in best]


def test_the_width_is_that_of_least_loss() -> None:
    """Of the mean over cases of the basis."""
    assert best_width(losses((simulated(), 3)), foreign=False) == WIDTHS[3]
    foreign = replace(measured("exam"), reading=replace(measured().reading, serves=True))
    found = losses((simulated(), 3), (foreign, 7))
    assert best_width(found, foreign=False) == WIDTHS[3]
    assert best_width(found, foreign=True) == WIDTHS[7]


def test_a_source_has_no_say_in_its_own_width() -> None:
    """The others choose it."""
    found = losses((measured("quiz"), 2), (measured("exam"), 9))
    assert best_width(found, foreign=False, without="quiz") == WIDTHS[9]
    assert best_width(found, foreign=False, without="exam") == WIDTHS[2]


def test_labels_and_outcomes_count_alike() -> None:
    """One steep source of outcomes has as much say as many of labels together."""
    many = losses(*[(simulated(seed=seed), 3) for seed in range(5)])
    steep = [(measured(), np.abs(np.arange(len(WIDTHS)) - 8.0))]
    assert best_width([*many, *steep], foreign=False) == WIDTHS[8]


# the table and the command


def test_the_table_has_every_case_and_the_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes, unlabelled traffic for labelled sources, and which widths were chosen."""
    monkeypatch.setattr(recalibration_study, "_WIDTH_DRAWS", 1)
    lines = [line.split() for line in study([simulated(), replace(simulated(seed=1), source="other"), measured()], 2, Console(quiet=True))]
    rows = [tuple(line[:4]) for line in lines]
    assert [row for row in rows if row[0] == "made"] == [("made", "labelled,", "serving", size) for size in ("10", "20", "traffic")]
    assert [row for row in rows if row[0] == "quiz"] == [("quiz", "outcomes,", "outcomes", size) for size in ("10", "20")]
    assert [line[2] for line in lines if line[0] == "mean"] == ["2", "2", "2", "1", "1"]
    means = [line for line in lines if line[:3] == ["mean", "of", "2"] and line[5] == "10"]
    each = [float(line[4]) for line in lines if line[0] in ("made", "other") and line[3] == "10"]
    assert float(means[0][6]) == pytest.approx(np.mean(each), abs=1e-4)
    assert lines[-1][0] == "widths"


def test_each_file_of_labelled_prompts_is_a_source(tmp_path: Path) -> None:
    """Test rows, by folder or by their own word, have no part in it; nor have those of outcomes that a hash holds out."""
    (tmp_path / "test").mkdir()
    row = '{{"id": "{0}", "prompt": "Prompt {0}", "tier": "small"{1}}}\n'
    (tmp_path / "mail.jsonl").write_text(
        "".join(row.format(at, "") for at in range(20)) + row.format("t", ', "split": "test"'), encoding="utf-8"
    )
    (tmp_path / "chat.jsonl").write_text(row.format("c", ""), encoding="utf-8")
    (tmp_path / "test" / "more.jsonl").write_text(row.format("m", ""), encoding="utf-8")
    found = training_rows([tmp_path], [], [])
    assert [(example.source, example.id) for example in found] == [("chat", "c"), *(("mail", str(at)) for at in range(20))]


def test_the_command_prints_the_table(tiny_prompts: Path, tiny_outcomes: Path, fillers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On real signals and words."""
    arguments = [
        "--prompts",
        str(tiny_prompts),
        "--outcomes",
        str(tiny_outcomes),
        "--augment",
        str(fillers),
        "--head",
        "linear",
        "--draws",
        "2",
    ]
    assert main(arguments) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert {line[0] for line in lines[1:]} == {"exam", "quiz", "mean", "widths"}


def test_the_command_asks_the_best_head_two_hundred_times() -> None:
    """Unless others are asked for."""
    arguments = parser().parse_args([])
    assert (arguments.head, arguments.draws) == (CANDIDATES[-1], 200)


def test_too_few_sources_end_the_command(tiny_prompts: Path, fillers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and one line."""
    assert main(["--prompts", str(tiny_prompts), "--augment", str(fillers)]) == 1
    assert "expected several of a kind" in capsys.readouterr().err
