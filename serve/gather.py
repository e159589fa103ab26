"""Requests that arrive together are scored together: code and data of a stage stay in the caches from one prompt to the next.

Nobody waits for company: whatever has arrived by the time the event loop comes round is one batch, be it of one.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Gather(Generic[Item, Result]):
    """``work`` takes up to ``limit`` items and returns a result for each, in order; an exception among the results is raised to
    the one that handed in the item. To be used from one event loop.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result | Exception]], limit: int = 32) -> None:
        self.work, self.limit = work, limit
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []

    async def __call__(self, item: Item) -> Result:
        """The result of ``item``."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._run)
        return await future

    def _run(self) -> None:
        batch, self._waiting = self._waiting[: self.limit], self._waiting[self.limit :]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._run)
        try:
            results: Sequence[Result | Exception] = list(self.work([item for item, _ in batch]))
            if len(results) != len(batch):
                raise RuntimeError(f"{len(batch)} items, {len(results)} results")  # noqa: TRY301 - raised to all that wait
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue  # whoever waited has gone
            if isinstance(result, StopIteration):  # which a future refuses
                future.set_exception(RuntimeError("StopIteration"))
            elif isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
