"""The accurate path's threads: bounded, and closed to whoever would not be answered in time.

Nothing waits here for longer than its own deadline allows: a request that would keeps the fast path's answer, and says why.
"""

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from classifier import Prompt, Router, Scores, from_text
from classifier.types import PathReason

_SHORT, _LONG = 40, 900  # characters of the probes by which a machine's pace is measured
_WORDS = "the points at the junction were set for the wrong track because "
SPARE = 1.5
"""Times the expected time that a deadline must leave: about as much longer does one run in a hundred take on shared cores."""
_NICE = 10
_LEARNED = 0.1  # of the newest run, in the running mean of how much slower than the probes runs are
_FORGOTTEN = 0.98  # of the slowness, with each refusal: a lane that refuses everyone would never learn that the crowd has gone


class Lane:
    """Runs ``router.score_accurate`` on ``threads`` threads. To be used from one event loop."""

    def __init__(self, router: Router, threads: int) -> None:
        assert router.accurate is not None
        self.router, self.threads, self._length = router, threads, router.accurate.encoder.length
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="accurate", initializer=_step_back)
        self._slowness = 1.0  # of runs against the probes
        self._promised = 0.0  # milliseconds of work that was let in and is not done
        (few, short), (many, long) = self._probe(_SHORT), self._probe(_LONG)
        self._by_token = max(0.0, long - short) / (many - few)
        self._fixed = max(0.0, short - self._by_token * few)

    def estimate_ms(self, prompt: Prompt) -> float:
        """How long the accurate path would take now, with a thread to itself."""
        return (self._fixed + self._by_token * self._length(prompt.text)) * self._slowness

    async def score(self, prompt: Prompt, scores: Scores, left_ms: float) -> Scores:
        """What the accurate path says, if it can within ``left_ms``, else the fast path's ``scores`` and why."""
        own = self.estimate_ms(prompt)
        refusal: PathReason | None = None
        if SPARE * own > left_ms:
            refusal = "deadline"
        elif SPARE * (own + self._promised / self.threads) > left_ms:
            refusal = "load"
        if refusal is not None:
            self._slowness = min(self._slowness, max(1.0, self._slowness * _FORGOTTEN))
            return replace(scores, path_reason=refusal, target_path="fast")
        expected = own / self._slowness  # before others that run meanwhile change it
        self._promised += own
        try:
            found, spent = await asyncio.get_running_loop().run_in_executor(self._pool, self._timed, prompt, scores)
        finally:
            self._promised -= own
        if expected > 0:
            self._slowness += _LEARNED * (spent / expected - self._slowness)
        return found

    def _timed(self, prompt: Prompt, scores: Scores) -> tuple[Scores, float]:
        start = time.perf_counter()
        found = self.router.score_accurate(prompt, scores)
        return found, (time.perf_counter() - start) * 1e3

    def _probe(self, chars: int) -> tuple[int, float]:
        """(tokens, milliseconds) of the accurate path on a text of ``chars`` characters: the best of five runs."""
        prompt = from_text((_WORDS * (chars // len(_WORDS) + 1))[:chars])
        (fast,) = self.router.score_fast([prompt])
        return self._length(prompt.text), min(self._timed(prompt, fast)[1] for _ in range(5))


def _step_back() -> None:
    """Let this thread run behind the event loop, which everybody waits for, where both want the same core."""
    with suppress(OSError, AttributeError):  # where threads have no priority of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
