"""The fault state machine: every transition as a table, and every short history."""

from itertools import product

import pytest
from stream_agent.gate.faults import Fault, Faults

EVENTS = {'i': Faults.note_invalid, 'u': Faults.note_unusable, 'g': Faults.note_good,
          'r': Faults.reset, 'c': Faults.note_contested}
NINE = 'g' * 9


def after(history: str) -> Fault:
    """Return the state after events: invalid, unusable, good, reset."""
    faults = Faults()
    for event in history:
        EVENTS[event](faults)
    return faults.state


@pytest.mark.parametrize('history, event, state', [
    # no fault
    ('', 'g', Fault.NONE), ('', 'u', Fault.NONE), ('', 'r', Fault.NONE),
    ('', 'i', Fault.TRANSIENT),
    # transient, one invalid
    ('i', 'i', Fault.TRANSIENT), ('i', 'u', Fault.TRANSIENT), ('i', 'g', Fault.TRANSIENT),
    ('i', 'r', Fault.NONE),
    # transient, two invalid: a third latches, unless a good one came between
    ('ii', 'i', Fault.LATCHED), ('iiu', 'i', Fault.LATCHED), ('iuiu', 'i', Fault.LATCHED),
    ('iig', 'i', Fault.TRANSIENT), ('iigi', 'i', Fault.TRANSIENT), ('iigii', 'i', Fault.LATCHED),
    ('iir', 'i', Fault.TRANSIENT), ('iiri', 'i', Fault.TRANSIENT),
    # transient, nine good: the tenth clears, unless the row was broken
    ('i' + NINE, 'g', Fault.NONE), ('ii' + NINE, 'g', Fault.NONE),
    ('i' + NINE, 'u', Fault.TRANSIENT), ('i' + NINE + 'u', 'g', Fault.TRANSIENT),
    ('i' + NINE + 'u' + NINE, 'g', Fault.NONE),
    ('i' + NINE, 'i', Fault.TRANSIENT), ('i' + NINE + 'i', 'g', Fault.TRANSIENT),
    ('i' + NINE + 'i' + NINE, 'g', Fault.NONE), ('i' + NINE, 'r', Fault.NONE),
    # good ones before the fault do not count
    (NINE + 'i', 'g', Fault.TRANSIENT),
    # latched: only a reset ends it, and it starts the counts afresh
    ('iii', 'i', Fault.LATCHED), ('iii', 'u', Fault.LATCHED), ('iii', 'g', Fault.LATCHED),
    ('iii' + 'g' * 100, 'g', Fault.LATCHED), ('iii', 'r', Fault.NONE),
    ('iiir', 'g', Fault.NONE), ('iiir', 'i', Fault.TRANSIENT), ('iiiri', 'i', Fault.TRANSIENT),
    ('iiirii', 'i', Fault.LATCHED), ('iiiir', 'u', Fault.NONE),
    # contested: as latched, and the first reason stays
    ('', 'c', Fault.CONTESTED), ('i', 'c', Fault.CONTESTED), ('iii', 'c', Fault.LATCHED),
    ('c', 'c', Fault.CONTESTED), ('c', 'u', Fault.CONTESTED), ('cii', 'i', Fault.CONTESTED),
    ('c' + 'g' * 100, 'g', Fault.CONTESTED), ('c', 'r', Fault.NONE), ('cr', 'g', Fault.NONE),
    ('cr', 'i', Fault.TRANSIENT), ('iir', 'c', Fault.CONTESTED), ('ciir', 'i', Fault.TRANSIENT),
])
def test_transition(history, event, state):
    assert after(history + event) is state


def expected(history: str) -> Fault:
    """State the rules once more, for histories too short to clear a transient fault."""
    since = history.rpartition('r')[2]
    if 'i' not in since:
        return Fault.NONE
    # A latch needs three invalid ones with no good one between.
    if any(run.count('i') >= 3 for run in since.split('g')):
        return Fault.LATCHED
    return Fault.TRANSIENT


def test_every_short_history():
    for length in range(8):
        for events in product('iugr', repeat=length):
            assert after(''.join(events)) is expected(''.join(events)), events


@pytest.mark.parametrize('fault', Fault)
def test_only_two_of_them_need_a_reset(fault):
    assert fault.needs_reset is (fault in (Fault.LATCHED, Fault.CONTESTED))
