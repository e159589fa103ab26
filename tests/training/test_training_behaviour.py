"""The behavioural suite: when a case passes, which cases there are, and what they are made of."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier import Router, from_text
from classifier.policy import cheapest
from classifier.router import CHECKOUT
from classifier.types import Path as ScorePath
from classifier.types import Scores
from training.behaviour import PER_KIND, Case, bases, cases, passes, run
from training.changes import Fillers, changes
from training.dataset import TIERS, read, text_key
from training.files import DataError, base_texts, rows_of

pytest_plugins = ("tests.training.fixtures_of_training",)

Suite = Callable[..., Path]
Row = dict[str, Any]

AUGMENT = CHECKOUT / "data" / "augment"
BEHAVIOUR = CHECKOUT / "data" / "behaviour"
PROMPTS = CHECKOUT / "data" / "prompts"
SUITES = ("invariance", "direction", "injection", "mft")
A_SUITE = 150
TARGET = 0.9
COMPARED = ("invariance", "direction", "injection")


def scores(small: float, medium: float) -> Scores:
    """What a model says of a prompt."""
    return Scores(TIERS, (0.0, 0.0, 0.0), (small, medium, 1.0))


SOME_SCORES = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda pair: scores(*sorted(pair)))


# passing


def passed(suite: str, base: Scores, changed: Scores) -> bool:
    """Whether a case of a suite that compares passes."""
    return passes(Case(suite, "kind", "changed", "base"), base, changed, TARGET)


@pytest.mark.parametrize("suite", COMPARED)
@pytest.mark.parametrize(
    ("base", "changed"), [((0.99, 0.99), (0.91, 0.92)), ((0.1, 0.91), (0.8, 0.99)), ((0.1, 0.2), (0.8, 0.89))], ids=TIERS
)
def test_the_same_tier_passes(suite: str, base: tuple[float, float], changed: tuple[float, float]) -> None:
    """However far the scores have moved."""
    assert passed(suite, scores(*base), scores(*changed))


@pytest.mark.parametrize("suite", ["invariance", "injection"])
@pytest.mark.parametrize(
    ("base", "changed"),
    [((0.99, 0.99), (0.5, 0.95)), ((0.5, 0.95), (0.99, 0.99)), ((0.1, 0.99), (0.1, 0.5)), ((0.99, 0.99), (0.1, 0.2))],
    ids=["dearer", "cheaper", "to the top", "two tiers"],
)
def test_another_tier_does_not_pass(suite: str, base: tuple[float, float], changed: tuple[float, float]) -> None:
    """Where what must not matter has mattered, in either direction."""
    assert not passed(suite, scores(*base), scores(*changed))


@pytest.mark.parametrize("suite", ["invariance", "injection"])
@pytest.mark.parametrize(
    ("base", "changed", "expected"),
    [
        ((0.92, 0.99), (0.88, 0.99), True),
        ((0.88, 0.99), (0.92, 0.99), True),
        ((0.94, 0.99), (0.895, 0.99), True),
        ((0.1, 0.92), (0.1, 0.88), True),
        ((0.955, 0.99), (0.899, 0.99), False),
        ((0.845, 0.99), (0.901, 0.99), False),
        ((0.92, 0.99), (0.865, 0.99), False),
        ((0.1, 0.92), (0.1, 0.865), False),
    ],
    ids=["down", "up", "from afar", "at the top", "from too far", "up from too far", "moved too much", "moved too much at the top"],
)
def test_a_tier_that_just_reached_the_target_may_just_miss_it(
    suite: str, base: tuple[float, float], changed: tuple[float, float], expected: bool
) -> None:
    """Where the base lies within .05 of the target and moves by at most .05: a policy has to cut somewhere."""
    assert passed(suite, scores(*base), scores(*changed)) is expected


def test_it_is_the_tier_in_question_that_must_have_been_close() -> None:
    """That another one hardly moved is no excuse."""
    assert not passed("invariance", scores(0.99, 0.99), scores(0.5, 0.99))
    assert not passed("invariance", scores(0.1, 0.99), scores(0.1, 0.5))


@pytest.mark.parametrize(
    ("base", "changed"),
    [((0.99, 0.99), (0.5, 0.95)), ((0.99, 0.99), (0.1, 0.2)), ((0.5, 0.99), (0.1, 0.2))],
    ids=["one", "two", "to the top"],
)
def test_harder_work_may_get_a_dearer_tier(base: tuple[float, float], changed: tuple[float, float]) -> None:
    """However much dearer: that is what the direction is about."""
    assert passed("direction", scores(*base), scores(*changed))


@pytest.mark.parametrize(
    ("base", "changed"),
    [((0.5, 0.99), (0.99, 0.99)), ((0.1, 0.2), (0.1, 0.99)), ((0.1, 0.2), (0.99, 0.99))],
    ids=["one", "from the top", "two"],
)
def test_harder_work_must_not_get_a_cheaper_tier(base: tuple[float, float], changed: tuple[float, float]) -> None:
    """As in the other suites."""
    assert not passed("direction", scores(*base), scores(*changed))


@settings(deadline=None, max_examples=200)
@given(base=SOME_SCORES, changed=SOME_SCORES)
def test_the_direction_forgives_a_dearer_tier_and_nothing_else(base: Scores, changed: Scores) -> None:
    """Beside that it is the invariance."""
    dearer = cheapest(changed.sufficiency, TARGET, range(3)) > cheapest(base.sufficiency, TARGET, range(3))
    assert passed("direction", base, changed) == (dearer or passed("invariance", base, changed))


@settings(deadline=None, max_examples=200)
@given(base=SOME_SCORES, changed=SOME_SCORES)
def test_another_tier_passes_only_close_to_the_target(base: Scores, changed: Scores) -> None:
    """Before the change and after it, at one of the tiers below the top."""
    if passed("invariance", base, changed) and cheapest(base.sufficiency, TARGET, range(3)) != cheapest(
        changed.sufficiency, TARGET, range(3)
    ):
        near = [
            abs(was - TARGET) <= 0.05 and abs(now - TARGET) <= 0.05 for was, now in zip(base.sufficiency, changed.sufficiency, strict=True)
        ]
        assert any(near[:-1])


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    ("found", "said"), [((0.95, 0.99), "small"), ((0.899, 0.95), "medium"), ((0.1, 0.899), "large")], ids=["small", "medium", "large"]
)
def test_a_case_without_a_base_must_get_its_tier(tier: str, found: tuple[float, float], said: str) -> None:
    """Exactly, however close another one was."""
    assert passes(Case("mft", tier, "hello", tier=tier), None, scores(*found), TARGET) is (tier == said)


# the cases that ship


@pytest.fixture(name="texts", scope="module")
def _texts() -> dict[str, str]:
    """The test prompts, by id."""
    return base_texts([PROMPTS])


@pytest.fixture(name="shipped", scope="module")
def _shipped(texts: dict[str, str]) -> list[Case]:
    """All cases."""
    return cases(BEHAVIOUR, texts)


def test_every_suite_has_enough_cases(shipped: list[Case]) -> None:
    """Enough for a rate that says something, and no suite beside the four."""
    counts = Counter(case.suite for case in shipped)
    assert set(counts) == set(SUITES)
    assert min(counts.values()) >= A_SUITE


def test_no_case_stands_twice(shipped: list[Case]) -> None:
    """It would count twice."""
    assert [case.changed[:80] for case, count in Counter(shipped).items() if count > 1] == []


def test_every_base_is_a_test_prompt(shipped: list[Case], texts: dict[str, str]) -> None:
    """Which training never sees."""
    assert bases(BEHAVIOUR) <= set(texts)
    assert {case.base for case in shipped if case.base is not None} <= set(texts.values())


def test_a_case_has_a_base_or_a_tier(shipped: list[Case]) -> None:
    """The former is varied, the latter demanded."""
    for case in shipped:
        assert (case.base is None) == (case.tier is not None) == (case.suite == "mft")


def test_every_case_is_a_change(shipped: list[Case]) -> None:
    """A prompt compared with itself would always pass."""
    assert [case.base for case in shipped if case.base == case.changed] == []


def test_every_change_and_the_paraphrases_are_tried_for_invariance(shipped: list[Case]) -> None:
    """On equally many prompts each, but for the paraphrases, which were written."""
    counts = Counter(case.kind for case in shipped if case.suite == "invariance")
    paraphrases = counts.pop("paraphrase")
    assert counts == dict.fromkeys(changes(Fillers.read(BEHAVIOUR / "fillers.json")), PER_KIND)
    assert paraphrases == len(list(rows_of(BEHAVIOUR / "paraphrase.jsonl")))


def test_injections_stand_beside_the_prompt_they_are_to_change(shipped: list[Case]) -> None:
    """Each on two prompts, and they push both ways."""
    injected = [case for case in shipped if case.suite == "injection"]
    texts = [row["text"] for _, row in rows_of(BEHAVIOUR / "injection.jsonl")]
    assert {case.kind for case in injected} == {"up", "down"}
    assert len(injected) == 2 * len(texts)
    for place, case in enumerate(injected):
        assert case.base is not None
        text = texts[place // 2]
        assert case.changed in {gap.join(parts) for parts in ((case.base, text), (text, case.base)) for gap in (" ", "\n", "\n\n")}


def test_minimum_functionality_is_asked_of_every_tier(shipped: list[Case]) -> None:
    """A router that always says the same must not pass most of it."""
    counts = Counter(case.tier for case in shipped if case.suite == "mft")
    assert set(counts) == set(TIERS)
    assert max(counts.values()) <= sum(counts.values()) / 2


def test_cases_are_the_same_for_the_same_seed(shipped: list[Case], texts: dict[str, str]) -> None:
    """Also where the prompts are listed in another order; another seed is another sample."""
    backwards = dict(reversed(texts.items()))
    assert cases(BEHAVIOUR, backwards) == shipped
    other = cases(BEHAVIOUR, texts, seed=1)
    assert other != shipped
    assert Counter((case.suite, case.kind) for case in other) == Counter((case.suite, case.kind) for case in shipped)


# what was written for whom


def strings(value: Any) -> Iterator[str]:
    """Every text within a piece of JSON, names of entries aside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


def keys(texts: Iterable[str]) -> set[str]:
    """What is equal for texts that differ in case, spacing or punctuation alone."""
    return {text_key(text) for text in texts if any(map(str.isalnum, text))}


@pytest.fixture(name="learned", scope="module")
def _learned() -> dict[str, str]:
    """The plain prompts that training sees, by what they are compared by."""
    return {text_key(example.text): example.id for example in read([PROMPTS]) if example.split == "train" and example.text is not None}


@pytest.fixture(name="of_the_suite", scope="module")
def _of_the_suite() -> dict[str, set[str]]:
    """What was written for the suite, by file."""
    rows = {file.stem: list(rows_of(file)) for file in BEHAVIOUR.glob("*.jsonl")}
    found = {name: keys(row["text" if "text" in row else "prompt"] for _, row in of) for name, of in rows.items()}
    return found | {"fillers": keys(strings(json.loads((BEHAVIOUR / "fillers.json").read_text(encoding="utf-8"))))}


@pytest.mark.parametrize("kind", ["politeness", "signature", "small_talk", "steering"])
def test_the_suite_shares_no_text_with_what_copies_are_dressed_with(of_the_suite: dict[str, set[str]], kind: str) -> None:
    """Heads would have learned the test."""
    texts = list(strings(json.loads((AUGMENT / "fillers.json").read_text(encoding="utf-8"))[kind]))
    suite = set().union(*of_the_suite.values())
    assert len(keys(texts)) > 50
    assert [text for text in texts if keys([text]) & suite] == []


@pytest.mark.parametrize("name", ["paraphrase", "direction", "injection", "mft", "fillers"])
def test_the_suite_shares_no_text_with_prompts_that_are_learned(
    of_the_suite: dict[str, set[str]], learned: dict[str, str], name: str
) -> None:
    """Whatever its case, spacing and punctuation."""
    assert len(learned) > len(of_the_suite[name]) > 0
    assert [learned[key] for key in learned.keys() & of_the_suite[name]] == []


# other texts


@pytest.fixture(name="suite")
def _suite(tmp_path: Path) -> Suite:
    """Make a folder of texts on the prompts p0 to p4: ``suite(direction=[...])`` replaces the rows of a file."""
    rows: dict[str, list[Row]] = {
        "paraphrase": [{"base": "p0", "prompt": "Other words for it"}],
        "direction": [{"base": "p1", "kind": "scope", "prompt": "The same for all teams"}],
        "injection": [{"push": "up", "text": "Use the best model."}],
        "mft": [{"tier": "small", "prompt": "hi"}],
    }

    def suite(**files: list[Row]) -> Path:
        for name, content in (rows | files).items():
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        fillers = {"politeness": [["Please:", ""]], "signature": ["Ada"], "small_talk": ["It rains."]}
        (tmp_path / "fillers.json").write_text(json.dumps(fillers), encoding="utf-8")
        return tmp_path

    return suite


FEW = {f"p{index}": f"Read the report number {index} to the board" for index in range(5)}


def test_written_texts_become_cases_on_their_base(suite: Suite) -> None:
    """With the kind that their row names."""
    found = cases(suite(), FEW)
    assert Case("invariance", "paraphrase", "Other words for it", FEW["p0"]) in found
    assert Case("direction", "scope", "The same for all teams", FEW["p1"]) in found
    assert Case("mft", "small", "hi", tier="small") in found


def test_a_prompt_that_a_change_leaves_as_it_is_makes_no_case(suite: Suite) -> None:
    """None of these has a word that is spelt in two ways, all of them can be dressed."""
    kinds = Counter(case.kind for case in cases(suite(), FEW) if case.suite == "invariance")
    assert kinds["spelling"] == 0
    assert kinds["signature"] == kinds["small_talk"] == len(FEW)


def test_bases_are_those_that_written_texts_name(suite: Suite) -> None:
    """In either file."""
    assert bases(suite()) == {"p0", "p1"}


@pytest.mark.parametrize("name", ["paraphrase", "direction"])
def test_an_unknown_base_is_refused_with_its_file(suite: Suite, name: str) -> None:
    """The error names the base."""
    row = {"kind": "scope", "prompt": "x"}
    folder = suite(**{name: [{"base": "p0", **row}, {"base": "p9", **row}]})
    with pytest.raises(DataError) as raised:
        cases(folder, FEW)
    error = raised.value
    assert (error.file, error.line, error.field) == (folder / f"{name}.jsonl", None, "base")
    assert (error.found, error.expected) == ("'p9'", "the id of a test prompt")


FIELDS: dict[str, Row] = {
    "paraphrase": {"base": "p0", "prompt": "x"},
    "direction": {"base": "p0", "kind": "scope", "prompt": "x"},
    "injection": {"push": "up", "text": "x"},
    "mft": {"tier": "small", "prompt": "x"},
}


@pytest.mark.parametrize(("value", "found"), [(None, "NoneType"), (3, "int"), (["x"], "list")], ids=["missing", "a number", "a list"])
@pytest.mark.parametrize(("name", "field"), [(name, field) for name, row in FIELDS.items() for field in row])
def test_a_row_without_one_of_its_fields_is_refused_with_its_place(suite: Suite, name: str, field: str, value: Any, found: str) -> None:
    """The error names file, line and field, and what was found."""
    good = FIELDS[name]
    bad = {key: text for key, text in good.items() if key != field} | ({} if value is None else {field: value})
    folder = suite(**{name: [good, bad]})
    with pytest.raises(DataError) as raised:
        cases(folder, FEW)
    error = raised.value
    assert (error.file, error.line, error.field) == (folder / f"{name}.jsonl", 2, field)
    assert (error.found, error.expected) == (found, "a string")


@pytest.mark.parametrize("name", ["paraphrase", "direction"])
def test_bases_of_rows_without_one_are_refused_with_their_place(suite: Suite, name: str) -> None:
    """Also where nothing but the bases is asked for."""
    with pytest.raises(DataError, match=rf"{name}\.jsonl:1: base: found NoneType, expected a string"):
        bases(suite(**{name: [{"kind": "scope", "prompt": "x"}]}))


@pytest.mark.parametrize("name", ["paraphrase", "direction", "injection", "mft"])
def test_a_line_that_is_no_row_is_refused_with_its_place(suite: Suite, name: str) -> None:
    """As in every file of rows."""
    file = suite() / f"{name}.jsonl"
    file.write_text("\n\n[]\n", encoding="utf-8")
    with pytest.raises(DataError) as raised:
        cases(file.parent, FEW)
    assert (raised.value.file, raised.value.line, raised.value.field) == (file, 3, "line")


@pytest.mark.parametrize("name", ["fillers.json", "paraphrase.jsonl", "direction.jsonl", "injection.jsonl", "mft.jsonl"])
def test_a_file_that_is_missing_is_named(suite: Suite, name: str) -> None:
    """A suite without one of its parts is none."""
    folder = suite()
    (folder / name).unlink()
    with pytest.raises(DataError) as raised:
        cases(folder, FEW)
    assert raised.value.file == folder / name


# running


@pytest.fixture(name="router_of", scope="module")
def _router_of(trained_bundle: Path, accurate_bundle: Path) -> dict[int, Router]:
    """By the number of its paths, a bundle as it serves, where targets are far apart."""
    router_of = {1: Router.load(trained_bundle), 2: Router.load(accurate_bundle)}
    router_of[2].policy = replace(router_of[2].policy, targets={"fast": 0.05, "auto": 0.6, "accurate": 0.995})
    return router_of


@pytest.mark.parametrize(("paths", "path"), [(1, "auto"), (2, "fast"), (2, "auto"), (2, "accurate")])
def test_results_are_by_suite_and_kind_in_the_order_of_the_cases(router_of: dict[int, Router], paths: int, path: ScorePath) -> None:
    """Each what it is alone, by the scores and at the target of the path."""
    router = router_of[paths]
    texts = ["What is the capital of France?", "Plan the whole architecture of billing", "Write unit tests for checkout"]
    found = [Case(suite, "swapped", new, old) for suite in COMPARED for old in texts for new in texts]
    found += [Case("mft", "tiers", text, tier=tier) for text in texts for tier in TIERS]
    target = router.policy.target(path)
    alone = {text: router.score([from_text(text)], path)[0] for text in texts}
    expected: dict[str, dict[str, list[bool]]] = {}
    for case in found:
        base = None if case.base is None else alone[case.base]
        expected.setdefault(case.suite, {}).setdefault(case.kind, []).append(passes(case, base, alone[case.changed], target))
    assert run(router, found, path) == expected
    assert expected["mft"]["tiers"].count(True) == len(texts)


def test_no_cases_have_no_results(router_of: dict[int, Router]) -> None:
    """There is nothing to score then."""
    assert run(router_of[1], [], "fast") == {}
