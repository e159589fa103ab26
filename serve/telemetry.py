"""Prometheus metrics of one server. Labels hold names of ours alone: no text, no client's strings."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from classifier import Decision

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_CONFIDENCE = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)


class Telemetry:
    """Counts decisions and refusals; each server has a registry of its own."""

    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry()
        labels = ["tier", "reason", "path", "path_reason"]
        self._decisions = Counter("pointsman_decisions", "Decisions", labels, registry=self._registry)
        self._counters: dict[tuple[str, str, str, str], Counter] = {}
        self._problems = Counter("pointsman_problems", "Requests answered with a problem", ["status"], registry=self._registry)
        self._seconds = Histogram(
            "pointsman_router_seconds",
            "From a parsed body to its decision, with those scored along with it",
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._confidence = Histogram("pointsman_confidence", "Confidence of decisions", registry=self._registry, buckets=_CONFIDENCE)
        Gauge("pointsman_bundle", "The bundle in use", ["version"], registry=self._registry).labels(version).set(1)

    def decided(self, decision: Decision, seconds: float) -> None:
        """Count one decision."""
        key = (decision.tier, decision.reason.value, decision.scores.path, decision.scores.path_reason)
        counter = self._counters.get(key)  # finding it by its labels takes longer than counting
        if counter is None:
            counter = self._counters[key] = self._decisions.labels(*key)
        counter.inc()
        self._confidence.observe(decision.confidence)
        self._seconds.observe(seconds)

    def refused(self, status: int) -> None:
        """Count one problem."""
        self._problems.labels(str(status)).inc()

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
