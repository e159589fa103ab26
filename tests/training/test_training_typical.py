"""What a prompt of the stated traffic looks like."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from classifier import Router
from classifier.bundle import LAYOUT
from classifier.signals import NAMES
from training import staging
from training.dataset import TIERS, Example, read
from training.features import Features
from training.learn import features_of, load_encoder
from training.typical import typical_of

pytest_plugins = ("tests.training.fixtures_of_training",)

MakeBundle = Callable[..., Path]

PRIOR = (0.6, 0.3, 0.1)


@pytest.fixture(name="features", scope="module")
def _features(tiny_examples: list[Example], encoder_folder: Path) -> Features:
    """What heads would learn from, of every tiny example."""
    return features_of(tiny_examples, *load_encoder(encoder_folder))


def test_a_signal_is_typical_at_its_median(tiny_examples: list[Example], features: Features) -> None:
    """Half of the stated traffic lies at or below it, and not yet half below it."""
    found = typical_of(tiny_examples, features, features.vectors, PRIOR)["signals"]
    labels = np.array([example.label for example in tiny_examples])
    weights = np.array(PRIOR)[labels] / np.bincount(labels)[labels]
    for column, name in enumerate(NAMES):
        values = features.signals[:, column]
        assert weights[values <= found[name]].sum() >= 0.5 - 1e-9
        assert weights[values < found[name]].sum() < 0.5 + 1e-9
        assert found[name] in values


def test_the_embedding_is_the_mean_of_unit_rows(tiny_examples: list[Example], features: Features) -> None:
    """At the stated shares: the mean over tiers of each tier's own mean."""
    found = typical_of(tiny_examples, features, features.vectors, PRIOR)["embedding"]
    labels = np.array([example.label for example in tiny_examples])
    expected = sum(share * features.embedding[labels == tier].mean(axis=0) for tier, share in enumerate(PRIOR))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert 0 < np.linalg.norm(found) < 1


def test_the_vectors_are_those_that_serve(tiny_examples: list[Example], features: Features) -> None:
    """Tuning turned them round here."""
    before = typical_of(tiny_examples, features, features.vectors, PRIOR)["embedding"]
    after = typical_of(tiny_examples, features, -features.vectors, PRIOR)["embedding"]
    np.testing.assert_allclose(after, -np.array(before), atol=1e-6)


@pytest.mark.parametrize("tier", [0, 1, 2])
def test_typical_is_what_the_prior_says_there_is(tiny_examples: list[Example], features: Features, tier: int) -> None:
    """In traffic of nearly one tier alone, that tier's own median and mean."""
    prior = [1e-9] * 3
    prior[tier] = 1 - 2e-9
    found = typical_of(tiny_examples, features, features.vectors, prior)
    rows = np.array([example.label == tier for example in tiny_examples])
    alone = np.quantile(features.signals[rows], 0.5, axis=0, method="inverted_cdf")
    assert found["signals"] == dict(zip(NAMES, alone.tolist(), strict=True))
    np.testing.assert_allclose(found["embedding"], features.embedding[rows].mean(axis=0), atol=1e-6)


def test_measured_outcomes_are_no_traffic(tiny_examples: list[Example], tiny_outcomes: Path, encoder_folder: Path) -> None:
    """The prior is of labelled prompts, so they alone count."""
    both = [*tiny_examples, *read([tiny_outcomes])]
    encoder, vectors = load_encoder(encoder_folder)
    found, alone = (typical_of(rows, features_of(rows, encoder, vectors), vectors, PRIOR) for rows in (both, tiny_examples))
    assert found == alone
    assert found["n"] == len(tiny_examples)


def test_training_writes_typical_values_into_the_bundle(trained_bundle: Path) -> None:
    """Under the manifest's digest, for every signal; what loads it can explain."""
    router = Router.load(trained_bundle)
    content = json.loads((trained_bundle / LAYOUT.typical).read_bytes())
    assert LAYOUT.typical in router.manifest.files
    assert tuple(content["signals"]) == NAMES
    assert content["prior"] == [router.manifest.raw["prior"][tier] for tier in TIERS]
    assert router.typical is not None
    assert router.typical.signals.tolist() == pytest.approx(list(content["signals"].values()))
    assert router.typical.embedding.shape == (router.encoder.dim,)


def test_typical_values_are_of_the_training_rows(trained_bundle: Path, tiny_prompts: Path, encoder_folder: Path) -> None:
    """Not of the test rows, the outcomes or the dressed copies; by the vectors of the bundle."""
    train = [example for example in read([tiny_prompts]) if example.split == "train"]
    encoder, vectors = load_encoder(trained_bundle / LAYOUT.fast)
    expected = typical_of(train, features_of(train, encoder, vectors), vectors, PRIOR)
    found = json.loads((trained_bundle / LAYOUT.typical).read_bytes())
    assert found["signals"] == expected["signals"]
    assert found["n"] == len(train)
    np.testing.assert_allclose(found["embedding"], expected["embedding"], atol=1e-6)


def test_a_bundle_that_is_given_the_accurate_path_keeps_them(trained_bundle: Path, tmp_path: Path) -> None:
    """They are the fast path's, byte for byte."""
    copy = staging.copy(trained_bundle, tmp_path)
    assert (copy / LAYOUT.typical).read_bytes() == (trained_bundle / LAYOUT.typical).read_bytes()


def test_a_bundle_can_be_written_without_them(make_bundle: MakeBundle, tiny_examples: list[Example], tmp_path: Path) -> None:
    """It serves, and has nothing to explain by."""
    bundle = make_bundle(tmp_path, tiny_examples)
    assert not (bundle / LAYOUT.typical).exists()
    assert Router.load(bundle).typical is None
