"""Gather: what arrives together is worked on together, and everybody gets what is theirs."""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.gather import Gather

Numbers = Gather[int, int]


class Doubling:
    """Doubles numbers and remembers in which batches they came; negative ones are errors, and a batch with a zero fails."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        """Twice each number."""
        self.batches.append(list(items))
        if 0 in items:
            raise ZeroDivisionError(str(items))
        return [2 * item if item > 0 else ValueError(item) for item in items]


@pytest.fixture(name="doubling")
def _doubling() -> Doubling:
    """Work that has done nothing yet."""
    return Doubling()


def together(gather: Numbers, items: Sequence[int]) -> list[int | BaseException]:
    """What callers get who arrive in the same round of the event loop, errors included."""

    async def ask() -> list[int | BaseException]:
        return await asyncio.gather(*map(gather, items), return_exceptions=True)

    return asyncio.run(ask())


def told(answers: Sequence[int | BaseException]) -> list[int | tuple[str, str]]:
    """Answers that can be compared."""
    return [(type(answer).__name__, str(answer)) if isinstance(answer, BaseException) else answer for answer in answers]


def complaints_of(scenario: Callable[[], Coroutine[Any, Any, None]]) -> list[dict[str, Any]]:
    """What the event loop has to complain about while ``scenario`` runs, and once nobody remembers its futures."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await scenario()
        gc.collect()

    asyncio.run(watched())
    return complaints


async def waiting(*callers: Coroutine[Any, Any, int]) -> list[asyncio.Task[int]]:
    """Callers that have arrived and that nothing was done for yet."""
    tasks = [asyncio.create_task(caller) for caller in callers]
    await asyncio.sleep(0)
    return tasks


# batches


def test_what_arrives_together_is_worked_on_together(doubling: Doubling) -> None:
    """In one call, in the order of arrival."""
    assert together(Gather(doubling), [3, 1, 2]) == [6, 2, 4]
    assert doubling.batches == [[3, 1, 2]]


def test_whoever_comes_alone_is_a_batch_of_one(doubling: Doubling) -> None:
    """Callers that come one after another never share a batch."""
    gather = Gather(doubling)

    async def ask() -> list[int]:
        return [await gather(1), await gather(2)]

    assert asyncio.run(ask()) == [2, 4]
    assert doubling.batches == [[1], [2]]


def test_nobody_waits_for_company(doubling: Doubling) -> None:
    """The work begins in the next round of the event loop, however few have arrived."""

    async def ask() -> None:
        (task,) = await waiting(Gather(doubling)(1))
        assert doubling.batches == []
        await asyncio.sleep(0)
        assert doubling.batches == [[1]]
        await task

    asyncio.run(ask())


def test_the_limit_splits_what_arrives_together(doubling: Doubling) -> None:
    """Into full batches and a rest."""
    assert together(Gather(doubling, limit=2), [1, 2, 3, 4, 5]) == [2, 4, 6, 8, 10]
    assert doubling.batches == [[1, 2], [3, 4], [5]]


def test_whoever_arrives_between_two_batches_joins_the_rest(doubling: Doubling) -> None:
    """Behind those who were there before."""
    gather = Gather(doubling, limit=2)

    async def ask() -> list[int]:
        first = await waiting(gather(1), gather(2), gather(3))
        late = asyncio.create_task(gather(4))
        return await asyncio.gather(*first, late)

    assert asyncio.run(ask()) == [2, 4, 6, 8]
    assert doubling.batches == [[1, 2], [3, 4]]


@settings(deadline=None, max_examples=100)
@given(items=st.lists(st.integers(-3, 9).filter(bool), max_size=20), limit=st.integers(1, 7))
def test_everybody_gets_what_is_theirs(items: list[int], limit: int) -> None:
    """Results and errors go to those whose items they are of, whatever the limit."""
    doubling = Doubling()
    answers = together(Gather(doubling, limit), items)
    assert told(answers) == [2 * item if item > 0 else ("ValueError", str(item)) for item in items]
    assert doubling.batches == [items[start : start + limit] for start in range(0, len(items), limit)]


# errors


def test_an_error_among_the_results_is_raised_to_its_own_caller(doubling: Doubling) -> None:
    """The same error that the work returned; its neighbours get their results."""
    assert told(together(Gather(doubling), [1, -7, 2])) == [2, ("ValueError", "-7"), 4]


def test_work_that_fails_fails_for_all_of_its_batch_and_no_other(doubling: Doubling) -> None:
    """Nobody is left waiting, and the next batch is worked on as if nothing had been."""
    failed = ("ZeroDivisionError", "[0, 2]")
    assert told(together(Gather(doubling, limit=2), [0, 2, 3, 4])) == [failed, failed, 6, 8]


def test_after_work_that_failed_the_next_caller_is_served(doubling: Doubling) -> None:
    """A later one, that is, of the same server."""
    gather = Gather(doubling)

    async def ask() -> int:
        with pytest.raises(ZeroDivisionError):
            await gather(0)
        return await gather(1)

    assert asyncio.run(ask()) == 2


@pytest.mark.parametrize("kept", [0, 1, 2, 4])
def test_work_without_a_result_for_each_fails_for_all(kept: int) -> None:
    """Whose a result is cannot be told then, and nobody is left waiting; too many are no better than too few."""
    answers = told(together(Gather(lambda items: [*items, 9][:kept]), [1, 2, 3]))
    assert answers == [("RuntimeError", f"3 items, {kept} results")] * 3


def raising(_items: Sequence[int]) -> list[int | Exception]:
    """Work that stops as an iterator does."""
    raise StopIteration


@pytest.mark.parametrize("work", [raising, lambda items: [StopIteration() for _ in items]], ids=["raised", "among the results"])
def test_an_iterator_that_ran_out_reaches_the_caller_under_another_name(work: Callable[[Sequence[int]], list[int | Exception]]) -> None:
    """No future takes its own, and who waits must not wait for ever."""
    assert told(together(Gather(work), [1, 2])) == [("RuntimeError", "StopIteration")] * 2


# callers that leave


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_caller_that_leaves_harms_nobody(doubling: Doubling, place: int) -> None:
    """Those who arrived with it get their results, whoever it was."""

    async def leave() -> None:
        gather = Gather(doubling)
        tasks = await waiting(gather(1), gather(2), gather(3))
        tasks[place].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers.pop(place), asyncio.CancelledError)
        assert answers == [2 * item for item in (1, 2, 3) if item != place + 1]

    assert complaints_of(leave) == []


@pytest.mark.parametrize("item", [-1, 0, 1], ids=["an error", "work that fails", "a result"])
def test_what_a_caller_that_left_would_have_got_bothers_nobody(doubling: Doubling, item: int) -> None:
    """The event loop hears of no error that nobody took, nor of a result that nobody wants."""

    async def leave() -> None:
        (task,) = await waiting(Gather(doubling)(item))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    assert complaints_of(leave) == []
    assert doubling.batches == [[item]]


def test_after_everybody_has_left_the_next_caller_is_served(doubling: Doubling) -> None:
    """A batch of the departed holds up nothing."""
    gather = Gather(doubling, limit=2)

    async def leave() -> None:
        for task in await waiting(gather(1), gather(2), gather(3)):
            task.cancel()
        assert await gather(4) == 8

    assert complaints_of(leave) == []
