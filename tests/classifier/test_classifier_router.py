"""Router: a verified bundle, ready to score and to decide."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier import Router, from_messages, from_text
from classifier.bundle import LAYOUT
from classifier.errors import BundleError, ConfigError, PolicyError
from classifier.policy import decide, facts_of
from classifier.signals import NAMES, signal_matrix
from classifier.types import Path as ScorePath
from classifier.types import Reason

PROMPTS = [
    from_text("What is the capital of France?"),
    from_text("Write unit tests for this function:\n```python\ndef add(a, b):\n    return a + b\n```"),
    from_text("Plan an authentication system for our app. Consider security, UX, and scalability."),
    from_text("なぜこの競合状態は負荷時にだけ起きるのですか"),
    from_text("\0\ud800"),
    from_text("x = 1\n" * 5_000 + "Why does it hang?"),
    from_messages([{"role": "user", "content": [{"type": "image"}]}]),
]
PATHS = get_args(ScorePath)
TEXTS = st.text(min_size=1, max_size=200).filter(str.strip)
Rewrite = Callable[[str, bytes], None]


# scores


@pytest.mark.parametrize("path", PATHS)
@settings(deadline=None, max_examples=20)
@given(texts=st.lists(TEXTS, max_size=5), neighbours=st.lists(st.sampled_from(PROMPTS), max_size=5))
def test_scores_never_depend_on_neighbours(router: Router, path: ScorePath, texts: Sequence[str], neighbours: Sequence[Any]) -> None:
    """A batch of many equals many batches of one to the last bit, in any company and order."""
    prompts = [*(from_text(text) for text in texts), *neighbours]
    alone = [router.score([prompt], path)[0] for prompt in prompts]
    assert router.score(prompts, path) == alone
    assert router.score(prompts[::-1], path) == alone[::-1]


def test_scores_are_what_the_head_says_of_signals_and_ask(router: Router) -> None:
    """Signals are of the whole prompt, the embedding is of what the person wrote."""
    logits, sufficiency = router.head.run(signal_matrix(PROMPTS), router.encoder.encode([prompt.ask for prompt in PROMPTS]))
    assert [scores.logits for scores in router.score(PROMPTS, "fast")] == [tuple(row) for row in logits.tolist()]
    assert [scores.sufficiency for scores in router.score(PROMPTS, "fast")] == [tuple(row) for row in sufficiency.tolist()]


@pytest.mark.parametrize("path", PATHS)
def test_no_prompts_give_no_scores(router: Router, path: ScorePath) -> None:
    """An empty batch is a batch."""
    assert router.score([], path) == []
    assert router.route([], path=path) == []


@pytest.mark.parametrize("path", PATHS)
@settings(deadline=None, max_examples=40)
@given(text=TEXTS)
def test_scores_are_probabilities_over_the_bundles_tiers(router: Router, path: ScorePath, text: str) -> None:
    """Sufficiency never falls, the top tier suffices, and the probabilities sum to 1."""
    (scores,) = router.score([from_text(text)], path)
    assert scores.tiers == router.manifest.tiers
    assert list(scores.sufficiency) == sorted(scores.sufficiency)
    assert 0 <= scores.sufficiency[0] <= scores.sufficiency[-1] == 1
    assert min(scores.probabilities) >= 0
    assert sum(scores.probabilities) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_every_kind_of_prompt_is_scored(router: Router, path: ScorePath) -> None:
    """Code, other scripts, a long paste, what cannot be tokenised, and an image alone."""
    assert all(np.isfinite(scores.logits).all() for scores in router.score(PROMPTS, path))


@pytest.mark.parametrize("path", PATHS)
def test_prompts_differ(router: Router, path: ScorePath) -> None:
    """The model reads its input: different prompts get different scores."""
    assert len({scores.logits for scores in router.score(PROMPTS, path)}) == len(PROMPTS)


@pytest.mark.parametrize("path", PATHS)
def test_the_same_bundle_loaded_twice_scores_alike(router: Router, shipped: Path, path: ScorePath) -> None:
    """Nothing but the bundle's files decides."""
    assert Router.load(shipped).score(PROMPTS, path) == router.score(PROMPTS, path)


@pytest.mark.parametrize("path", PATHS)
def test_system_prompt_tools_and_tool_results_move_no_score(router: Router, path: ScorePath) -> None:
    """They are the same on every request of an application, and drown what the person asked."""
    ask = {"role": "user", "content": "Rename the variable in parser.py"}
    result = {"role": "user", "content": [{"type": "tool_result", "content": "Prove the theorem. " * 100}]}
    plain = from_messages([ask])
    laden = from_messages([ask, result], system="Plan a distributed architecture. " * 100, tools=[{"name": "deploy"}])
    assert router.score([laden], path) == router.score([plain], path)


@pytest.mark.parametrize("path", PATHS)
def test_threads_share_a_router(router: Router, path: ScorePath) -> None:
    """Scores from many threads at once are those of one."""
    alone = [router.score([prompt], path)[0] for prompt in PROMPTS]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda prompt: router.score([prompt], path)[0], PROMPTS * 10)) == alone * 10


def test_a_router_can_be_warmed(router: Router) -> None:
    """Warming changes no score."""
    before = router.score(PROMPTS)
    router.warm()
    assert router.score(PROMPTS) == before


# decisions


def test_routing_is_scoring_and_deciding(router: Router) -> None:
    """One decision a prompt, in order, by the bundle's policy and the facts of the prompt."""
    expected = [decide(scores, router.policy, facts_of(prompt)) for prompt, scores in zip(PROMPTS, router.score(PROMPTS), strict=True)]
    assert router.route(PROMPTS) == expected


def test_facts_of_a_request_replace_those_of_its_prompt(router: Router) -> None:
    """A floor, a ceiling or stated tokens go with the prompt at the same place."""
    prompts = PROMPTS[:2]
    facts = [
        replace(facts_of(prompt), tier_floor=tier, tier_ceiling=tier) for prompt, tier in zip(prompts, ("large", "small"), strict=True)
    ]
    assert [decision.tier for decision in router.route(prompts, facts)] == ["large", "small"]


def test_a_request_that_fits_nowhere_is_refused(router: Router) -> None:
    """No tier is no decision."""
    with pytest.raises(PolicyError, match="latency"):
        router.route(PROMPTS[:1], [replace(facts_of(PROMPTS[0]), max_model_latency_ms=0.001)])


def test_targets_and_models_come_with_the_bundle_and_the_catalog(router: Router, shipped: Path) -> None:
    """Training chose targets and margin, the catalog the models."""
    stated = json.loads((shipped / LAYOUT.policy).read_bytes())
    assert (router.policy.targets, router.policy.margin) == (stated["targets"], stated["margin"])
    assert router.policy.tiers == router.manifest.tiers


# loading


def test_models_are_swapped_by_editing_a_file(shipped: Path, tmp_path: Path) -> None:
    """A catalog of one's own changes models and limits, and no score."""
    entries = 'input_usd = 1\noutput_usd = 1\nlatency_ms = 1\ncontext_window = 1_000_000\ncapabilities = ["vision"]\n'
    catalog = tmp_path / "mine.toml"
    catalog.write_text(
        "".join(f'[tiers.{tier}]\nmodel = "my-{tier}"\n{entries}' for tier in ("small", "medium", "large")), encoding="utf-8"
    )
    mine = Router.load(str(shipped), str(catalog))
    assert all(decision.model == f"my-{decision.tier}" for decision in mine.route(PROMPTS))
    with pytest.raises(PolicyError, match=Reason.CAPABILITY):
        mine.route([from_messages([{"role": "user", "content": "List the files"}], tools=[{"name": "ls"}])])


def test_a_catalog_that_lacks_a_tier_of_the_bundle_is_refused(shipped: Path, tmp_path: Path) -> None:
    """Start-up fails with the tier's name."""
    (tmp_path / "empty.toml").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        Router.load(shipped, tmp_path / "empty.toml")
    assert caught.value.where == "empty.toml: tiers.small"


def test_the_current_bundle_is_loaded_by_default(router: Router) -> None:
    """Without a path, the checkout's models and catalog are taken."""
    assert Router.load().manifest == router.manifest


def refused(bundle: Path) -> BundleError:
    """The error by which the bundle is refused."""
    with pytest.raises(BundleError) as caught:
        Router.load(bundle)
    return caught.value


@pytest.mark.parametrize("name", ["shift", "slope"])
def test_a_calibration_that_differs_from_the_graph_is_refused(router: Router, bundle: Path, rewrite: Rewrite, name: str) -> None:
    """What calibration.json states is what the graph computes, or nobody can trust either."""
    stated = json.loads((bundle / LAYOUT.calibration).read_bytes())
    stated[name]["small"] += 0.5
    rewrite(LAYOUT.calibration, json.dumps(stated).encode())
    error = refused(bundle)
    assert error.what == f"fast/head.onnx: calibration_{name}"
    assert error.found == getattr(router.head, f"calibration_{name}")
    assert str(stated[name]["small"]) in str(error.expected)


@pytest.mark.parametrize(
    "stated", [{}, [], None, {"shift": {"small": 1}}, {"shift": [1, 2, 3]}, {"shift": dict.fromkeys(("small", "medium", "large"), "x")}]
)
def test_a_calibration_without_numbers_is_refused(bundle: Path, rewrite: Rewrite, stated: Any) -> None:
    """Every tier needs a number."""
    rewrite(LAYOUT.calibration, json.dumps(stated).encode())
    error = refused(bundle)
    assert (error.what, error.expected) == ("calibration.json", "a number for every tier")
    assert error.found == "no usable shift for fast/head.onnx"


@pytest.mark.parametrize(
    "content", [b"{}", b'{"targets": {"fast": 0.9}}', b'{"targets": {"fast": 0.9, "auto": 0.9, "accurate": NaN}}'], ids=bytes.decode
)
def test_a_policy_without_its_targets_is_refused(bundle: Path, rewrite: Rewrite, content: bytes) -> None:
    """Without the targets that training chose, one for each way to ask, nothing can be decided."""
    rewrite(LAYOUT.policy, content)
    error = refused(bundle)
    expected = "a number above 0 and up to 1 for each of accurate, auto, fast"
    assert (error.what, error.expected) == ("policy.json: targets", expected)


def test_a_policy_with_an_impossible_margin_is_refused(bundle: Path, rewrite: Rewrite) -> None:
    """Less than nothing is no distance."""
    stated = json.loads((bundle / LAYOUT.policy).read_bytes())
    rewrite(LAYOUT.policy, json.dumps({**stated, "margin": -1}).encode())
    error = refused(bundle)
    assert (error.what, error.found, error.expected) == ("policy.json: margin", "-1", "a number from 0 to 20")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000], ids=["cut", "no utf-8", "deep"])
@pytest.mark.parametrize("name", [LAYOUT.policy, LAYOUT.calibration])
def test_a_file_that_is_no_json_is_refused(bundle: Path, rewrite: Rewrite, name: str, content: bytes) -> None:
    """Even one that the manifest vouches for."""
    rewrite(name, content)
    error = refused(bundle)
    assert (error.what, error.expected) == (name, "a JSON file")


@pytest.mark.parametrize("content", [b"", b"no model", b"{}"], ids=["empty", "text", "json"])
@pytest.mark.parametrize("name", [LAYOUT.head, LAYOUT.encoder, LAYOUT.tokenizer])
def test_a_file_that_is_no_model_is_refused(bundle: Path, rewrite: Rewrite, name: str, content: bytes) -> None:
    """A digest vouches for the bytes, not for what they are."""
    rewrite(name, content)
    error = refused(bundle)
    assert (error.what, error.expected) == (LAYOUT.fast, "what training wrote")
    assert str(error.found).startswith("a file that does not load")


@pytest.mark.parametrize(("name", "other"), [(LAYOUT.head, LAYOUT.encoder), (LAYOUT.encoder, LAYOUT.head)], ids=["as head", "as encoder"])
def test_a_model_in_the_place_of_another_is_refused(bundle: Path, rewrite: Rewrite, name: str, other: str) -> None:
    """Encoder and head cannot stand in for each other, whatever the digests say."""
    rewrite(name, (bundle / other).read_bytes())
    assert refused(bundle).what in {LAYOUT.fast, LAYOUT.head}


def test_an_encoder_of_another_dimension_than_the_heads_is_refused(
    bundle: Path, rewrite: Rewrite, compass_folder: Path, router: Router
) -> None:
    """Encoder and head are of one training run."""
    rewrite(LAYOUT.encoder, (compass_folder / "encoder.onnx").read_bytes())
    rewrite(LAYOUT.tokenizer, (compass_folder / "tokenizer.json").read_bytes())
    error = refused(bundle)
    assert error.what == LAYOUT.head
    assert error.found == f"inputs {{'signals': {len(NAMES)}, 'embedding': {router.encoder.dim}}}"
    assert error.expected == f"{{'signals': {len(NAMES)}, 'embedding': 2}}"
