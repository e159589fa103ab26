"""Explanations: what each signal, and the text, did to a decision."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from classifier import Prompt, Router, from_text
from classifier.bundle import LAYOUT
from classifier.bundle import typical as read_typical
from classifier.errors import BundleError, PolicyError
from classifier.explain import TEXT, Typical, effects
from classifier.policy import Facts, Policy, decide, decisive, facts_of
from classifier.signals import NAMES, signal_matrix
from classifier.types import Effect, Model, Scores

Matrix = NDArray[np.float32]
Rewrite = Callable[[str, bytes], None]

FEW = ("chars", "files", "why")
PROMPTS = [
    from_text("What is the capital of France?"),
    from_text("Fix the typo in README.md"),
    from_text("Write unit tests for this function:\n```python\ndef add(a, b):\n    return a + b\n```"),
    from_text("Plan an authentication system for our app. Consider security, UX, and scalability."),
    from_text("なぜこの競合状態は負荷時にだけ起きるのですか"),
    from_text("x = 1\n" * 5_000 + "Why does it hang?"),
]


def row(*values: float) -> Matrix:
    """One prompt's numbers."""
    return np.array([values], np.float32)


def typical(signals: Sequence[float], embedding: Sequence[float] = (0.0, 0.0)) -> Typical:
    """What stands in for a prompt's own numbers."""
    return Typical(np.array(signals, np.float32), np.array(embedding, np.float32))


def linear(signals: Matrix, embedding: Matrix) -> Matrix:
    """A score that is easy to take apart: a tenth of each signal, plus the embedding's first number."""
    return np.asarray(signals.sum(axis=1) / 10 + embedding[:, 0], np.float32)


def by_name(found: Sequence[Effect]) -> dict[str, float]:
    """Effects without the values."""
    return {one.name: one.effect for one in found}


# effects


def test_an_effect_is_the_score_minus_the_score_at_the_typical_value() -> None:
    """Positive where the signal raises the score, negative where it lowers it."""
    found = effects(FEW, row(3, 0, 9), row(0.2, 0), typical([1, 5, 6], [0.7, 0]), linear)
    assert by_name(found) == pytest.approx({"chars": 0.2, "files": -0.5, "why": 0.3, TEXT: -0.5}, abs=1e-6)


def test_a_signal_has_its_value_and_the_text_has_none() -> None:
    """The value is the prompt's own, not the typical one."""
    found = effects(FEW, row(3, 0, 9), row(0.2, 0), typical([1, 5, 6]), linear)
    assert {one.name: one.value for one in found} == {"chars": 3, "files": 0, "why": 9, TEXT: None}


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=3, max_size=3), st.lists(st.integers(0, 50), min_size=3, max_size=3))
def test_signals_that_are_typical_are_left_out(values: list[int], usual: list[int]) -> None:
    """They have no effect; the text always stands there."""
    found = effects(FEW, row(*values), row(0.2, 0), typical(usual), linear)
    differing = {name for name, value, other in zip(FEW, values, usual, strict=True) if value != other}
    assert {one.name for one in found} == {*differing, TEXT}


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=3, max_size=3), st.floats(-1, 1, width=32))
def test_the_largest_effects_come_first(values: list[int], word: float) -> None:
    """Whichever way they point."""
    sizes = [abs(one.effect) for one in effects(FEW, row(*values), row(word, 0), typical([5, 5, 5]), linear)]
    assert sizes == sorted(sizes, reverse=True)


def test_all_is_scored_in_one_batch() -> None:
    """One replacement a row, and the prompt as it is."""
    batches = list[tuple[Matrix, Matrix]]()

    def score(signals: Matrix, embedding: Matrix) -> Matrix:
        batches.append((signals, embedding))
        return linear(signals, embedding)

    effects(FEW, row(3, 5, 9), row(1, 0), typical([1, 5, 6], [0, 1]), score)
    ((signals, embedding),) = batches
    assert signals.tolist() == [[1, 5, 9], [3, 5, 6], [3, 5, 9], [3, 5, 9]]
    assert embedding.tolist() == [[1, 0], [1, 0], [0, 1], [1, 0]]


def test_what_is_explained_stays_as_it_is() -> None:
    """Neither the prompt's numbers nor the typical ones are written to."""
    signals, embedding, usual = row(3, 0, 9), row(0.2, 0), typical([1, 5, 6], [0.7, 0])
    effects(FEW, signals, embedding, usual, linear)
    assert signals.tolist() == [[3, 0, 9]]
    assert embedding.tolist() == row(0.2, 0).tolist()
    assert usual.signals.tolist() == [1, 5, 6]


# the tier that is explained


def policy_of(count: int = 3, target: float = 0.8) -> Policy:
    """As many tiers, of which nothing but the sufficiency tells one from another."""
    models = tuple(Model(str(tier), f"m{tier}", 1, 1, 1_000_000, 1) for tier in range(count))
    return Policy(models, {"fast": target, "auto": target, "accurate": 0.5})


def explained(sufficiency: Sequence[float], target_path: Any = "fast", **limits: Any) -> int:
    """The tier that is explained, of a decision with these limits."""
    scores = Scores(("0", "1", "2"), (0.0,) * 3, tuple(sufficiency), target_path=target_path)
    facts = Facts(10, 10, **limits)
    return decisive(decide(scores, policy_of(), facts), policy_of(), facts)


@pytest.mark.parametrize(
    ("sufficiency", "tier"),
    [
        ((0.9, 0.95, 1), 0),  # taken: why it suffices
        ((0.7, 0.95, 1), 0),  # the middle one is taken: why not the cheapest
        ((0.3, 0.7, 1), 1),  # the top one is taken: why not the middle one
        ((0.3, 0.7, 0.75), 2),  # none suffices: why not even the dearest
    ],
)
def test_what_is_explained_is_why_nothing_cheaper_was_taken(sufficiency: tuple[float, ...], tier: int) -> None:
    """The dearest tier that missed the target; the cheapest where none did."""
    assert explained(sufficiency) == tier


@pytest.mark.parametrize(
    ("sufficiency", "limits", "tier"),
    [
        ((0.9, 0.95, 1), {"tier_floor": "2"}, 0),  # what would have been taken
        ((0.3, 0.7, 1), {"tier_ceiling": "1"}, 1),  # the ceiling is returned though it does not suffice: why it does not
        ((0.3, 0.7, 1), {"tier_ceiling": "0"}, 0),
        ((0.9, 0.95, 1), {"min_sufficiency": 0.92}, 0),
        ((0.9, 0.95, 1), {"min_sufficiency": 0.97}, 1),
        ((0.3, 0.7, 1), {"min_sufficiency": 0}, 0),
    ],
)
def test_limits_move_what_is_explained(sufficiency: tuple[float, ...], limits: dict[str, Any], tier: int) -> None:
    """No tier above the returned one is, and the request's own target counts."""
    assert explained(sufficiency, **limits) == tier


def test_the_target_is_the_one_that_the_decision_was_held_against() -> None:
    """Each path has its own."""
    assert explained((0.3, 0.7, 1), "fast") == 1
    assert explained((0.3, 0.7, 1), "accurate") == 0


# the router


def content(router: Router) -> dict[str, Any]:
    """A typical.json that suits the bundle: of every prompt's numbers, the medians and the mean."""
    signals, embedding = router.features(PROMPTS)
    return {
        "signals": dict(zip(NAMES, np.median(signals, axis=0).tolist(), strict=True)),
        "embedding": embedding.mean(axis=0).tolist(),
    }


@pytest.fixture(name="explaining", scope="module")
def _explaining(router: Router) -> Router:
    """The shipped bundle with typical values of the tests' own."""
    made = content(router)
    usual = typical(list(made["signals"].values()), made["embedding"])
    return Router(router.manifest, router.encoder, router.head, router.policy, router.accurate, router.task, usual)


def replaced(router: Router, prompt: Prompt, name: str, tier: int) -> float:
    """The fast path's sufficiency of ``tier`` with one number of ``prompt`` replaced."""
    assert router.typical is not None
    signals, embedding = router.features([prompt])
    if name == TEXT:
        embedding = router.typical.embedding[None]
    elif name:
        signals[0, NAMES.index(name)] = router.typical.signals[NAMES.index(name)]
    return float(router.head.run(signals, embedding)[1][0, tier])


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt.text[:12])
def test_a_decision_is_explained_by_scoring_again_without_each_signal(explaining: Router, prompt: Prompt) -> None:
    """By the head that serves."""
    (decision,) = explaining.route([prompt], path="fast")
    explanation = explaining.explain(prompt, decision)
    tier = explaining.manifest.tiers.index(explanation.tier)
    whole = replaced(explaining, prompt, "", tier)
    assert whole == decision.scores.sufficiency[tier]
    expected = {one.name: whole - replaced(explaining, prompt, one.name, tier) for one in explanation.effects}
    assert by_name(explanation.effects) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt.text[:12])
def test_values_are_the_prompts_signals(explaining: Router, prompt: Prompt) -> None:
    """Each signal that is not typical, under the name that the table gives it."""
    assert explaining.typical is not None
    (decision,) = explaining.route([prompt], path="fast")
    found = {one.name: one.value for one in explaining.explain(prompt, decision).effects}
    assert found.pop(TEXT) is None
    values = dict(zip(NAMES, signal_matrix([prompt])[0].tolist(), strict=True))
    assert found == {name: values[name] for name, usual in zip(NAMES, explaining.typical.signals, strict=True) if values[name] != usual}


def test_what_speaks_for_and_against_a_tier_is_told_apart(explaining: Router) -> None:
    """The words of a question of fact raise the cheapest tier's sufficiency, those of a plan lower the next one's."""
    fact, plan = PROMPTS[0], PROMPTS[3]
    found = [explaining.explain(prompt, decision) for prompt, decision in zip([fact, plan], explaining.route([fact, plan]), strict=True)]
    assert [one.tier for one in found] == ["small", "medium"]
    assert by_name(found[0].effects)[TEXT] > 0 > by_name(found[1].effects)[TEXT]


def test_the_facts_of_the_decision_say_which_tier_is_explained(explaining: Router) -> None:
    """Who asks for certainty is told why the middle tier does not give it."""
    prompt = PROMPTS[0]
    facts = replace(facts_of(prompt), min_sufficiency=1)
    (decision,) = explaining.route([prompt], [facts], path="fast")
    assert explaining.explain(prompt, decision, facts).tier == "medium"


def test_a_decision_of_the_accurate_path_is_explained_by_the_fast_one(explaining: Router) -> None:
    """Signals reach it by no other way."""
    prompt = PROMPTS[3]
    (decision,) = explaining.route([prompt], path="accurate")
    assert decision.scores.path == "accurate"
    explanation = explaining.explain(prompt, decision)
    tier = explaining.manifest.tiers.index(explanation.tier)
    expected = replaced(explaining, prompt, "", tier) - replaced(explaining, prompt, TEXT, tier)
    assert by_name(explanation.effects)[TEXT] == pytest.approx(expected, abs=1e-7)


def test_an_explanation_is_the_same_every_time(explaining: Router) -> None:
    """Of the same prompt and decision."""
    (decision,) = explaining.route(PROMPTS[3:4])
    assert explaining.explain(PROMPTS[3], decision) == explaining.explain(PROMPTS[3], decision)


# the bundle


@pytest.fixture(name="without")
def _without(bundle: Path, edit_manifest: Callable[..., None]) -> Path:
    """A bundle that was trained before explanations."""
    files = json.loads((bundle / LAYOUT.manifest).read_bytes())["files"]
    edit_manifest(files={name: digest for name, digest in files.items() if name != LAYOUT.typical})
    (bundle / LAYOUT.typical).unlink(missing_ok=True)
    return bundle


def test_a_bundle_without_typical_values_decides_but_does_not_explain(without: Path) -> None:
    """The error names the field of the request and the file that is missing."""
    old = Router.load(without)
    (decision,) = old.route(PROMPTS[:1])
    with pytest.raises(PolicyError, match="this bundle has no typical") as caught:
        old.explain(PROMPTS[0], decision)
    assert caught.value.field == "explain"


def test_typical_values_come_with_the_bundle(bundle: Path, rewrite: Rewrite, router: Router, explaining: Router) -> None:
    """A loaded bundle explains as one that was put together."""
    rewrite(LAYOUT.typical, json.dumps(content(router)).encode())
    loaded = Router.load(bundle)
    (decision,) = loaded.route(PROMPTS[3:4])
    assert loaded.explain(PROMPTS[3], decision) == explaining.explain(PROMPTS[3], decision)


def test_changed_typical_values_are_refused(bundle: Path, rewrite: Rewrite, router: Router) -> None:
    """They are verified like every file that serves."""
    rewrite(LAYOUT.typical, json.dumps(content(router)).encode())
    (bundle / LAYOUT.typical).write_bytes(b"{}")
    with pytest.raises(BundleError, match="expected sha256") as caught:
        Router.load(bundle)
    assert caught.value.what == LAYOUT.typical


def test_typical_values_that_nobody_vouches_for_are_not_read(without: Path) -> None:
    """A file that the manifest does not name is no part of the bundle."""
    (without / LAYOUT.typical).write_bytes(b"{")
    assert Router.load(without).typical is None


def broken(part: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    """One value of a right typical.json replaced, or taken away where ``value`` is None."""

    def edit(right: dict[str, Any]) -> Any:
        signals = {name: usual for name, usual in right["signals"].items() if name != part}
        return {**right, "signals": signals if value is None else {**signals, part: value}}

    return edit


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda _: [], "signals.chars"),
        (lambda _: {}, "signals.chars"),
        (lambda right: {**right, "signals": list(right["signals"].values())}, "signals.chars"),
        (broken("lines", None), "signals.lines"),
        (broken("lines", "1"), "signals.lines"),
        (broken("lines", True), "signals.lines"),
        (broken("lines", -1), "signals.lines"),
        (broken("lines", float("nan")), "signals.lines"),
        (broken("lines", 10**400), "signals.lines"),
        (lambda right: {"signals": right["signals"]}, "embedding"),
        (lambda right: {**right, "embedding": right["embedding"][1:]}, "embedding"),
        (lambda right: {**right, "embedding": [*right["embedding"][1:], float("inf")]}, "embedding"),
        (lambda right: {**right, "embedding": [*right["embedding"][1:], None]}, "embedding"),
    ],
)
def test_typical_values_that_do_not_suit_the_bundle_are_refused(
    tmp_path: Path, router: Router, edit: Callable[[Any], Any], what: str
) -> None:
    """By the first part that is wrong."""
    (tmp_path / LAYOUT.typical).write_text(json.dumps(edit(content(router))), encoding="utf-8")
    with pytest.raises(BundleError, match=r"expected .* from") as caught:
        read_typical(tmp_path, NAMES, router.encoder.dim)
    assert caught.value.what == f"typical.json: {what}"


def test_typical_values_that_are_no_json_are_refused(bundle: Path, rewrite: Rewrite) -> None:
    """As in every file of the bundle."""
    rewrite(LAYOUT.typical, b"{")
    with pytest.raises(BundleError, match="expected a JSON file") as caught:
        Router.load(bundle)
    assert caught.value.what == LAYOUT.typical
