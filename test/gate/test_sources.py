"""From how many publishers messages come, by their numbers: interleaved, lost, restarted."""

import random

from hypothesis import given, settings as hypothesis_settings, strategies
import pytest
from stream_agent.gate.sources import Sources

MEMORY = 0.25


def heard(*numbers, every=0.01):
    """Return what is counted at each number, one message every few seconds."""
    sources = Sources()
    return [sources.hear(number, i * every, MEMORY) for i, number in enumerate(numbers)]


@pytest.mark.parametrize('numbers, counts', [
    ([1, 2, 3, 4], [1, 1, 1, 1]),
    ([7, 9, 1000, 1001], [1, 1, 1, 1]),         # messages are lost
    ([1, 1], [1, 2]),                           # both have just started
    ([1, 1, 2, 2, 3, 3], [1, 2, 2, 2, 2, 2]),
    ([5, 100, 6, 101, 7], [1, 1, 2, 2, 2]),     # one may be taken for losses, the next may not
    ([100, 5, 101, 6], [1, 2, 2, 2]),
    ([100, 5, 5], [1, 2, 3]),
    ([5, 100, 5, 6, 101, 7], [1, 1, 2, 2, 2, 2]),
    ([0, 0], [1, 2]),
    ([None, None, None], [1, 1, 1])])
def test_numbers_that_do_not_grow_are_somebody_else_s(numbers, counts):
    assert heard(*numbers) == counts


@pytest.mark.parametrize('wait, count', [(0.2, 2), (0.25, 2), (0.2501, 1), (9.0, 1)])
def test_who_was_silent_for_longer_than_the_memory_does_not_count(wait, count):
    sources = Sources()
    sources.hear(1000, 4.0, MEMORY)
    assert sources.hear(1, 4.0 + wait, MEMORY) == count
    assert sources.count(4.0 + wait, MEMORY) == count
    assert sources.count(4.0 + wait + MEMORY, MEMORY) == 1
    assert sources.count(4.1 + wait + MEMORY, MEMORY) == 0


def test_a_message_is_taken_for_that_of_the_publisher_who_lost_least():
    sources = Sources()
    for number, at in ((500, 0.0), (10, 0.1), (501, 0.2)):
        sources.hear(number, at, MEMORY)
    # The one with the low numbers has been silent since 0.1.
    assert sources.count(0.3, MEMORY) == 2
    assert sources.count(0.36, MEMORY) == 1


def test_who_leaves_is_followed_by_another_without_being_two():
    sources = Sources()
    assert sources.hear(40, 1.0, MEMORY) == 1
    sources.leave(41, 1.01, MEMORY)
    assert sources.count(1.01, MEMORY) == 0
    assert sources.hear(1, 1.02, MEMORY) == 1


def test_who_leaves_takes_nobody_else_away():
    sources = Sources()
    sources.hear(40, 1.0, MEMORY)
    sources.hear(3, 1.0, MEMORY)
    sources.leave(4, 1.01, MEMORY)
    assert sources.hear(41, 1.02, MEMORY) == 1
    sources.leave(2, 1.03, MEMORY)
    assert sources.count(1.03, MEMORY) == 1


def test_without_numbers_who_leaves_leaves():
    sources = Sources()
    sources.hear(None, 1.0, MEMORY)
    sources.leave(None, 1.1, MEMORY)
    assert sources.count(1.1, MEMORY) == 0


def test_a_number_after_messages_without_one_is_no_other_publisher():
    assert heard(None, 0, 1) == [1, 1, 1]


@hypothesis_settings(max_examples=200, deadline=None)
@given(strategies.integers(1, 10**6), strategies.integers(0, 10**6), strategies.integers(0, 30),
       strategies.randoms(use_true_random=False))
def test_two_publishers_are_found_within_two_messages_of_each(first, second, alone, chance):
    """Whatever their numbers are, and in whatever order they send, losing one in five."""
    sources, now, numbers = Sources(), 0.0, {'a': first, 'b': second}
    for _ in range(alone):
        now, numbers['a'] = now + 1 / 30, numbers['a'] + 1
        assert sources.hear(numbers['a'], now, MEMORY) == 1
    for i in range(3):
        for name in chance.sample(['a', 'b'], 2):
            now, numbers[name] = now + 1 / 60, numbers[name] + 1 + (chance.random() < 0.2)
            count = sources.hear(numbers[name], now, MEMORY)
    assert count >= 2 or abs(numbers['a'] - numbers['b']) <= 3


def test_one_publisher_is_one_whatever_is_lost():
    random.seed(3)
    sources, now, number = Sources(), 0.0, 0
    for _ in range(2000):
        now += random.choice([0.001, 1 / 30, 0.2, 0.5])
        number += random.choice([1, 1, 1, 2, 50])
        assert sources.hear(number, now, MEMORY) == 1
