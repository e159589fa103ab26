"""The wire: requests and responses as pydantic models, and the only crossings between them and the classifier's types."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic asks for this one below Python 3.12

from classifier import Decision, Prompt, Reason, from_row
from classifier.policy import Facts, estimate_tokens, needs_of
from classifier.types import Effect, Explanation, PathReason
from classifier.types import Path as ScorePath

Tokens = Annotated[int, Field(ge=0, le=1_000_000_000)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Json = dict[str, Any]
STRICT = ConfigDict(strict=True, extra="allow", json_schema_extra={"additionalProperties": False})
"""Unknown fields are kept at first and refused by ``serve.body``: pydantic would make an error of each of a million."""


class RouteRequest(BaseModel):
    """A prompt or a conversation, and what this request asks of the decision."""

    model_config = STRICT

    prompt: str | None = Field(None, description="A plain prompt. Either this or messages.")
    messages: Annotated[list[Json], Field(fail_fast=True)] | None = Field(
        None, description="A conversation in OpenAI's or Anthropic's shape. Either this or prompt."
    )
    system: str | Annotated[list[Json], Field(fail_fast=True)] | None = Field(
        None, description="Anthropic's system prompt: sized, never scored."
    )
    tools: Annotated[list[Json], Field(fail_fast=True)] | None = Field(
        None, description="Tool definitions: sized, never scored; the model must be able to use tools."
    )
    policy: Literal["default"] = Field("default", description="The policy to decide by.")
    tier_floor: str | None = Field(None, description="No cheaper tier than this.")
    tier_ceiling: str | None = Field(None, description="No dearer tier than this.")
    min_sufficiency: float | None = Field(None, ge=0, le=1, description="Replaces the policy's target.")
    max_model_latency_ms: Positive | None = Field(None, description="Only tiers whose typical latency in the catalog is at most this.")
    max_cost_usd: Positive | None = Field(None, description="Only tiers whose estimated cost of this request is at most this.")
    expected_output_tokens: Tokens | None = Field(None, description="Length of the reply, for cost and context window.")
    input_tokens: Tokens | None = Field(None, description="Replaces the estimate from the texts' lengths.")
    path: ScorePath | None = Field(None, description="How much time to spend; the server's own setting where absent.")
    deadline_ms: Positive = Field(
        15.0, description="Time by which the accurate path must have answered; where it would not, the fast one does."
    )
    current_tier: str | None = Field(None, description="The tier that holds the conversation's cache. Accepted; not used by this version.")
    cached_input_tokens: Tokens | None = Field(None, description="Accepted; not used by this version.")
    phase: Literal["plan", "execute", "verify"] | None = Field(None, description="Accepted; not used by this version.")
    explain: bool = Field(
        default=False, description="Say what each signal did to the decision. Takes milliseconds; 422 where the bundle cannot."
    )

    def to_prompt(self) -> Prompt:
        """What is scored.

        Raises:
            MalformedPromptError: nothing to route, or a message of an unknown shape.
        """
        return from_row({"prompt": self.prompt, "messages": self.messages, "system": self.system, "tools": self.tools})

    def to_facts(self, prompt: Prompt) -> Facts:
        """What the decision must respect."""
        return Facts(
            input_tokens=estimate_tokens(prompt) if self.input_tokens is None else self.input_tokens,
            output_tokens=self.expected_output_tokens,
            needs=needs_of(prompt),
            tier_floor=self.tier_floor,
            tier_ceiling=self.tier_ceiling,
            min_sufficiency=self.min_sufficiency,
            max_model_latency_ms=self.max_model_latency_ms,
            max_cost_usd=self.max_cost_usd,
        )


class SignalEffect(TypedDict):
    """What one signal did to the decision, compared with its typical value. Effects overlap, so they do not add up to anything."""

    name: Annotated[str, Field(description="The signal; text: the words themselves, as the embedding holds them.")]
    value: NotRequired[Annotated[float, Field(description="Absent for text.")]]
    effect: Annotated[
        float,
        Field(
            description="The sufficiency that the fast path gives explained_tier, minus what it would be if this alone were typical of the "
            "training prompts: positive where it speaks for the tier."
        ),
    ]


class RouteResponse(TypedDict):
    """A decision. Numbers by tier are listed cheapest first."""

    id: Annotated[str, Field(description="Names this decision.")]
    tier: str
    model: Annotated[str, Field(description="What the catalog puts behind the tier.")]
    confidence: Annotated[float, Field(description="Calibrated probability that the tier's answer is good enough, at the stated prior.")]
    sufficiency: dict[str, float]
    probabilities: Annotated[dict[str, float], Field(description="That this tier is the cheapest sufficient one.")]
    reason: Reason
    reasons: list[Reason]
    policy: str
    path: Annotated[Literal["fast", "accurate"], Field(description="What scored.")]
    path_reason: Annotated[PathReason, Field(description="Why: the accurate path cannot change the decision, or could and would be late.")]
    cached: Annotated[bool, Field(description="Whether scores were taken from a cache; this version has none.")]
    task: Annotated[str | None, Field(description="The likeliest kind of work; null where the bundle has no task head.")]
    task_probability: Annotated[float | None, Field(description="That it is this kind, calibrated.")]
    novelty: Annotated[float | None, Field(description="Null: this bundle does not measure novelty.")]
    truncated: Annotated[bool, Field(description="Whether only head and tail of the text were scored.")]
    plan_first: bool
    cost_usd: Annotated[dict[str, float], Field(description="Estimated cost of this request.")]
    model_version: Annotated[str, Field(description="The bundle that scored.")]
    router_ms: Annotated[float, Field(description="Milliseconds from the parsed body to the decision, with those scored along with it.")]
    explained_tier: NotRequired[
        Annotated[
            str,
            Field(
                description="Where explain was asked for: the tier that the effects are of. The dearest one up to the returned tier whose "
                "sufficiency missed the target, as it is why nothing cheaper was taken; the cheapest tier where none missed it."
            ),
        ]
    ]
    signals: NotRequired[
        Annotated[
            list[SignalEffect],
            Field(description="Where explain was asked for: the text, and all signals that are not typical, by the size of their effect."),
        ]
    ]


def response_of(
    decision: Decision, prompt: Prompt, *, decision_id: str, version: str, router_ms: float, explanation: Explanation | None = None
) -> RouteResponse:
    """The decision as it goes over the wire; not validated, since every value comes from our own types."""
    scores = decision.scores
    tiers = scores.tiers
    response: RouteResponse = {
        "id": decision_id,
        "tier": decision.tier,
        "model": decision.model,
        "confidence": round(decision.confidence, 6),
        "sufficiency": _by_tier(tiers, scores.sufficiency),
        "probabilities": _by_tier(tiers, scores.probabilities),
        "reason": decision.reason,
        "reasons": list(decision.reasons),
        "policy": decision.policy,
        "path": scores.path,
        "path_reason": scores.path_reason,
        "cached": False,
        "task": scores.task,
        "task_probability": None if scores.task_probability is None else round(scores.task_probability, 6),
        "novelty": None,
        "truncated": prompt.truncated,
        "plan_first": False,
        "cost_usd": _by_tier(tiers, decision.cost_usd, 8),
        "model_version": version,
        "router_ms": round(router_ms, 3),
    }
    if explanation is not None:
        response["explained_tier"] = explanation.tier
        response["signals"] = [_signal(effect) for effect in explanation.effects]
    return response


def _signal(found: Effect) -> SignalEffect:
    effect = round(found.effect, 6)
    if found.value is None:
        return {"name": found.name, "effect": effect}
    return {"name": found.name, "value": round(found.value, 6), "effect": effect}


class BatchRequest(BaseModel):
    """Many requests, answered in order, each by itself: one that is wrong does not fail the others."""

    model_config = STRICT

    requests: list[Any] = Field(min_length=1, description="Each as for POST /route.")


class Problem(BaseModel):
    """RFC 9457 problem details. ``field``, ``found`` and ``expected`` where one field is at fault."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: Annotated[list[dict[str, str]] | None, Field(exclude_if=lambda errors: errors is None)] = None


class BatchResult(TypedDict, total=False):
    """Exactly one of the two."""

    decision: RouteResponse
    error: Problem


class BatchResponse(TypedDict):
    """Results in the order of the requests."""

    results: list[BatchResult]


class ModelResponse(BaseModel):
    """What scores here, and what it was calibrated for."""

    version: str
    tiers: list[str]
    basis: str
    prior: dict[str, float]
    calibrated_for: Json
    targets: dict[str, float]
    catalog: dict[str, Json]
    metrics: Json
    manifest: Json


def _by_tier(tiers: tuple[str, ...], values: tuple[float, ...], digits: int = 6) -> dict[str, float]:
    return {tier: round(value, digits) for tier, value in zip(tiers, values, strict=True)}
