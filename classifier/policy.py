"""Scores -> decision. Pure: reads no file and no clock, and knows neither HTTP nor the model that scored."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from classifier.errors import PolicyError
from classifier.types import Capability, Decision, Model, Path, Prompt, Reason, Scores

CHARS_PER_TOKEN = 3.6
"""Typical of mixed English text and code under current tokenisers; a request may state its ``input_tokens`` instead."""
TOKENS_PER_IMAGE = 1_600
_NEEDS: dict[tuple[bool, bool], frozenset[Capability]] = {
    (False, False): frozenset(),
    (True, False): frozenset({"tools"}),
    (False, True): frozenset({"vision"}),
    (True, True): frozenset({"tools", "vision"}),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of a team. ``targets`` holds the sufficiency asked for, by path: chosen in training by risk control. ``margin`` is
    how near to it, in logits, the fast path must come for the accurate one to be asked.
    """

    catalog: tuple[Model, ...]  # one a tier, in the bundle's order, cheapest first
    targets: Mapping[str, float]
    margin: float = 0.0
    name: str = "default"
    expected_output_tokens: int = 500
    tiers: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tiers", tuple(model.tier for model in self.catalog))

    def target(self, path: Path) -> float:
        """The sufficiency asked for on ``path``; the fast path's where a bundle has no other."""
        return self.targets.get(path, self.targets["fast"])

    def index(self, tier: str, field_name: str) -> int:
        """Position of ``tier``; PolicyError naming ``field_name`` and the known tiers where there is none."""
        if tier not in self.tiers:
            raise PolicyError(f"unknown tier, expected one of {', '.join(self.tiers)}", field_name)
        return self.tiers.index(tier)


@dataclass(frozen=True, slots=True)
class Facts:
    """What one request brings along: its size, what the model must be able to do, and its own limits."""

    input_tokens: int
    output_tokens: int | None = None
    needs: frozenset[Capability] = frozenset()
    tier_floor: str | None = None
    tier_ceiling: str | None = None
    min_sufficiency: float | None = None
    max_model_latency_ms: float | None = None
    max_cost_usd: float | None = None


def facts_of(prompt: Prompt) -> Facts:
    """The facts that follow from the prompt alone."""
    return Facts(estimate_tokens(prompt), needs=needs_of(prompt))


def needs_of(prompt: Prompt) -> frozenset[Capability]:
    """What a model must be able to do beyond text."""
    return _NEEDS[bool(prompt.tools), bool(prompt.images)]


def estimate_tokens(prompt: Prompt) -> int:
    """Input tokens, from sizes alone."""
    return round(prompt.total_chars / CHARS_PER_TOKEN) + TOKENS_PER_IMAGE * prompt.images + 4


_FIELDS = {Reason.CEILING: "tier_ceiling", Reason.LATENCY: "max_model_latency_ms", Reason.BUDGET: "max_cost_usd"}
"""The request's field behind a constraint."""


def cheapest(sufficiency: Sequence[float], target: float, candidates: Sequence[int]) -> int:
    """The first of ``candidates``, cheapest first and not empty, whose sufficiency reaches ``target``, else the last."""
    return next((tier for tier in candidates if sufficiency[tier] >= target), candidates[-1])


def decide(scores: Scores, policy: Policy, facts: Facts) -> Decision:
    """The cheapest allowed tier that suffices, else the dearest allowed one.

    1. allowed: the tiers that pass context window, capability, ceiling, latency and budget;
    2. the lower bound: the floor;
    3. candidates: allowed tiers from the lower bound up;
    4. the cheapest candidate whose sufficiency reaches the target, else the dearest candidate.

    ``reasons`` lists, in this order, every step that changed what step 4 on all tiers would have said.

    Raises:
        PolicyError: an unknown tier, a floor above every allowed tier, or no allowed tier at all.
    """
    tiers = range(len(policy.catalog))
    target = _target(policy, scores.target_path, facts)
    costs, floor, ceiling, constraints = _limits(policy, facts)

    chosen = cheapest(scores.sufficiency, target, tiers)
    first = Reason.SUFFICIENT if scores.sufficiency[chosen] >= target else Reason.NONE_SUFFICIENT
    moved: list[Reason] = []
    allowed = list(tiers)
    failed: list[Reason] = []
    for reason, passes in constraints:
        passing = [tier for tier in tiers if passes(tier)]
        if len(passing) < len(tiers):
            failed.append(reason)
        allowed = [tier for tier in allowed if tier in passing]
        if allowed and (now := cheapest(scores.sufficiency, target, allowed)) != chosen:
            chosen = now
            moved.append(reason)
    if not allowed:
        raise PolicyError(f"no tier is allowed: excluded by {', '.join(failed)}", _FIELDS.get(failed[0]) if len(failed) == 1 else None)
    if floor > allowed[-1]:
        if ceiling is not None and floor > ceiling:
            raise PolicyError(f"tier_floor {facts.tier_floor} is above tier_ceiling {facts.tier_ceiling}", "tier_floor")
        raise PolicyError(f"tier_floor {facts.tier_floor} is above every allowed tier: excluded by {', '.join(failed)}", "tier_floor")
    if floor and (now := cheapest(scores.sufficiency, target, [tier for tier in allowed if tier >= floor])) != chosen:
        chosen = now
        moved.append(Reason.FLOOR)
    model = policy.catalog[chosen]
    return Decision(model.tier, model.id, scores.sufficiency[chosen], tuple(moved) or (first,), policy.name, costs, scores)


def decisive(decision: Decision, policy: Policy, facts: Facts) -> int:
    """The tier whose sufficiency made ``decision`` what it is: the dearest one up to the chosen tier that misses the target, for it is
    why nothing cheaper was taken; where none misses it, the cheapest tier.
    """
    scores = decision.scores
    target = _target(policy, scores.target_path, facts)
    upto = scores.tiers.index(decision.tier) + 1
    return max((tier for tier in range(upto) if scores.sufficiency[tier] < target), default=0)


def needs_accurate(scores: Scores, policy: Policy, facts: Facts) -> bool:
    """Whether the accurate path could change what the fast path's ``scores`` decide: of some allowed tier but the dearest, the
    sufficiency lies within the policy's margin of the target. ``margin`` is tuned in training, on prompts that neither path saw.
    """
    low, high = _odds_within(_target(policy, "auto", facts), policy.margin)
    near = [tier for tier, value in enumerate(scores.sufficiency) if low <= value <= high]
    if not near:
        return False
    _, floor, _, constraints = _limits(policy, facts)
    candidates = [tier for tier in range(floor, len(policy.catalog)) if all(passes(tier) for _, passes in constraints)]
    return any(tier in near for tier in candidates[:-1])


def _odds_within(probability: float, margin: float) -> tuple[float, float]:
    """The probabilities whose logits are ``margin`` below and above that of ``probability``."""
    factor = math.exp(margin)
    return probability / (probability + (1 - probability) * factor), probability * factor / (probability * factor + 1 - probability)


def _target(policy: Policy, path: Path, facts: Facts) -> float:
    """The sufficiency that this request asks for."""
    return policy.target(path) if facts.min_sufficiency is None else facts.min_sufficiency


def _limits(policy: Policy, facts: Facts) -> tuple[tuple[float, ...], int, int | None, list[tuple[Reason, Callable[[int], bool]]]]:
    """(USD of each tier, floor, ceiling, the constraints in force in the order in which they are reported) of this request.

    Raises:
        PolicyError: an unknown tier.
    """
    catalog = policy.catalog
    output_tokens = policy.expected_output_tokens if facts.output_tokens is None else facts.output_tokens
    costs = tuple(model.cost_usd(facts.input_tokens, output_tokens) for model in catalog)
    ceiling = None if facts.tier_ceiling is None else policy.index(facts.tier_ceiling, "tier_ceiling")
    floor = 0 if facts.tier_floor is None else policy.index(facts.tier_floor, "tier_floor")
    tokens = facts.input_tokens + output_tokens
    result: list[tuple[Reason, Callable[[int], bool]]] = [
        (Reason.CONTEXT_WINDOW, lambda tier: tokens * catalog[tier].token_factor <= catalog[tier].context_window)
    ]
    if facts.needs:
        result.append((Reason.CAPABILITY, lambda tier: facts.needs <= catalog[tier].capabilities))
    if ceiling is not None:
        result.append((Reason.CEILING, lambda tier: tier <= ceiling))
    if (latency := facts.max_model_latency_ms) is not None:
        result.append((Reason.LATENCY, lambda tier: catalog[tier].latency_ms <= latency))
    if (budget := facts.max_cost_usd) is not None:
        result.append((Reason.BUDGET, lambda tier: costs[tier] <= budget))
    return costs, floor, ceiling, result
