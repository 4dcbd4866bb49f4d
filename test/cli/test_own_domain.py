"""A domain of its own for each run on a machine, and runs that know of each other."""

import os
import socket

import pytest
from stream_agent.cli import own_domain
from stream_agent.cli.own_domain import (
    DOMAINS, keep_to_itself, occupied_domains, RunMark, take_domain)


@pytest.fixture
def mark(monkeypatch):
    """Mark runs that end with the test, and that real ones do not meet."""
    monkeypatch.setattr(own_domain, 'ADDRESS', f'\0stream_agent/test/{os.getpid()}/')
    marks = []

    def make(name):
        marks.append(RunMark(name))
        return marks[-1]

    yield make
    for one in marks:
        one.close()


def test_no_two_runs_take_the_same_domain(monkeypatch):
    monkeypatch.setattr(own_domain, 'DOMAINS', range(90, 93))
    monkeypatch.setattr(own_domain, 'occupied_domains', lambda: {91})
    taken = [take_domain() for _ in range(2)]
    assert {domain for domain, _ in taken} == {90, 92}
    with pytest.raises(OSError, match='choose one by --domain'):
        take_domain()
    for _, one in taken:
        one.close()
    take_domain()[1].close()


def test_a_domain_in_which_a_process_has_a_port_is_occupied():
    free = next(domain for domain in DOMAINS if domain not in occupied_domains())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        # The first port by which a participant is addressed.
        participant.bind(('127.0.0.1', 7400 + 250 * free + 10))
        assert free in occupied_domains()
    assert free not in occupied_domains()


def test_all_ports_of_all_domains_are_below_those_that_linux_gives_to_anybody():
    assert 7400 + 250 * (max(DOMAINS) + 1) < 32768


def test_runs_learn_of_each_other(mark):
    first = mark('a')
    assert not first.met_others and not first.others()
    second = mark('b')
    assert second.met_others
    assert first.others()
    with pytest.raises(OSError):
        mark('a')


def test_a_run_that_is_over_is_met_by_nobody(mark):
    first, second = mark('a'), mark('b')
    first.close()
    second.close()
    assert not mark('c').met_others
    assert mark('a').met_others


def test_nobody_else_is_let_into_a_domain_of_its_own():
    environment = {
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET', 'ROS_LOCALHOST_ONLY': '0', 'HOME': '/home',
        'ROS_STATIC_PEERS': '192.0.2.7', 'ROS_DISCOVERY_SERVER': '192.0.2.7:11811'}
    keep_to_itself(environment, 57)
    assert environment == {'HOME': '/home', 'ROS_DOMAIN_ID': '57',
                           'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
