"""LiteLLM's routers that run without a network or a model: prompt -> tier, as plain functions. Optional."""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

COMPLEXITY = "complexity_router"
HEURISTIC = "heuristic_v2"
_PACKAGE = "litellm.router_strategy.complexity_router"


@dataclass(frozen=True, slots=True)
class Peer:
    """``call`` is None where there is no such peer in this environment; ``reason`` says why."""

    name: str
    call: Callable[[str], object] | None = None
    reason: str = ""


def load() -> list[Peer]:
    """Both peers, ready to be called."""
    # Otherwise the import fetches a price list.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    return [_peer(COMPLEXITY, _complexity_router), _peer(HEURISTIC, _heuristic_v2)]


def _peer(name: str, build: Callable[[], Callable[[str], object]]) -> Peer:
    try:
        return Peer(name, build())
    except ModuleNotFoundError as error:
        if error.name == "litellm":
            return Peer(name, reason="litellm is not installed (pip install '.[bench]')")
        return Peer(name, reason=f"this litellm has no {error.name}")
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        return Peer(name, reason=f"this litellm differs from the one this was written for ({type(error).__name__}: {error})")


def _complexity_router() -> Callable[[str], object]:
    module: Any = importlib.import_module(f"{_PACKAGE}.complexity_router")
    router = module.ComplexityRouter(model_name="bench", litellm_router_instance=None, derive_savings_baseline=False)
    router.classify("ready?")
    classify: Callable[[str], object] = router.classify
    return classify


def _heuristic_v2() -> Callable[[str], object]:
    """The two public steps that its configuration ``classifier_type: heuristic_v2`` takes."""
    predictors: Any = importlib.import_module(f"{_PACKAGE}.tier_predictor")
    classify: Any = importlib.import_module("litellm.router_strategy.adaptive_router.classifier").classify_prompt
    predictor = predictors.TierSuccessPredictor(predictors.resolve_tier_artifact("ultrafeedback"))
    predictor.predict("ready?", classify("ready?"))
    return lambda prompt: predictor.predict(prompt, classify(prompt))
