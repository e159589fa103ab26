"""Router: a verified bundle, ready to score and to decide. The only module that joins the others."""

from collections.abc import Sequence
from pathlib import Path

from classifier import bundle as bundles
from classifier import signals
from classifier.bundle import LAYOUT, Manifest
from classifier.catalog import read_catalog
from classifier.conversation import from_text
from classifier.encoder import Encoder, StaticEncoder
from classifier.errors import BundleError
from classifier.head import Matrix, OnnxHead
from classifier.policy import Facts, Policy, decide, facts_of
from classifier.types import Decision, Prompt, Scores
from classifier.types import Path as ScorePath

CHECKOUT = Path(__file__).resolve().parents[1]
MODELS = CHECKOUT / "models"
CATALOG = CHECKOUT / "config" / "catalog.toml"


class Router:
    """Scores prompts and decides tiers. Holds no request's data; safe to share between threads."""

    def __init__(self, manifest: Manifest, encoder: Encoder, head: OnnxHead, policy: Policy) -> None:
        self.manifest, self.encoder, self.head, self.policy = manifest, encoder, head, policy

    @classmethod
    def load(cls, path: Path | str = MODELS, catalog: Path | str = CATALOG) -> "Router":
        """Verify the bundle at ``path`` (or the current one of a folder of bundles) and load it.

        Raises:
            BundleError: the bundle must not serve; says what was found and what was expected.
            ConfigError: the catalog cannot be used with the bundle's tiers.
        """
        folder = bundles.find(Path(path))
        manifest = bundles.verify(folder, signals.NAMES)
        try:
            encoder, head = StaticEncoder(folder / LAYOUT.fast), OnnxHead(folder / LAYOUT.head)
        except Exception as error:  # whatever onnxruntime and tokenizers raise, which is no common type
            raise BundleError(
                LAYOUT.fast, f"a file that does not load ({type(error).__name__})", "an encoder, a tokenizer and a head"
            ) from error
        if (head.n_signals, head.dim) != (len(signals.NAMES), encoder.dim):
            raise BundleError(LAYOUT.head, f"inputs of {head.n_signals} and {head.dim}", f"{len(signals.NAMES)} and {encoder.dim}")
        _check_calibration(folder, head, manifest.tiers)
        return cls(manifest, encoder, head, Policy(read_catalog(Path(catalog), manifest.tiers), bundles.targets(folder)))

    def features(self, prompts: Sequence[Prompt]) -> tuple[Matrix, Matrix]:
        """(signals (n, n_signals), embedding (n, dim)): what the head reads, in training as in serving."""
        return signals.signal_matrix(prompts), self.encoder.encode([prompt.ask for prompt in prompts])

    def score(self, prompts: Sequence[Prompt], path: ScorePath = "auto") -> list[Scores]:
        """One ``Scores`` a prompt; a prompt's scores never depend on its neighbours.

        ``path`` says how much time to spend; this bundle has the fast path alone, which answers ``auto`` as well.
        """
        del path
        logits, sufficiency = self.head.run(*self.features(prompts))
        tiers = self.manifest.tiers
        return [Scores(tiers, tuple(one), tuple(other)) for one, other in zip(logits.tolist(), sufficiency.tolist(), strict=True)]

    def route(self, prompts: Sequence[Prompt], facts: Sequence[Facts] | None = None, path: ScorePath = "auto") -> list[Decision]:
        """One decision a prompt, under the bundle's policy; ``facts`` replaces what follows from the prompts alone.

        Raises:
            PolicyError: some request can be given no tier.
        """
        facts = [facts_of(prompt) for prompt in prompts] if facts is None else facts
        return [decide(scores, self.policy, fact) for scores, fact in zip(self.score(prompts, path), facts, strict=True)]

    def warm(self) -> None:
        """Run every graph once, so that the first request is as fast as the next."""
        self.score([from_text("Which points must be set for the 9:14 to Oxford?")] * 3)


def _check_calibration(folder: Path, head: OnnxHead, tiers: tuple[str, ...]) -> None:
    """The numbers in calibration.json are those in the graph."""
    stated = bundles.read_json(folder / LAYOUT.calibration)
    for name, found in (("shift", head.calibration_shift), ("slope", head.calibration_slope)):
        try:
            expected = tuple(float(stated[name][tier]) for tier in tiers)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BundleError(LAYOUT.calibration, f"no usable {name}", "a number for every tier") from error
        if found != expected:
            raise BundleError(f"{LAYOUT.head}: calibration_{name}", found, f"{expected}, as {LAYOUT.calibration} says")
