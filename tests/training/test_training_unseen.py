"""``python -m training.unseen``: a source is ranked by heads that never saw it, and by what else was learned."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from classifier import from_text
from training import unseen as unseen_module
from training.dataset import COLLECTIONS, Example, read
from training.features import Features
from training.figures import ZEBRA
from training.fit import ENCODER
from training.heads import CANDIDATES, FAMILIES
from training.unseen import main, parser, table, unseen

pytest_plugins = ("tests.training.fixtures_of_training",)

Matrix = NDArray[np.float64]
Figures = dict[str, dict[str, float]]

UNKNOWN = float("nan")
SOME = {"router": 0.75, "length_only": 0.5}


@pytest.fixture(name="one_thread", autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Heads on so few rows lose more than they win by threads."""
    with threadpool_limits(1):
        yield


def measured(name: str, source: str, cheapest: float, text: str = "Why?", **entries: Any) -> Example:
    """A row with outcomes: how good the cheapest tier was."""
    return Example(name, name, source, from_text(text), (cheapest, 0.9, 0.9), None, "train", **entries)


def written(name: str, label: int) -> Example:
    """A labelled row."""
    targets = tuple(float(tier >= label) for tier in range(3))
    return Example(name, name, "written", from_text("What is this?"), targets, label, "train")


def features_of(examples: Sequence[Example], signal: Sequence[float]) -> Features:
    """One signal that tells what there is to learn, and no words."""
    n = len(examples)
    return Features(
        np.array(signal, dtype=np.float32)[:, None],
        csr_matrix((n, 2), dtype=np.float32),
        np.array([example.kind == "outcomes" for example in examples], dtype=np.float32),
        np.eye(2, dtype=np.float32),
    )


def figures_of(examples: Sequence[Example], signal: Sequence[float], candidate: str = "linear") -> Figures:
    """What leaving out each source says."""
    return unseen(examples, features_of(examples, signal), candidate, Console(quiet=True))


@dataclass
class Spy:
    """A head that remembers on which rows it was fitted, by their signal, and answers with the signal."""

    seed: int
    fitted: ClassVar[list[tuple[set[float], set[float]]]] = []  # rows learned from, rows asked

    def fit(self, features: Features, targets: Matrix, weights: Matrix) -> Self:
        """As many targets and weights as rows."""
        assert len(features) == len(targets) == len(weights)
        self.rows = set(features.signals[:, 0].tolist())
        return self

    def logits(self, features: Features) -> Matrix:
        """(n, 1)."""
        self.fitted.append((self.rows, set(features.signals[:, 0].tolist())))
        return features.signals.astype(np.float64)


@pytest.fixture(name="spied")
def _spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[set[float], set[float]]]:
    """What a family "spy" was fitted on and asked for."""
    monkeypatch.setitem(FAMILIES, "spy", Spy)
    monkeypatch.setattr(Spy, "fitted", [])
    return Spy.fitted


# leaving sources out


def test_a_source_is_ranked_by_a_head_that_saw_none_of_its_rows(spied: list[tuple[set[float], set[float]]]) -> None:
    """And all others, labelled ones included; there is a head for each source of outcomes, in the order of their names."""
    examples = [written("1", 0), measured("2", "quiz", 1), measured("3", "exam", 0), measured("4", "quiz", 0), written("5", 2)]
    figures_of(examples, [1, 2, 3, 4, 5], "spy")
    assert spied == [({1.0, 2.0, 4.0, 5.0}, {3.0}), ({1.0, 3.0, 5.0}, {2.0, 4.0})]


def test_every_source_of_outcomes_has_its_figures() -> None:
    """Labelled rows are learned from alone."""
    examples = [written("1", 0), written("2", 2), *(measured(f"m{at}", ("quiz", "exam")[at % 2], at % 3 / 2) for at in range(12))]
    figures = figures_of(examples, range(14))
    assert list(figures) == ["exam", "quiz"]
    assert {frozenset(values) for values in figures.values()} == {frozenset({"router", "length_only"})}


def three_sources(sign: Callable[[int], float]) -> tuple[list[Example], list[float]]:
    """Sources a, b and c of sixty rows, a signal that counts for the cheapest tier by the ``sign`` of the source, and two labels."""
    examples = [measured(f"{source}{at}", "abc"[source], at % 2) for source in range(3) for at in range(60)]
    signal = [1 + sign(source) * (at % 2 - 0.5) + at / 1000 for source in range(3) for at in range(60)]
    return [*examples, written("small", 0), written("large", 2)], [*signal, 1, 2]


@pytest.mark.parametrize("candidate", ["linear", "trees"])
def test_what_sources_have_in_common_ranks_one_that_was_never_seen(candidate: str) -> None:
    """Where the same signal means the same everywhere."""
    figures = figures_of(*three_sources(lambda _: 1), candidate)
    assert min(values["router"] for values in figures.values()) > 0.95


def test_what_is_true_of_a_source_alone_earns_nothing() -> None:
    """A head that had seen a source where the signal means the opposite would rank it rightly."""
    figures = figures_of(*three_sources(lambda source: -1 if source == 2 else 1))
    assert figures["c"]["router"] < 0.05


def test_prompt_length_stands_beside_the_router() -> None:
    """The shorter the likelier, in every source: here rightly in one and wrongly in the other."""
    texts = {"short": ("hm", "a much longer question"), "long": ("a much longer question", "hm")}
    examples = [measured(f"{source}{at}", source, 1 - at, texts[source][at]) for source in texts for at in range(2)]
    figures = figures_of([*examples, written("small", 0), written("large", 2)], range(6))
    assert {source: values["length_only"] for source, values in figures.items()} == {"short": 1, "long": 0}


def test_rows_on_which_the_cheapest_tier_was_not_measured_do_not_count(spied: list[tuple[set[float], set[float]]]) -> None:
    """They are neither asked, nor learned from for their own source."""
    examples = [measured("1", "quiz", 1), measured("2", "quiz", UNKNOWN), measured("3", "quiz", 0), measured("4", "exam", 1)]
    figures = figures_of(examples, [4, 3, 2, 1], "spy")
    assert spied[1] == ({1.0}, {4.0, 2.0})
    assert figures["quiz"]["router"] == 1


def test_a_source_whose_cheapest_tier_nobody_measured_is_left_out(spied: list[tuple[set[float], set[float]]]) -> None:
    """No head is fitted for it; the others learn from its rows."""
    examples = [measured("1", "quiz", 1), measured("2", "quiz", 0), measured("3", "exam", UNKNOWN)]
    assert list(figures_of(examples, [1, 2, 3], "spy")) == ["quiz"]
    assert spied == [({3.0}, {1.0, 2.0})]


def test_a_collection_is_left_out_as_a_whole_and_ranked_within_its_parts(spied: list[tuple[set[float], set[float]]]) -> None:
    """Of its two parts one is ranked rightly and one wrongly."""
    parts = [replace(measured(str(at), COLLECTIONS[0], at % 2), category="ab"[at // 2]) for at in range(4)]
    figures = figures_of([*parts, measured("4", "quiz", 1)], [1, 2, 4, 3, 5], "spy")
    assert spied[0] == ({5.0}, {1.0, 2.0, 3.0, 4.0})
    assert figures[COLLECTIONS[0]]["router"] == pytest.approx(0.5)


def test_figures_are_the_same_for_the_same_seed() -> None:
    """To the last digit, also of heads that are drawn."""
    examples, signal = three_sources(lambda _: 0.02)
    first, same = (unseen(examples, features_of(examples, signal), "network+trees", Console(quiet=True), 3) for _ in range(2))
    assert first == same


# the table


def test_the_table_has_a_line_a_source_and_the_mean() -> None:
    """To three places; zebra is shown, and is no part of the mean."""
    shown = table({"quiz": {"router": 0.5, "length_only": 0.4}, "exam": SOME, ZEBRA: {"router": 0.1, "length_only": 0.1}})
    assert [line.split() for line in shown.splitlines()] == [
        ["source", "never", "seen", "router", "length"],
        ["quiz", "0.500", "0.400"],
        ["exam", "0.750", "0.500"],
        [ZEBRA, "0.100", "0.100"],
        ["mean", "without", "zebra", "0.625", "0.450"],
    ]


@pytest.mark.parametrize("figures", [{}, {ZEBRA: SOME}], ids=["nothing", "zebra"])
def test_without_another_source_there_is_no_mean(figures: Figures) -> None:
    """Nor an invented one."""
    assert "mean" not in table(figures)


# the command


def test_the_command_prints_the_table(tiny_prompts: Path, tiny_outcomes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On real signals and words: what makes the questions of one source hard makes those of the other hard."""
    assert main(["--prompts", str(tiny_prompts), "--outcomes", str(tiny_outcomes), "--head", "linear"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [line[0] for line in lines] == ["source", "exam", "quiz", "mean"]
    assert min(float(line[-2]) for line in lines[1:]) > 0.8


def test_the_command_learns_from_training_prompts_and_all_outcomes(
    tiny_prompts: Path, tiny_outcomes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test prompts stay unseen; an outcome source is held out as a whole, so that its split does not matter."""
    seen: list[Example] = []

    def spy(examples: Sequence[Example], features: Features, candidate: str, _console: Console) -> Figures:
        assert (len(features), candidate) == (len(examples), "trees")
        seen.extend(examples)
        return {}

    monkeypatch.setattr(unseen_module, "unseen", spy)
    assert main(["--prompts", str(tiny_prompts), "--outcomes", str(tiny_outcomes), "--head", "trees"]) == 0
    expected = [example for example in read([tiny_prompts]) if example.split == "train"] + read([tiny_outcomes])
    assert [example.id for example in seen] == [example.id for example in expected]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": 1, "prompt": "x", "outcomes": {"small": 2}}', "rows.jsonl:1: outcomes.small: found 2"),
        ("[]", "rows.jsonl:1: line: found list"),
    ],
)
def test_bad_data_ends_the_command_with_its_place(
    tiny_prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    """Exit code 1 and one line that names it."""
    (tmp_path / "rows.jsonl").write_text(line + "\n", encoding="utf-8")
    assert main(["--prompts", str(tiny_prompts), "--outcomes", str(tmp_path)]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--outcomes"], ["--outcomes", "x", "--head", "forest"]], ids=["none", "empty", "no head"])
def test_arguments_that_mean_nothing_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """By argparse, with the usage: without outcomes there is nothing to leave out."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m training.unseen" in capsys.readouterr().err


def test_the_command_asks_the_best_head_on_the_encoder_of_the_checkout() -> None:
    """Unless others are asked for."""
    arguments = parser().parse_args(["--outcomes", "x"])
    assert (arguments.head, arguments.encoder) == (CANDIDATES[-1], ENCODER)
    assert arguments.prompts == [Path("data/prompts")]
