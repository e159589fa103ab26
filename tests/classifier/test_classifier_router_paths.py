"""Two paths: the fast one reads every prompt; the accurate one where it is asked for, or where it can change the decision."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier import Prompt, Router, Scores, from_messages, from_text
from classifier.bundle import LAYOUT
from classifier.errors import BundleError, PolicyError
from classifier.policy import Facts, decide, facts_of, needs_accurate
from classifier.router import Accurate
from classifier.types import Path as ScorePath

PATHS: tuple[ScorePath, ...] = get_args(ScorePath)
PROMPTS = [
    from_text("What is the capital of France?"),
    from_text("Translate to German: good morning"),
    from_text("Write unit tests for this function:\n```python\ndef add(a, b):\n    return a + b\n```"),
    from_text("Why is this slow?\n\n" + "SELECT * FROM orders JOIN customers USING (customer_id);\n" * 40),
    from_text("Rename the variable in parser.py and fix whatever breaks"),
    from_text("Summarise the attached report for the board in half a page."),
    from_text("Draft a polite answer to a customer whose parcel came late twice, and say what we change."),
    from_text("Add pagination to the orders endpoint, with tests."),
    from_text("Plan an authentication system for our app. Consider security, UX, and scalability."),
    from_text("なぜこの競合状態は負荷時にだけ起きるのですか"),
    from_text("x = 1\n" * 5_000 + "Why does it hang?"),
    from_messages([{"role": "user", "content": [{"type": "image"}]}]),
]
ANY_PROMPT = st.sampled_from(PROMPTS) | st.text(min_size=1, max_size=200).filter(str.strip).map(from_text)
Rewrite = Callable[[str, bytes], None]


def under(router: Router, **policy: Any) -> Router:
    """The same bundle under another policy."""
    other = copy.copy(router)
    other.policy = replace(router.policy, **policy)
    return other


@pytest.fixture(name="doubtful", scope="module")
def _doubtful(router: Router) -> Router:
    """The shipped bundle with a margin so wide that `auto` finds everything close."""
    return under(router, margin=50.0)


@pytest.fixture(name="confident", scope="module")
def _confident(router: Router) -> Router:
    """The shipped bundle with a margin of nothing, so that `auto` finds everything clear."""
    return under(router, margin=0.0)


def numbers(scores: Sequence[Scores]) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """What a path computed, without what is said about the path."""
    return [(one.logits, one.sufficiency) for one in scores]


def said(scores: Sequence[Scores]) -> set[tuple[str, str, str]]:
    """What is said about the path."""
    return {(one.path, one.path_reason, one.target_path) for one in scores}


def pinned(prompt: Prompt, tier: str = "medium") -> Facts:
    """Facts that leave a single tier."""
    return replace(facts_of(prompt), tier_floor=tier, tier_ceiling=tier)


# what scores


def test_who_asks_for_the_fast_path_gets_it(router: Router, doubtful: Router) -> None:
    """However close the decision is, and decided by the fast path's own target."""
    assert said(router.score(PROMPTS, "fast")) == {("fast", "asked", "fast")}
    assert doubtful.score(PROMPTS, "fast") == router.score(PROMPTS, "fast")


def test_who_asks_for_the_accurate_path_gets_it(router: Router, confident: Router) -> None:
    """However clear the decision is, and decided by the accurate path's own target."""
    assert said(router.score(PROMPTS, "accurate")) == {("accurate", "asked", "accurate")}
    assert confident.score(PROMPTS, "accurate") == router.score(PROMPTS, "accurate")


def test_the_accurate_path_weighs_the_transformers_vector_of_the_text_with_the_fast_logits(router: Router, accurate: Accurate) -> None:
    """It reads the whole window, pasted code included, and what the fast path made of the prompt."""
    assert any(prompt.text != prompt.ask for prompt in PROMPTS)
    fast = np.array([scores.logits for scores in router.score(PROMPTS, "fast")], np.float32)
    logits, sufficiency = accurate.head.run(fast, accurate.encoder.encode([prompt.text for prompt in PROMPTS]))
    expected = [(tuple(one), tuple(other)) for one, other in zip(logits.tolist(), sufficiency.tolist(), strict=True)]
    assert numbers(router.score(PROMPTS, "accurate")) == expected


def test_the_two_paths_differ(router: Router) -> None:
    """Another look says something else."""
    fast, accurate = numbers(router.score(PROMPTS, "fast")), numbers(router.score(PROMPTS, "accurate"))
    assert all(one != other for one, other in zip(fast, accurate, strict=True))


def test_where_it_is_clear_auto_is_the_fast_path(confident: Router) -> None:
    """The same numbers, held against auto's target."""
    assert said(confident.score(PROMPTS, "auto")) == {("fast", "clear", "auto")}
    assert numbers(confident.score(PROMPTS, "auto")) == numbers(confident.score(PROMPTS, "fast"))


def test_where_it_is_close_auto_is_the_accurate_path(doubtful: Router) -> None:
    """The same numbers, held against auto's target."""
    assert said(doubtful.score(PROMPTS, "auto")) == {("accurate", "close", "auto")}
    assert numbers(doubtful.score(PROMPTS, "auto")) == numbers(doubtful.score(PROMPTS, "accurate"))


def test_under_the_shipped_policy_auto_takes_either_path(router: Router) -> None:
    """Some prompts are clear at once, some are not."""
    assert said(router.score(PROMPTS, "auto")) == {("fast", "clear", "auto"), ("accurate", "close", "auto")}


def test_auto_is_how_prompts_are_scored_unless_asked_otherwise(router: Router) -> None:
    """Scoring and routing have the same default."""
    assert router.score(PROMPTS) == router.score(PROMPTS, "auto")
    assert router.route(PROMPTS) == router.route(PROMPTS, path="auto")


@settings(deadline=None, max_examples=40)
@given(prompts=st.lists(ANY_PROMPT, max_size=4), margin=st.floats(0, 8))
def test_auto_looks_twice_exactly_where_the_policy_says_so(router: Router, prompts: Sequence[Prompt], margin: float) -> None:
    """Prompt by prompt: the accurate path where a candidate lies within the margin of auto's target, else the fast one."""
    scoring = under(router, margin=margin)
    expected = [
        replace(accurate, path_reason="close", target_path="auto")
        if needs_accurate(fast, scoring.policy, facts_of(prompt))
        else replace(fast, path_reason="clear", target_path="auto")
        for prompt, fast, accurate in zip(prompts, scoring.score(prompts, "fast"), scoring.score(prompts, "accurate"), strict=True)
    ]
    assert scoring.score(prompts, "auto") == expected


@pytest.mark.parametrize("path", PATHS)
@settings(deadline=None, max_examples=20)
@given(prompts=st.lists(ANY_PROMPT, max_size=4))
def test_scoring_is_a_fast_look_and_a_second_one_where_it_is_needed(router: Router, path: ScorePath, prompts: Sequence[Prompt]) -> None:
    """Who takes the steps one by one, as a server with a deadline does, gets the same scores."""
    found = [
        router.score_accurate(prompt, scores) if router.looks_twice(scores, facts_of(prompt)) else scores
        for prompt, scores in zip(prompts, router.score_fast(prompts, path), strict=True)
    ]
    assert found == router.score(prompts, path)


def test_a_second_look_is_taken_as_the_path_and_the_policy_say(doubtful: Router, confident: Router) -> None:
    """Never on the fast path, always on the accurate one, and on auto where it is close."""
    prompt = PROMPTS[0]
    looked = {
        (name, path): router.looks_twice(router.score_fast([prompt], path)[0], facts_of(prompt))
        for name, router in (("doubtful", doubtful), ("confident", confident))
        for path in PATHS
    }
    assert [way for way, twice in looked.items() if twice] == [("doubtful", "auto"), ("doubtful", "accurate"), ("confident", "accurate")]


# facts


def test_a_request_that_leaves_one_tier_is_not_looked_at_twice(doubtful: Router) -> None:
    """Facts go with the prompt at the same place; nothing can change where floor and ceiling meet."""
    facts = [pinned(prompt) if place % 2 else facts_of(prompt) for place, prompt in enumerate(PROMPTS)]
    found = [scores.path_reason for scores in doubtful.score(PROMPTS, "auto", facts)]
    assert found == ["clear" if place % 2 else "close" for place in range(len(PROMPTS))]


@pytest.mark.parametrize("path", ["fast", "accurate"])
def test_facts_do_not_move_a_path_that_was_asked_for(doubtful: Router, path: ScorePath) -> None:
    """Who names a path gets its scores, even where they cannot change the tier."""
    assert doubtful.score(PROMPTS, path, [pinned(prompt) for prompt in PROMPTS]) == doubtful.score(PROMPTS, path)


def test_without_facts_those_of_the_prompts_are_taken(router: Router) -> None:
    """Their size, and what they need of a model."""
    for path in PATHS:
        assert router.score(PROMPTS, path, [facts_of(prompt) for prompt in PROMPTS]) == router.score(PROMPTS, path)


def test_a_requests_own_target_is_looked_around(router: Router) -> None:
    """Close to what the caller asks for, not to what the bundle would have asked."""
    scoring = under(router, margin=0.25)
    for prompt, fast in zip(PROMPTS, scoring.score(PROMPTS, "fast"), strict=True):
        odds = fast.sufficiency[0] / (1 - fast.sufficiency[0])
        near, far = (odds * factor / (1 + odds * factor) for factor in (1.1, 1e-3))  # below every tier's sufficiency
        reasons = [
            scoring.score([prompt], "auto", [replace(facts_of(prompt), min_sufficiency=target)])[0].path_reason for target in (near, far)
        ]
        assert reasons == ["close", "clear"]


@pytest.mark.parametrize("field", ["tier_floor", "tier_ceiling"])
def test_an_unknown_tier_is_refused_on_every_path(doubtful: Router, field: str) -> None:
    """By its field, whichever path would have scored."""
    changes: dict[str, Any] = {field: "gigantic"}
    facts = [replace(facts_of(PROMPTS[0]), **changes)]
    for path in PATHS:
        with pytest.raises(PolicyError, match="unknown tier") as caught:
            doubtful.route(PROMPTS[:1], facts, path)
        assert caught.value.field == field


# decisions


@pytest.mark.parametrize("path", PATHS)
def test_routing_is_scoring_and_deciding_with_the_same_facts(router: Router, path: ScorePath) -> None:
    """Facts say where to look twice, and then which tier to take."""
    tiers = router.manifest.tiers
    facts = [replace(facts_of(prompt), tier_floor=tiers[place % 3], tier_ceiling=tiers[-1]) for place, prompt in enumerate(PROMPTS)]
    scores = router.score(PROMPTS, path, facts)
    assert router.route(PROMPTS, facts, path) == [decide(one, router.policy, fact) for one, fact in zip(scores, facts, strict=True)]


def test_each_path_is_held_against_its_own_target(router: Router) -> None:
    """A target that everything reaches gives the cheapest tier; a target of 1 gives the dearest to all but what is certain."""
    small, *_, large = router.manifest.tiers
    for asked in PATHS:
        scoring = under(router, targets={path: 1e-6 if path == asked else 1.0 for path in PATHS})
        tiers = {path: {decision.tier for decision in scoring.route(PROMPTS[:8], path=path)} for path in PATHS}
        assert tiers[asked] == {small}
        assert all(large in tiers[path] for path in PATHS if path != asked)


# tasks


def test_the_task_is_the_task_heads_word_on_every_path(router: Router) -> None:
    """What kind of work is asked for does not depend on how hard it is looked at."""
    assert router.task is not None
    expected = router.task.run(*router.features(PROMPTS))
    for path in PATHS:
        assert [(scores.task, scores.task_probability) for scores in router.score(PROMPTS, path)] == expected


def test_a_bundle_without_a_task_head_names_no_task(router: Router, bundle: Path, edit_manifest: Callable[..., None]) -> None:
    """What the manifest does not vouch for is not used, even where it lies there; the scores stay the same."""
    edit_manifest(files={name: digest for name, digest in router.manifest.files.items() if name != LAYOUT.task})
    without = Router.load(bundle)
    for path in PATHS:
        expected = [replace(scores, task=None, task_probability=None) for scores in router.score(PROMPTS, path)]
        assert without.score(PROMPTS, path) == expected


# a bundle of one path


def test_a_bundle_of_one_path_answers_all_three_alike(router: Router, fast_alone: Router) -> None:
    """It says that it has no other, and scores as the fast path of a bundle with both."""
    for path in PATHS:
        assert said(fast_alone.score(PROMPTS, path)) == {("fast", "only_path", "fast")}
        assert fast_alone.score(PROMPTS, path) == fast_alone.score(PROMPTS, "fast")
    assert numbers(fast_alone.score(PROMPTS)) == numbers(router.score(PROMPTS, "fast"))


def test_a_bundle_of_one_path_is_held_against_the_fast_target(fast_alone: Router) -> None:
    """Targets of other paths, which its policy may still name, do not count."""
    elsewhere = under(fast_alone, targets={**fast_alone.policy.targets, "auto": 1.0, "accurate": 1.0})
    for path in PATHS:
        found = [decision.tier for decision in elsewhere.route(PROMPTS, path=path)]
        assert found == [decision.tier for decision in fast_alone.route(PROMPTS, path="fast")]


def test_a_bundle_of_one_path_never_looks_twice(fast_alone: Router) -> None:
    """However wide the margin: nobody is there to ask."""
    doubtful = under(fast_alone, margin=50.0)
    for path in PATHS:
        assert not any(
            doubtful.looks_twice(scores, facts_of(prompt))
            for prompt, scores in zip(PROMPTS, doubtful.score_fast(PROMPTS, path), strict=True)
        )


def test_a_bundle_of_one_path_can_be_warmed(fast_alone: Router) -> None:
    """Warming changes no score there, either."""
    before = fast_alone.score(PROMPTS)
    fast_alone.warm()
    assert fast_alone.score(PROMPTS) == before


def test_a_path_that_the_manifest_does_not_name_is_not_taken(bundle: Path, edit_manifest: Callable[..., None]) -> None:
    """Files alone make no path."""
    edit_manifest(paths=["fast"])
    assert Router.load(bundle).accurate is None


# loading


def refused(bundle: Path) -> BundleError:
    """The error by which the bundle is refused."""
    with pytest.raises(BundleError) as caught:
        Router.load(bundle)
    return caught.value


@pytest.mark.parametrize("name", ["shift", "slope"])
def test_an_accurate_calibration_that_differs_from_the_graph_is_refused(
    accurate: Accurate, bundle: Path, rewrite: Rewrite, name: str
) -> None:
    """As on the fast path: what is stated is what is computed."""
    stated = json.loads((bundle / LAYOUT.calibration).read_bytes())
    stated["accurate"][name]["small"] += 0.5
    rewrite(LAYOUT.calibration, json.dumps(stated).encode())
    error = refused(bundle)
    assert error.what == f"accurate/head.onnx: calibration_{name}"
    assert error.found == getattr(accurate.head, f"calibration_{name}")
    assert str(stated["accurate"][name]["small"]) in str(error.expected)


@pytest.mark.parametrize("stated", [None, {}, [], "shift", {"shift": {"small": 1}}, {"shift": [1, 2, 3]}], ids=str)
def test_an_accurate_path_without_a_calibration_is_refused(bundle: Path, rewrite: Rewrite, stated: Any) -> None:
    """The fast path's does not stand in for it."""
    content = json.loads((bundle / LAYOUT.calibration).read_bytes())
    rewrite(LAYOUT.calibration, json.dumps({**content, "accurate": stated}).encode())
    error = refused(bundle)
    assert (error.what, error.expected) == ("calibration.json", "a number for every tier")
    assert error.found == "no usable shift for accurate/head.onnx"


def test_a_bundle_that_states_no_accurate_calibration_at_all_is_refused(bundle: Path, rewrite: Rewrite) -> None:
    """An accurate path came without what belongs to it."""
    content = json.loads((bundle / LAYOUT.calibration).read_bytes())
    del content["accurate"]
    rewrite(LAYOUT.calibration, json.dumps(content).encode())
    assert refused(bundle).found == "no usable shift for accurate/head.onnx"


def test_an_accurate_head_of_other_inputs_is_refused(bundle: Path, rewrite: Rewrite, router: Router, accurate: Accurate) -> None:
    """The fast head, which loads just as well, reads other things."""
    rewrite(LAYOUT.accurate_head, (bundle / LAYOUT.head).read_bytes())
    error = refused(bundle)
    assert (error.what, error.found) == ("accurate/head.onnx", f"inputs {router.head.widths}")
    assert error.expected == f"{{'fast_logits': {len(router.manifest.tiers)}, 'embedding': {accurate.encoder.dim}}}"


def test_a_transformer_of_another_dimension_than_its_heads_is_refused(
    bundle: Path, rewrite: Rewrite, compass_folder: Path, accurate: Accurate
) -> None:
    """Transformer and head are of one training run."""
    compass = onnx.load(str(compass_folder / "encoder.onnx"))
    onnx.helper.set_model_props(compass, {"max_tokens": "8"})
    rewrite(LAYOUT.accurate_encoder, compass.SerializeToString())
    error = refused(bundle)
    assert (error.what, error.found) == ("accurate/head.onnx", f"inputs {accurate.head.widths}")
    assert "'embedding': 2" in str(error.expected)


@pytest.mark.parametrize("content", [b"", b"no model", b"{}"], ids=["empty", "text", "json"])
@pytest.mark.parametrize("name", [LAYOUT.accurate_head, LAYOUT.accurate_encoder, LAYOUT.accurate_tokenizer, LAYOUT.task])
def test_a_file_of_the_accurate_path_or_the_tasks_that_is_no_model_is_refused(
    bundle: Path, rewrite: Rewrite, name: str, content: bytes
) -> None:
    """Start-up fails, although the fast path could serve; what does not load is named."""
    rewrite(name, content)
    error = refused(bundle)
    assert error.what == (LAYOUT.task if name == LAYOUT.task else LAYOUT.accurate)
    assert str(error.found).startswith("a file that does not load")


@pytest.mark.parametrize(
    ("name", "other", "what"),
    [
        (LAYOUT.accurate_encoder, LAYOUT.encoder, LAYOUT.accurate),  # it does not say how much it reads
        (LAYOUT.accurate_encoder, LAYOUT.accurate_head, LAYOUT.accurate),
        (LAYOUT.accurate_head, LAYOUT.accurate_encoder, LAYOUT.accurate),
        (LAYOUT.task, LAYOUT.head, LAYOUT.task),  # it names no tasks
    ],
)
def test_another_model_in_the_place_of_a_models_is_refused(bundle: Path, rewrite: Rewrite, name: str, other: str, what: str) -> None:
    """Static encoder, transformer, heads and task head cannot stand in for each other."""
    rewrite(name, (bundle / other).read_bytes())
    error = refused(bundle)
    assert error.what == what
    assert str(error.found).startswith("a file that does not load")
