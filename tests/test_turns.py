"""Turns: nothing keeps a turn of the loop for itself, and whoever waits is served in order."""

import asyncio

from app.turns import MOST_AT_ONCE, MOST_BYTES, Turns


async def test_so_much_is_served_in_a_turn_and_the_rest_in_the_next_ones_in_order() -> None:
    turns, served = Turns(), list[int]()
    size = MOST_AT_ONCE // 10
    at_once = 0
    while turns.take(size):
        at_once += 1
    assert 9 <= at_once <= 11
    for number in range(25):
        turns.wait(size, lambda number=number: served.append(number))  # type: ignore[misc]
    by_turn = [len(served)]
    while len(served) < 25:
        await asyncio.sleep(0)
        by_turn.append(len(served))
    assert served == list(range(25))
    assert by_turn == [0, 10, 20, 25]


async def test_while_somebody_waits_nobody_overtakes() -> None:
    turns, served = Turns(), list[str]()
    while turns.take(MOST_AT_ONCE):
        pass
    turns.wait(1, lambda: served.append("first"))
    assert not turns.take(1)
    turns.wait(1, lambda: served.append("second"))
    await asyncio.sleep(0)
    assert served == ["first", "second"]
    assert turns.take(1)


async def test_many_small_ones_fill_a_turn_too() -> None:
    turns, count = Turns(), 0
    while turns.take(0):
        count += 1
    assert count <= MOST_AT_ONCE // 1024 + 1


async def test_what_would_be_too_much_to_keep_is_served_at_once() -> None:
    turns, served = Turns(), list[int]()
    while turns.take(MOST_AT_ONCE):
        pass
    turns.wait(MOST_BYTES, lambda: served.append(1))
    turns.wait(1, lambda: served.append(2))
    assert served == [2]
    await asyncio.sleep(0)
    assert served == [2, 1]
