"""Metrics: what is counted, and under which labels."""

from dataclasses import replace
from typing import get_args

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from classifier import Decision, Reason, Scores
from classifier.types import PathReason
from serve.telemetry import Telemetry

SCORES = Scores(("small", "large"), (0.0, 0.0), (0.4, 0.9), "accurate", "close", "auto")
DECISION = Decision("large", "m", 0.9, (Reason.CEILING, Reason.FLOOR), "default", (0.1, 0.2), SCORES)


def families(telemetry: Telemetry) -> dict[str, Metric]:
    """The exposition, read back by Prometheus' own parser."""
    return {family.name: family for family in text_string_to_metric_families(telemetry.exposition().decode())}


def value(telemetry: Telemetry, sample: str, **labels: str) -> float | None:
    """One sample of the exposition, or None."""
    samples = [one for family in families(telemetry).values() for one in family.samples]
    return next((one.value for one in samples if one.name == sample and one.labels == labels), None)


def test_a_decision_is_counted_by_tier_last_reason_path_and_why_that_path() -> None:
    """Two decisions alike are two under the same labels."""
    telemetry = Telemetry("v")
    for _ in range(2):
        telemetry.decided(DECISION, 0.001)
    assert value(telemetry, "pointsman_decisions_total", tier="large", reason="floor", path="accurate", path_reason="close") == 2


@pytest.mark.parametrize("reason", get_args(PathReason))
def test_decisions_that_differ_in_the_paths_reason_alone_are_counted_apart(reason: PathReason) -> None:
    """Every reason there is has a number of its own."""
    telemetry = Telemetry("v")
    telemetry.decided(DECISION, 0.001)
    telemetry.decided(replace(DECISION, scores=replace(SCORES, path="fast", path_reason=reason)), 0.001)
    assert value(telemetry, "pointsman_decisions_total", tier="large", reason="floor", path="fast", path_reason=reason) == 1


def test_confidence_and_seconds_of_decisions_are_histograms() -> None:
    """Sum and count give the mean; both are in the unit of the metric's name."""
    telemetry = Telemetry("v")
    telemetry.decided(DECISION, 0.25)
    assert value(telemetry, "pointsman_confidence_sum") == 0.9
    assert value(telemetry, "pointsman_router_seconds_sum") == 0.25
    assert value(telemetry, "pointsman_router_seconds_count") == 1


def test_a_refusal_is_counted_by_status() -> None:
    """A refusal is no decision."""
    telemetry = Telemetry("v")
    telemetry.refused(422)
    assert value(telemetry, "pointsman_problems_total", status="422") == 1
    assert not families(telemetry)["pointsman_decisions"].samples


def test_the_bundle_in_use_is_a_label() -> None:
    """A dashboard can show when the bundle changed."""
    assert value(Telemetry("2026-01-01-abc"), "pointsman_bundle", version="2026-01-01-abc") == 1


def test_every_server_counts_for_itself() -> None:
    """Two apps in one process do not share counters."""
    one, other = Telemetry("v"), Telemetry("v")
    one.refused(400)
    assert value(other, "pointsman_problems_total", status="400") is None
