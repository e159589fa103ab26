"""Clocks and order statistics."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least ``share`` (0..1) of all do not exceed.

    >>> percentile([5.0, 1.0, 3.0, 2.0], 0.5)
    2.0
    """
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def seconds_each(call: Callable[[str], object], prompts: Iterable[str]) -> list[float]:
    """Seconds of each call, in order."""
    clock = time.perf_counter
    result: list[float] = []
    for prompt in prompts:
        start = clock()
        call(prompt)
        result.append(clock() - start)
    return result


def there_and_back(items: Sequence[Item], rounds: int) -> Iterator[Sequence[Item]]:
    """The items once a round, in turn forwards and backwards, so that none always runs behind the same other."""
    return (items if number % 2 == 0 else items[::-1] for number in range(rounds))
