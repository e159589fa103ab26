"""The vocabulary: what flows between the modules. Frozen values, no behaviour but derived numbers; imports nothing of ours."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Path = Literal["fast", "auto", "accurate"]
"""How a request asks to be scored. A bundle with one path answers all three alike."""

PathReason = Literal["only_path", "asked", "clear", "close", "deadline", "load"]
"""Why a path scored: the bundle has no other; the request asked for it; another look cannot change the decision, or it can;
it can, but would come after the deadline, by itself or because of others that came before.
"""

Capability = Literal["tools", "vision"]
"""What a request may need of a model beyond text."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request as the router sees it: a bounded text that is scored, and the sizes of everything else.

    ``text`` is scored: the last human turn, or for a short follow-up the human turns it follows, cut to a head-and-tail
    window. ``ask`` is the part of it that a person wrote, as far as it can be told from pasted code, logs and tables.
    System prompts, tool lists, tool results and assistant turns are numbers.
    """

    text: str
    ask: str
    chars: int  # of the scored text before the window was cut
    lines: int
    questions: int  # "?" in the scored text before the cut
    fences: int  # "```" in the scored text before the cut
    truncated: bool = False
    follow_up: bool = False  # earlier human turns were joined in
    human_turns: int = 1
    assistant_turns: int = 0
    system_chars: int = 0
    history_chars: int = 0  # human and assistant turns other than the scored text
    tools: int = 0
    tool_chars: int = 0  # tool definitions
    tool_result_chars: int = 0
    images: int = 0

    @property
    def total_chars(self) -> int:
        """Characters of text a model would have to read."""
        return self.chars + self.system_chars + self.history_chars + self.tool_chars + self.tool_result_chars


@dataclass(frozen=True, slots=True)
class Model:
    """What stands behind a tier. Prices are USD per million tokens; ``token_factor`` is how many tokens this model's
    tokeniser makes where the reference makes one.
    """

    tier: str
    id: str
    input_usd: float
    output_usd: float
    context_window: int  # tokens
    latency_ms: float  # typical, to a complete answer
    capabilities: frozenset[Capability] = frozenset()
    token_factor: float = 1.0

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float:
        """USD for one call, of tokens counted by the reference tokeniser."""
        return self.token_factor * (input_tokens * self.input_usd + output_tokens * self.output_usd) / 1e6


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model says of one prompt; policy turns it into a decision.

    ``sufficiency[t]`` is P(tier t's answer is good enough) at the bundle's prior and basis, in [0, 1], never falling
    from a cheaper tier to a dearer one; ``logits`` are the head's outputs before calibration. Both hold one number a
    tier, cheapest first. ``path`` is what scored, ``target_path`` the path whose target a policy holds the scores against: it
    was chosen for how that path as a whole decides.
    """

    tiers: tuple[str, ...]
    logits: tuple[float, ...]
    sufficiency: tuple[float, ...]
    path: Literal["fast", "accurate"] = "fast"
    path_reason: PathReason = "only_path"
    target_path: Path = "fast"
    task: str | None = None  # what kind of work is asked for; None where the bundle cannot tell
    task_probability: float | None = None  # calibrated

    @property
    def probabilities(self) -> tuple[float, ...]:
        """P(the cheapest sufficient tier is t): differences of sufficiency, the remainder on the top tier; sums to 1."""
        below = (0.0, *self.sufficiency[:-1])
        upto = (*self.sufficiency[:-1], 1.0)
        return tuple(b - a for a, b in zip(below, upto, strict=True))


class Reason(StrEnum):
    """Why a decision is what it is: the closed list of the HTTP contract, as far as the policy can give it."""

    SUFFICIENT = "sufficient"
    NONE_SUFFICIENT = "none_sufficient"
    FLOOR = "floor"
    CEILING = "ceiling"
    CONTEXT_WINDOW = "context_window"
    CAPABILITY = "capability"
    LATENCY = "latency"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class Decision:
    """The chosen tier, and why. ``reasons`` lists all that moved the tier, ``reason`` is the last of them."""

    tier: str
    model: str
    confidence: float  # the sufficiency of the chosen tier
    reasons: tuple[Reason, ...]
    policy: str
    cost_usd: tuple[float, ...]  # of this request, one number a tier
    scores: Scores

    @property
    def reason(self) -> Reason:
        """What decided in the end."""
        return self.reasons[-1]


@dataclass(frozen=True, slots=True)
class Effect:
    """What one signal does to a tier's sufficiency, compared with its typical value: positive where it raises it."""

    name: str
    value: float | None  # of the signal; None for the text, which is many numbers
    effect: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What moved a decision: ``effects`` on the fast path's sufficiency of ``tier``, the largest first."""

    tier: str
    effects: tuple[Effect, ...]
