"""For every test: versions in the header, and no skipped test where everything is installed."""

import os
from importlib import metadata

import pytest

SHOWN = ("numpy", "onnxruntime", "tokenizers", "scikit-learn", "fastapi", "pydantic")


def pytest_report_header() -> str:
    """What the tests ran with."""
    return "with " + ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that skipped tests where POINTSMAN_NO_SKIP says that nothing is missing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("POINTSMAN_NO_SKIP") and skipped:
        reporter.write_line(f"{len(skipped)} tests were skipped, none may be here", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
