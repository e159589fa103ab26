"""Router: a verified bundle, ready to score and to decide. The only module that joins the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from classifier import bundle as bundles
from classifier import signals
from classifier.bundle import LAYOUT, Manifest
from classifier.catalog import read_catalog
from classifier.conversation import from_text
from classifier.encoder import Encoder, StaticEncoder, TransformerEncoder
from classifier.errors import BundleError, PolicyError
from classifier.explain import Typical, effects
from classifier.head import Matrix, OnnxHead, TaskHead
from classifier.policy import Facts, Policy, decide, decisive, facts_of, needs_accurate
from classifier.types import Decision, Explanation, PathReason, Prompt, Scores
from classifier.types import Path as ScorePath

CHECKOUT = Path(__file__).resolve().parents[1]
MODELS = CHECKOUT / "models"
CATALOG = CHECKOUT / "config" / "catalog.toml"
Loaded = TypeVar("Loaded")


@dataclass(frozen=True, slots=True)
class Accurate:
    """The second look: a transformer, and a head that reads its vector beside the fast path's logits."""

    encoder: TransformerEncoder
    head: OnnxHead


class Router:
    """Scores prompts and decides tiers. Holds no request's data; safe to share between threads."""

    def __init__(
        self,
        manifest: Manifest,
        encoder: Encoder,
        head: OnnxHead,
        policy: Policy,
        accurate: Accurate | None = None,
        task: TaskHead | None = None,
        typical: Typical | None = None,
    ) -> None:
        self.manifest, self.encoder, self.head, self.policy = manifest, encoder, head, policy
        self.accurate, self.task, self.typical = accurate, task, typical

    @classmethod
    def load(cls, path: Path | str = MODELS, catalog: Path | str = CATALOG) -> "Router":
        """Verify the bundle at ``path`` (or the current one of a folder of bundles) and load it.

        Raises:
            BundleError: the bundle must not serve; says what was found and what was expected.
            ConfigError: the catalog cannot be used with the bundle's tiers.
        """
        folder = bundles.find(Path(path))
        manifest = bundles.verify(folder, signals.NAMES)
        encoder, head = _loaded(LAYOUT.fast, lambda: (StaticEncoder(folder / LAYOUT.fast), OnnxHead(folder / LAYOUT.head)))
        stated = bundles.read_json(folder / LAYOUT.calibration)
        _check_head(LAYOUT.head, head, {"signals": len(signals.NAMES), "embedding": encoder.dim}, stated, manifest.tiers)
        accurate = None
        if "accurate" in manifest.paths:
            transformer, second = _loaded(
                LAYOUT.accurate, lambda: (TransformerEncoder(folder / LAYOUT.accurate), OnnxHead(folder / LAYOUT.accurate_head))
            )
            expected = {"fast_logits": len(manifest.tiers), "embedding": transformer.dim}
            _check_head(LAYOUT.accurate_head, second, expected, stated.get("accurate"), manifest.tiers)
            accurate = Accurate(transformer, second)
        task = None
        if LAYOUT.task in manifest.files:
            task = _loaded(LAYOUT.task, lambda: TaskHead(folder / LAYOUT.task))
            _check_widths(LAYOUT.task, task.widths, head.widths)
        typical = None
        if LAYOUT.typical in manifest.files:
            typical = Typical(*(np.array(part, np.float32) for part in bundles.typical(folder, signals.NAMES, encoder.dim)))
        targets, margin = bundles.targets(folder, manifest.paths)
        return cls(manifest, encoder, head, Policy(read_catalog(Path(catalog), manifest.tiers), targets, margin), accurate, task, typical)

    def features(self, prompts: Sequence[Prompt]) -> tuple[Matrix, Matrix]:
        """(signals (n, n_signals), embedding (n, dim)): what the fast head reads, in training as in serving."""
        return signals.signal_matrix(prompts), self.encoder.encode([prompt.ask for prompt in prompts])

    def score(self, prompts: Sequence[Prompt], path: ScorePath = "auto", facts: Sequence[Facts] | None = None) -> list[Scores]:
        """One ``Scores`` a prompt; a prompt's scores never depend on its neighbours or on the clock.

        ``path`` says how much time to spend: ``auto`` takes the accurate path where it can change the decision under the bundle's
        policy and ``facts``, which replaces what follows from the prompts alone.
        """
        result = self.score_fast(prompts, path)
        if self.accurate is None or path == "fast":
            return result
        for place, scores in enumerate(result):
            fact = facts_of(prompts[place]) if facts is None else facts[place]
            if self.looks_twice(scores, fact):
                result[place] = self.score_accurate(prompts[place], scores)
        return result

    def score_fast(self, prompts: Sequence[Prompt], path: ScorePath = "auto") -> list[Scores]:
        """What the fast path says, for a request of ``path``; ``looks_twice`` says whether that is the last word."""
        features = self.features(prompts)
        logits, sufficiency = self.head.run(*features)
        tasks = [(None, None)] * len(prompts) if self.task is None else self.task.run(*features)
        if self.accurate is None:
            reason, path = _ONLY_PATH
        else:
            reason = "asked" if path == "fast" else "clear"
        tiers = self.manifest.tiers
        rows = zip(logits.tolist(), sufficiency.tolist(), tasks, strict=True)
        return [Scores(tiers, tuple(one), tuple(other), "fast", reason, path, *task) for one, other, task in rows]

    def looks_twice(self, scores: Scores, facts: Facts) -> bool:
        """Whether the accurate path has to be asked after the fast one has said ``scores``.

        Raises:
            PolicyError: ``facts`` name an unknown tier, and the scores are near the target; ``decide`` refuses it anywhere.
        """
        if self.accurate is None or scores.target_path == "fast":
            return False
        return scores.target_path == "accurate" or needs_accurate(scores, self.policy, facts)

    def score_accurate(self, prompt: Prompt, fast: Scores) -> Scores:
        """What the accurate path makes of ``prompt`` and of what the fast one said of it; for bundles that have both."""
        assert self.accurate is not None
        logits, sufficiency = self.accurate.head.run(np.array([fast.logits], np.float32), self.accurate.encoder.encode([prompt.text]))
        reason: PathReason = "asked" if fast.target_path == "accurate" else "close"
        return replace(
            fast, logits=tuple(logits[0].tolist()), sufficiency=tuple(sufficiency[0].tolist()), path="accurate", path_reason=reason
        )

    def route(self, prompts: Sequence[Prompt], facts: Sequence[Facts] | None = None, path: ScorePath = "auto") -> list[Decision]:
        """One decision a prompt, under the bundle's policy; ``facts`` replaces what follows from the prompts alone.

        Raises:
            PolicyError: some request can be given no tier.
        """
        facts = [facts_of(prompt) for prompt in prompts] if facts is None else facts
        return [decide(scores, self.policy, fact) for scores, fact in zip(self.score(prompts, path, facts), facts, strict=True)]

    def explain(self, prompt: Prompt, decision: Decision, facts: Facts | None = None) -> Explanation:
        """What of ``prompt`` moved ``decision``, which was made with ``facts``: the effect of each signal that is not typical, and of the
        text, on the sufficiency that the fast path gives the decisive tier (``policy.decisive``). Whatever scored, since the accurate
        path reads no signals but through the fast one.

        Raises:
            PolicyError: the bundle holds no typical values.
        """
        if self.typical is None:
            raise PolicyError(f"this bundle has no {LAYOUT.typical}; one that is trained anew has", "explain")
        tier = decisive(decision, self.policy, facts_of(prompt) if facts is None else facts)
        features = self.features((prompt,))
        found = effects(signals.NAMES, *features, self.typical, lambda *rows: self.head.run(*rows)[1][:, tier])
        return Explanation(self.manifest.tiers[tier], found)

    def warm(self) -> None:
        """Run every graph once, so that the first request is as fast as the next."""
        self.score([from_text("Which points must be set for the 9:14 to Oxford?")] * 3, "accurate")


_ONLY_PATH: tuple[PathReason, ScorePath] = ("only_path", "fast")


def _loaded(name: str, load: Callable[[], Loaded]) -> Loaded:
    try:
        return load()
    except Exception as error:  # whatever onnxruntime and tokenizers raise, which is no common type
        raise BundleError(name, f"a file that does not load ({type(error).__name__})", "what training wrote") from error


def _check_head(name: str, head: OnnxHead, widths: dict[str, int], stated: Any, tiers: tuple[str, ...]) -> None:
    """The head reads what is there to be read, and its calibration is the one in calibration.json."""
    _check_widths(name, head.widths, widths)
    for part, found in (("shift", head.calibration_shift), ("slope", head.calibration_slope)):
        try:
            expected = tuple(float(stated[part][tier]) for tier in tiers)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BundleError(LAYOUT.calibration, f"no usable {part} for {name}", "a number for every tier") from error
        if found != expected:
            raise BundleError(f"{name}: calibration_{part}", found, f"{expected}, as {LAYOUT.calibration} says")


def _check_widths(name: str, found: dict[str, int], expected: dict[str, int]) -> None:
    if found != expected:
        raise BundleError(name, f"inputs {found}", f"{expected}")
