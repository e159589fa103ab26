"""Scores -> decision: the cheapest allowed tier that suffices, and why."""

import math
from dataclasses import replace
from itertools import accumulate
from typing import Any, get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from classifier import from_messages, from_text
from classifier.errors import PolicyError
from classifier.policy import (
    CHARS_PER_TOKEN,
    TOKENS_PER_IMAGE,
    Facts,
    Policy,
    cheapest,
    decide,
    estimate_tokens,
    facts_of,
    needs_accurate,
)
from classifier.types import Capability, Decision, Model, Path, Reason, Scores

ORDER = [Reason.CONTEXT_WINDOW, Reason.CAPABILITY, Reason.CEILING, Reason.LATENCY, Reason.BUDGET, Reason.FLOOR]
BOTH: frozenset[Capability] = frozenset({"tools", "vision"})

SMALL = Model("small", "model-s", 1, 5, context_window=10_000, latency_ms=100, capabilities=frozenset({"tools"}))
MEDIUM = Model("medium", "model-m", 3, 15, context_window=100_000, latency_ms=1_000, capabilities=BOTH)
LARGE = Model("large", "model-l", 5, 25, context_window=100_000, latency_ms=5_000, capabilities=BOTH)
POLICY = Policy((SMALL, MEDIUM, LARGE), {"fast": 0.9})

# What decides over each tier: the scores of an easy, a middling and a hard prompt.
EASY, MIDDLING, HARD = (0.95, 0.99, 1.0), (0.5, 0.95, 1.0), (0.1, 0.3, 1.0)


def scores_of(sufficiency: tuple[float, ...], policy: Policy = POLICY) -> Scores:
    """Scores of the policy's tiers."""
    return Scores(policy.tiers, (0.0,) * len(sufficiency), sufficiency)


def decided(sufficiency: tuple[float, ...], policy: Policy = POLICY, **facts: Any) -> Decision:
    """The decision on a prompt of 1,000 tokens."""
    return decide(scores_of(sufficiency, policy), policy, replace(Facts(1_000), **facts))


def refused(sufficiency: tuple[float, ...], **facts: Any) -> PolicyError:
    """The error by which a request is refused."""
    with pytest.raises(PolicyError) as caught:
        decided(sufficiency, **facts)
    return caught.value


# any policy of two to eight tiers, any scores over it, any facts


@st.composite
def cases(draw: st.DrawFn) -> tuple[Scores, Policy, Facts]:
    """Scores, policy and facts that fit together, drawn so that limits often bind."""
    n = draw(st.integers(2, 8))
    tiers = [f"tier{index}" for index in range(n)]
    levels = st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9, 1.0])
    capabilities: st.SearchStrategy[frozenset[Capability]] = st.frozensets(st.sampled_from(sorted(BOTH)))
    models = tuple(
        Model(
            tier,
            f"model of {tier}",
            input_usd=draw(st.sampled_from([1.0, 2.0, 4.0])),
            output_usd=draw(st.sampled_from([5.0, 10.0])),
            context_window=draw(st.sampled_from([100, 1_000, 10_000])),
            latency_ms=draw(st.sampled_from([100.0, 1_000.0])),
            capabilities=draw(st.just(BOTH) | capabilities),
            token_factor=draw(st.sampled_from([1.0, 1.5])),
        )
        for tier in tiers
    )
    sufficiency = tuple(sorted(draw(st.lists(st.floats(0, 1) | levels, min_size=n, max_size=n))))
    facts = Facts(
        input_tokens=draw(st.sampled_from([0, 90, 900, 5_000])),
        output_tokens=draw(st.none() | st.sampled_from([0, 50, 200])),
        needs=draw(st.just(frozenset[Capability]()) | capabilities),
        tier_floor=draw(st.none() | st.sampled_from(tiers)),
        tier_ceiling=draw(st.none() | st.sampled_from(tiers)),
        min_sufficiency=draw(st.none() | levels),
        max_model_latency_ms=draw(st.none() | st.sampled_from([100.0, 500.0, 1_000.0])),
        max_cost_usd=draw(st.none() | st.sampled_from([0.001, 0.005, 0.05])),
    )
    policy = Policy(models, {"fast": draw(levels)}, expected_output_tokens=100)
    return Scores(tuple(tiers), (0.0,) * n, sufficiency), policy, facts


def candidates(policy: Policy, facts: Facts) -> list[int]:
    """The tiers that a request may be given, written as the rules are."""
    output = policy.expected_output_tokens if facts.output_tokens is None else facts.output_tokens
    names = list(policy.tiers)
    return [
        tier
        for tier, model in enumerate(policy.catalog)
        if (facts.input_tokens + output) * model.token_factor <= model.context_window
        and facts.needs <= model.capabilities
        and (facts.tier_ceiling is None or tier <= names.index(facts.tier_ceiling))
        and (facts.tier_floor is None or tier >= names.index(facts.tier_floor))
        and (facts.max_model_latency_ms is None or model.latency_ms <= facts.max_model_latency_ms)
        and (facts.max_cost_usd is None or model.cost_usd(facts.input_tokens, output) <= facts.max_cost_usd)
    ]


def expected_tier(scores: Scores, policy: Policy, facts: Facts) -> str | None:
    """The cheapest candidate that reaches the target, else the dearest candidate; None without candidates."""
    target = policy.targets["fast"] if facts.min_sufficiency is None else facts.min_sufficiency
    allowed = candidates(policy, facts)
    reaching = [tier for tier in allowed if scores.sufficiency[tier] >= target]
    return policy.tiers[(reaching[:1] or allowed[-1:])[0]] if allowed else None


def outcome(scores: Scores, policy: Policy, facts: Facts) -> Decision | None:
    """The decision, or None where there is none."""
    try:
        return decide(scores, policy, facts)
    except PolicyError:
        return None


@settings(deadline=None, max_examples=500)
@given(case=cases())
def test_the_cheapest_allowed_tier_that_suffices_is_chosen(case: tuple[Scores, Policy, Facts]) -> None:
    """Floor, ceiling and every constraint hold; a request is refused exactly where no tier keeps them all."""
    decision = outcome(*case)
    assert (decision and decision.tier) == expected_tier(*case)


@settings(deadline=None, max_examples=300)
@given(case=cases(), targets=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_raising_the_target_never_picks_a_cheaper_tier(case: tuple[Scores, Policy, Facts], targets: list[float]) -> None:
    """Who asks for more gets the same tier or a dearer one."""
    scores, policy, facts = case
    assume(candidates(policy, facts))
    low, high = (policy.tiers.index(decide(scores, policy, replace(facts, min_sufficiency=target)).tier) for target in targets)
    assert low <= high


@settings(deadline=None, max_examples=300)
@given(case=cases())
def test_a_tier_is_moved_exactly_where_a_reason_says_so(case: tuple[Scores, Policy, Facts]) -> None:
    """A tier that scores alone would have chosen is `sufficient` or `none_sufficient`; any other one names what moved it, in order."""
    scores, policy, facts = case
    assume(candidates(policy, facts))
    decision = decide(scores, policy, facts)
    free = decide(scores, policy, Facts(0, 0, min_sufficiency=facts.min_sufficiency))
    if decision.tier == free.tier:
        assert decision.reasons == free.reasons
        assert decision.reasons in {(Reason.SUFFICIENT,), (Reason.NONE_SUFFICIENT,)}
    else:
        places = [ORDER.index(reason) for reason in decision.reasons]
        assert places == sorted(set(places)) != []


@settings(deadline=None, max_examples=100)
@given(case=cases())
def test_a_decision_carries_what_produced_it(case: tuple[Scores, Policy, Facts]) -> None:
    """The model behind the tier, its sufficiency as confidence, one cost a tier, the policy's name and the scores."""
    scores, policy, facts = case
    assume(candidates(policy, facts))
    decision = decide(scores, policy, facts)
    place = policy.tiers.index(decision.tier)
    assert (decision.model, decision.confidence) == (policy.catalog[place].id, scores.sufficiency[place])
    assert (decision.policy, decision.scores) == ("default", scores)
    output = 100 if facts.output_tokens is None else facts.output_tokens
    assert decision.cost_usd == tuple(model.cost_usd(facts.input_tokens, output) for model in policy.catalog)


# each reason


@pytest.mark.parametrize(
    ("sufficiency", "facts", "tier", "reason"),
    [
        (EASY, {}, "small", Reason.SUFFICIENT),
        (MIDDLING, {}, "medium", Reason.SUFFICIENT),
        (HARD, {}, "large", Reason.SUFFICIENT),
        ((0.1, 0.2, 0.3), {}, "large", Reason.NONE_SUFFICIENT),
        (EASY, {"input_tokens": 9_501}, "medium", Reason.CONTEXT_WINDOW),
        (EASY, {"needs": BOTH}, "medium", Reason.CAPABILITY),
        (HARD, {"tier_ceiling": "medium"}, "medium", Reason.CEILING),
        (HARD, {"max_model_latency_ms": 1_000}, "medium", Reason.LATENCY),
        (HARD, {"max_cost_usd": 0.0105}, "medium", Reason.BUDGET),
        (EASY, {"tier_floor": "medium"}, "medium", Reason.FLOOR),
    ],
)
def test_each_reason(sufficiency: tuple[float, ...], facts: dict[str, Any], tier: str, reason: Reason) -> None:
    """Every reason of the closed list, where it alone decides."""
    decision = decided(sufficiency, **facts)
    assert (decision.tier, decision.reasons, decision.reason) == (tier, (reason,), reason)


def test_every_reason_of_the_list_is_one_that_can_be_given() -> None:
    """The reasons above are the whole list."""
    assert set(Reason) == {*ORDER, Reason.SUFFICIENT, Reason.NONE_SUFFICIENT}


@pytest.mark.parametrize(
    "facts",
    [
        {"input_tokens": 9_500},
        {"needs": frozenset({"tools"})},
        {"tier_ceiling": "small"},
        {"tier_floor": "small"},
        {"max_model_latency_ms": 100},
        {"max_cost_usd": 0.0035},
        {"max_cost_usd": 1.0},
    ],
)
def test_a_limit_that_is_just_met_moves_nothing(facts: dict[str, Any]) -> None:
    """Limits are inclusive, and a limit that excludes only dearer tiers is no reason."""
    assert decided(EASY, **facts).reasons == (Reason.SUFFICIENT,)


def test_all_constraints_that_moved_the_tier_are_listed_in_order() -> None:
    """Context window, capability, ceiling, latency, budget: each took the dearest tier that was left."""
    fits = Model("0", "m", 1, 1, context_window=2_000, latency_ms=100, capabilities=BOTH)
    models = (
        fits,
        replace(fits, input_usd=1_000),  # too dear
        replace(fits, latency_ms=9_000),  # too slow
        fits,  # above the ceiling
        replace(fits, capabilities=frozenset()),  # cannot see
        replace(fits, context_window=1_000),  # too small
    )
    policy = Policy(tuple(replace(model, tier=str(index)) for index, model in enumerate(models)), {"fast": 0.9})
    facts: dict[str, Any] = {"needs": BOTH, "tier_ceiling": "2", "max_model_latency_ms": 500, "max_cost_usd": 0.01}
    decision = decided((0.0,) * 6, policy, **facts)
    assert (decision.tier, list(decision.reasons), decision.reason) == ("0", ORDER[:-1], Reason.BUDGET)


def test_the_floor_is_listed_after_the_constraints() -> None:
    """A floor that raises what a context window has raised already has the last word."""
    decision = decided(EASY, input_tokens=9_501, tier_floor="large")
    assert (decision.tier, decision.reasons) == ("large", (Reason.CONTEXT_WINDOW, Reason.FLOOR))


def test_a_ceiling_below_what_suffices_lowers_the_confidence() -> None:
    """A caller who caps the tier is told what the capped tier is worth."""
    assert decided(HARD, tier_ceiling="small").confidence == HARD[0]


# targets and costs


@pytest.mark.parametrize(
    ("target", "tier"), [(0.0, "small"), (0.5, "small"), (0.51, "medium"), (0.95, "medium"), (0.96, "large"), (1.0, "large")]
)
def test_a_requests_own_target_replaces_the_policys(target: float, tier: str) -> None:
    """`min_sufficiency` counts even where it is 0; reaching the target is enough."""
    assert decided(MIDDLING, min_sufficiency=target).tier == tier


def test_cost_is_of_the_expected_reply_where_none_is_stated() -> None:
    """The policy's expected output stands in for a request that does not say."""
    assert decided(EASY).cost_usd == pytest.approx((0.0035, 0.0105, 0.0175))
    assert decided(EASY, output_tokens=0).cost_usd == pytest.approx((0.001, 0.003, 0.005))


def test_the_reply_must_fit_into_the_context_window() -> None:
    """Input alone would fit, but not with the reply that is expected."""
    assert decided(EASY, output_tokens=9_001).reasons == (Reason.CONTEXT_WINDOW,)


def test_the_context_window_is_counted_in_the_models_own_tokens() -> None:
    """A tokeniser that makes half as many tokens again fills its window sooner."""
    policy = replace(POLICY, catalog=(replace(SMALL, token_factor=1.5), MEDIUM, LARGE))
    assert decided(EASY, policy, input_tokens=6_000).tier == "small"
    assert decided(EASY, policy, input_tokens=6_400).tier == "medium"


# targets by path

BY_PATH = replace(POLICY, targets={"fast": 0.9, "auto": 0.4, "accurate": 0.99})


@pytest.mark.parametrize(("path", "target"), [("fast", 0.9), ("auto", 0.4), ("accurate", 0.99)])
def test_each_path_has_a_target_of_its_own(path: Path, target: float) -> None:
    """Risk control chose it for how that path decides."""
    assert BY_PATH.target(path) == target


@pytest.mark.parametrize("path", get_args(Path))
def test_where_there_is_one_path_its_target_serves_for_all(path: Path) -> None:
    """A bundle that names the fast path's target alone asks for it whatever a request asks for."""
    assert POLICY.target(path) == 0.9


@pytest.mark.parametrize(("path", "tier"), [("fast", "medium"), ("auto", "small"), ("accurate", "large")])
@pytest.mark.parametrize("scored", ["fast", "accurate"])
def test_scores_are_held_against_the_target_of_the_path_they_belong_to(path: Path, tier: str, scored: Any) -> None:
    """Of the path that was chosen for the request, whichever one scored in the end."""
    scores = replace(scores_of(MIDDLING), path=scored, target_path=path)
    assert decide(scores, BY_PATH, Facts(1_000)).tier == tier


@pytest.mark.parametrize("path", get_args(Path))
def test_a_requests_own_target_replaces_that_of_every_path(path: Path) -> None:
    """`min_sufficiency` counts on all paths alike."""
    scores = replace(scores_of(MIDDLING), target_path=path)
    assert decide(scores, BY_PATH, Facts(1_000, min_sufficiency=0.95)).tier == "medium"


# whether to look twice: auto's target is 0.8, odds of 4; a margin of 1 in logits reaches from 4 / e to 4 e, that is from 0.595 to 0.916

LOOKING = replace(POLICY, targets={"fast": 0.99, "auto": 0.8, "accurate": 0.1}, margin=1.0)
CLOSE = (0.75, 0.99, 1.0)  # of the cheapest tier


def looks_twice(sufficiency: tuple[float, ...], policy: Policy = LOOKING, **facts: Any) -> bool:
    """Whether the accurate path is asked of a prompt of 1,000 tokens."""
    return needs_accurate(scores_of(sufficiency, policy), policy, replace(Facts(1_000), **facts))


@pytest.mark.parametrize(("value", "expected"), [(0.1, False), (0.59, False), (0.6, True), (0.8, True), (0.91, True), (0.92, False)])
def test_a_tier_is_close_within_the_margin_around_autos_target(value: float, expected: bool) -> None:
    """On either side of it, counted in logits; the targets of the other paths do not count."""
    assert looks_twice((value, 0.999, 1.0)) is expected
    assert looks_twice((0.01, value, 1.0)) is expected


@pytest.mark.parametrize(("margin", "expected"), [(0.0, False), (0.25, False), (0.3, True), (5.0, True)])
def test_a_wider_margin_looks_twice_more_often(margin: float, expected: bool) -> None:
    """The logit of 0.75 lies 0.288 below that of 0.8."""
    assert looks_twice(CLOSE, replace(LOOKING, margin=margin)) is expected


def test_without_a_target_for_auto_the_fast_paths_is_looked_around() -> None:
    """As deciding does."""
    policy = replace(LOOKING, targets={"fast": 0.8})
    assert looks_twice(CLOSE, policy)
    assert not looks_twice((0.99, 0.99, 1.0), policy)


@pytest.mark.parametrize("last", [0.7, 0.8, 0.9])
def test_the_dearest_candidate_needs_no_second_look(last: float) -> None:
    """It is taken where nothing below it suffices, close or not."""
    assert not looks_twice((0.1, 0.2, last))
    assert not looks_twice((0.1, last, 1.0), tier_ceiling="medium")


@pytest.mark.parametrize("tier", ["small", "medium", "large"])
def test_a_request_that_names_its_tier_needs_no_second_look(tier: str) -> None:
    """Where floor and ceiling meet there is nothing to choose, however close the scores are."""
    assert not looks_twice((0.8, 0.8, 0.8), tier_floor=tier, tier_ceiling=tier)


@pytest.mark.parametrize(
    ("sufficiency", "facts"),
    [
        (CLOSE, {"input_tokens": 9_501}),  # too long for small
        (CLOSE, {"needs": BOTH}),  # small cannot see
        (CLOSE, {"tier_floor": "medium"}),
        (CLOSE, {"tier_ceiling": "small"}),
        ((0.1, 0.75, 1.0), {"tier_ceiling": "medium"}),  # from here on medium is the dearest that is left
        ((0.1, 0.75, 1.0), {"max_cost_usd": 0.0105}),
        ((0.1, 0.75, 1.0), {"max_model_latency_ms": 1_000}),
        (CLOSE, {"max_cost_usd": 0.0035}),
        (CLOSE, {"max_model_latency_ms": 100}),
        (CLOSE, {"input_tokens": 200_000}),  # no tier is left: deciding will say so
        (CLOSE, {"tier_floor": "large", "tier_ceiling": "small"}),
    ],
    ids=str,
)
def test_a_tier_that_cannot_be_chosen_is_not_looked_at_twice(sufficiency: tuple[float, ...], facts: dict[str, Any]) -> None:
    """Context window, capability, floor, ceiling, budget and latency leave nothing that the accurate path could change."""
    assert looks_twice(sufficiency)
    assert not looks_twice(sufficiency, **facts)


@pytest.mark.parametrize(
    ("sufficiency", "facts"),
    [
        ((0.75, 0.75, 1.0), {"input_tokens": 9_501}),
        ((0.75, 0.75, 1.0), {"tier_floor": "medium"}),
        (CLOSE, {"tier_ceiling": "medium"}),
        (CLOSE, {"max_cost_usd": 0.0105}),
        (CLOSE, {"max_model_latency_ms": 1_000}),
        (CLOSE, {"input_tokens": 9_500, "needs": frozenset({"tools"}), "tier_floor": "small"}),
    ],
    ids=str,
)
def test_constraints_that_leave_a_close_choice_leave_the_second_look(sufficiency: tuple[float, ...], facts: dict[str, Any]) -> None:
    """Two tiers are enough for the accurate path to choose between; limits are inclusive, as in deciding."""
    assert looks_twice(sufficiency, **facts)


@pytest.mark.parametrize(("target", "expected"), [(0.0, False), (0.2, False), (0.7, True), (0.8, True), (0.95, False), (1.0, False)])
def test_a_requests_own_target_is_the_one_that_is_looked_around(target: float, expected: bool) -> None:
    """`min_sufficiency` replaces auto's target here as in deciding, even where it is 0 or 1."""
    assert looks_twice((0.75, 0.9999, 0.9999), min_sufficiency=target) is expected


@pytest.mark.parametrize("field", ["tier_floor", "tier_ceiling"])
def test_an_unknown_tier_is_refused_by_field_before_a_second_look(field: str) -> None:
    """The accurate path is not asked for a request that cannot be answered."""
    changes: dict[str, Any] = {field: "gigantic"}
    unknown = replace(Facts(1_000), **changes)
    with pytest.raises(PolicyError, match="unknown tier") as caught:
        needs_accurate(scores_of(CLOSE, LOOKING), LOOKING, unknown)
    assert caught.value.field == field


def logit(value: float) -> float:
    """Log-odds; infinite at 0 and 1."""
    return math.inf if value >= 1 else -math.inf if value <= 0 else math.log(value / (1 - value))


def expit(value: float) -> float:
    """The probability with this logit."""
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


@st.composite
def looks(draw: st.DrawFn) -> tuple[Scores, Policy, Facts, list[float]]:
    """A case with a margin, and how far each tier's logit lies from the target's; none so near to the margin's end that rounding decides."""
    scores, policy, facts = draw(cases())
    policy = replace(policy, margin=draw(st.sampled_from([0.0, 0.5, 2.0, 5.0])))
    if facts.min_sufficiency in {0, 1}:  # whose logits are infinite
        facts = replace(facts, min_sufficiency=0.5)
    target = policy.targets["fast"] if facts.min_sufficiency is None else facts.min_sufficiency
    assume(0 < target < 1)
    distances = [abs(logit(value) - logit(target)) for value in scores.sufficiency]
    assume(all(abs(distance - policy.margin) > 1e-6 for distance in distances))
    return scores, policy, facts, distances


@settings(deadline=None, max_examples=200)
@given(case=looks())
def test_where_every_tier_lies_outside_of_the_margin_nothing_is_looked_at_twice(case: tuple[Scores, Policy, Facts, list[float]]) -> None:
    """Whatever the facts; and wherever something is, it is a candidate within the margin, not the dearest one."""
    scores, policy, facts, distances = case
    near = [tier for tier in candidates(policy, facts)[:-1] if distances[tier] < policy.margin]
    assert needs_accurate(scores, policy, facts) is bool(near)


@settings(deadline=None, max_examples=150)
@given(case=looks(), moves=st.lists(st.floats(-1, 1), min_size=8, max_size=8))
def test_where_nothing_is_looked_at_twice_no_second_opinion_within_the_margin_changes_the_tier(
    case: tuple[Scores, Policy, Facts, list[float]], moves: list[float]
) -> None:
    """That is what the margin promises: other scores, each at most a margin away, decide alike."""
    scores, policy, facts, distances = case
    allowed = candidates(policy, facts)
    assume(allowed)
    nearest = min((distances[tier] for tier in allowed[:-1]), default=math.inf)
    assume(nearest > 1e-6)
    policy = replace(policy, margin=min(0.99 * nearest, 20.0))  # the widest, but for rounding, that leaves every candidate outside
    assert not needs_accurate(scores, policy, facts)
    moved = [expit(logit(value) + policy.margin * move) for value, move in zip(scores.sufficiency, moves, strict=False)]
    second = replace(scores, sufficiency=tuple(accumulate(moved, max)))
    assert decide(second, policy, facts).tier == decide(scores, policy, facts).tier


# errors


@pytest.mark.parametrize("field", ["tier_floor", "tier_ceiling"])
def test_an_unknown_tier_is_refused_by_field(field: str) -> None:
    """The error names the field and the tiers there are, and does not echo what was sent."""
    error = refused(EASY, **{field: "gigantic"})
    assert error.field == field
    assert str(error) == "unknown tier, expected one of small, medium, large"


def test_a_floor_above_the_ceiling_is_refused() -> None:
    """The error names both."""
    error = refused(EASY, tier_floor="large", tier_ceiling="small")
    assert (error.field, str(error)) == ("tier_floor", "tier_floor large is above tier_ceiling small")


def test_a_floor_above_every_allowed_tier_is_refused_with_the_reason() -> None:
    """The error names the floor and what excludes the tiers from it up."""
    error = refused(EASY, tier_floor="large", max_model_latency_ms=1_000)
    assert (error.field, str(error)) == ("tier_floor", "tier_floor large is above every allowed tier: excluded by latency")


@pytest.mark.parametrize(
    ("facts", "reasons"),
    [
        ({"input_tokens": 200_000}, "context_window"),
        ({"max_model_latency_ms": 1}, "latency"),
        ({"max_cost_usd": 1e-9}, "budget"),
        ({"tier_ceiling": "small", "needs": BOTH}, "capability, ceiling"),
        ({"tier_ceiling": "small", "input_tokens": 20_000}, "context_window, ceiling"),
        ({"max_model_latency_ms": 1_000, "input_tokens": 20_000, "max_cost_usd": 0.02}, "context_window, latency, budget"),
        ({"max_model_latency_ms": 1, "max_cost_usd": 1e-9}, "latency, budget"),
        ({"input_tokens": 200_000, "tier_ceiling": "medium", "max_model_latency_ms": 1}, "context_window, ceiling, latency"),
        ({"max_model_latency_ms": 1, "tier_ceiling": "large", "max_cost_usd": 1.0, "needs": frozenset({"tools"})}, "latency"),
    ],
)
def test_where_no_tier_is_allowed_the_error_names_each_reason(facts: dict[str, Any], reasons: str) -> None:
    """Every constraint that excludes a tier is listed, in order, even after none is left; one that excludes none is not."""
    assert str(refused(EASY, **facts)) == f"no tier is allowed: excluded by {reasons}"


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"max_model_latency_ms": 1}, "max_model_latency_ms"),
        ({"max_cost_usd": 1e-9}, "max_cost_usd"),
        ({"max_cost_usd": 1e-9, "max_model_latency_ms": 9_000, "tier_ceiling": "large"}, "max_cost_usd"),
        ({"max_cost_usd": 1e-9, "max_model_latency_ms": 1}, None),
        ({"tier_ceiling": "small", "needs": BOTH}, None),
        ({"input_tokens": 200_000}, None),
    ],
)
def test_where_one_limit_excludes_every_tier_the_error_names_its_field(facts: dict[str, Any], field: str | None) -> None:
    """A caller is pointed at the one entry to change; several together, and the prompt's own size, are no single entry."""
    assert refused(EASY, **facts).field == field


@settings(deadline=None, max_examples=300)
@given(case=cases())
def test_an_error_names_exactly_the_constraints_that_exclude_a_tier(case: tuple[Scores, Policy, Facts]) -> None:
    """Whoever is refused can see all that stands in the way."""
    scores, policy, facts = case
    facts = replace(facts, tier_floor=None)
    assume(not candidates(policy, facts))
    free = Facts(0, 0)
    alone = {
        Reason.CONTEXT_WINDOW: replace(free, input_tokens=facts.input_tokens, output_tokens=facts.output_tokens),
        Reason.CAPABILITY: replace(free, needs=facts.needs),
        Reason.CEILING: replace(free, tier_ceiling=facts.tier_ceiling),
        Reason.LATENCY: replace(free, max_model_latency_ms=facts.max_model_latency_ms),
    }
    excluding = [reason for reason, only in alone.items() if len(candidates(policy, only)) < len(policy.tiers)]
    output = policy.expected_output_tokens if facts.output_tokens is None else facts.output_tokens
    if facts.max_cost_usd is not None and any(m.cost_usd(facts.input_tokens, output) > facts.max_cost_usd for m in policy.catalog):
        excluding.append(Reason.BUDGET)
    with pytest.raises(PolicyError) as caught:
        decide(scores, policy, facts)
    assert str(caught.value) == f"no tier is allowed: excluded by {', '.join(excluding)}"


# facts that follow from a prompt


def test_tokens_are_estimated_from_sizes() -> None:
    """Characters of all that a model reads, a fixed number an image, and a few for the message itself."""
    text = from_text("x" * 3_600)
    assert estimate_tokens(text) == round(3_600 / CHARS_PER_TOKEN) + 4
    more = from_messages([{"role": "user", "content": ["x" * 3_600, {"type": "image"}]}], system="s" * 360)
    assert estimate_tokens(more) - estimate_tokens(text) == round(360 / CHARS_PER_TOKEN) + TOKENS_PER_IMAGE


@pytest.mark.parametrize(
    ("parts", "tools", "needs"),
    [
        ([], [], set()),
        ([{"type": "image"}], [], {"vision"}),
        ([], [{"name": "ls"}], {"tools"}),
        ([{"type": "image"}], [{}], {"tools", "vision"}),
    ],
    ids=["text", "image", "tools", "both"],
)
def test_what_a_prompt_holds_is_what_its_model_must_handle(parts: list[Any], tools: list[Any], needs: set[str]) -> None:
    """Images need vision, tool definitions need tool use."""
    facts = facts_of(from_messages([{"role": "user", "content": ["What is it?", *parts]}], tools=tools))
    assert facts.needs == needs
    assert facts == Facts(facts.input_tokens, needs=facts.needs)


@pytest.mark.parametrize(
    ("small", "medium", "tier"), [(0.95, 0.99, 0), (0.9, 0.99, 0), (0.89, 0.9, 1), (0.1, 0.89, 2)], ids=["sure", "just", "medium", "none"]
)
def test_the_cheapest_candidate_that_reaches_the_target_is_taken(small: float, medium: float, tier: int) -> None:
    """The dearest where none below it does."""
    assert cheapest((small, medium, 1.0), 0.9, range(3)) == tier


def test_only_candidates_are_taken() -> None:
    """Whatever the others reach; where even the last misses the target there is nothing better to offer."""
    assert cheapest((1.0, 0.2, 1.0), 0.9, (1,)) == 1
