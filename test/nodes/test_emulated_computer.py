"""The emulated computer by a clock of the test: what it takes, answers and drops, and when."""

from collections import Counter
from itertools import islice
from types import SimpleNamespace

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from stream_agent.command import Command
from stream_agent.driving.compute_model import ComputeModel, EmulatedTiming, Timeline, Work
from stream_agent.nodes import emulation
from stream_agent.nodes.emulation import EmulatedComputer, ImageClock, NS

PERIOD = 0.02
START_NS = 1_700_000_000 * NS


class Bench:
    """An agent around an emulated computer, with a clock that tells what the test wants."""

    def __init__(self, monkeypatch, *work, response_frames=0):
        self.now, self.waiting, self.done = 0.0, None, []
        self.dropped, self.errors, self.left_out = Counter(), [], response_frames
        monkeypatch.setattr(emulation, 'time', SimpleNamespace(
            monotonic=lambda: self.now, sleep=lambda seconds: self.pass_by(seconds)))
        self.timeline = Timeline(tuple(Work(*one) for one in work), PERIOD)
        agent = SimpleNamespace(
            is_active=True, updates=1, executor=SimpleNamespace(call_at=self.call_at),
            get_clock=lambda: SimpleNamespace(now=lambda: self),
            timed=lambda stage, step, *given: step(*given),
            take=lambda data, number: (number, number, 0.0, np.zeros(1)),
            first_answer=self.first_answer, engine=SimpleNamespace(
                respond=lambda number: self.did('respond', number),
                settle=lambda: self.did('settle')),
            publish_command=lambda output, stamp_ns: self.did('publish', stamp_ns),
            policy=SimpleNamespace(limits=SimpleNamespace(command=lambda _: Command(1.0, 0.0))),
            camera=SimpleNamespace(see=lambda *_: None), contain=self.contain,
            inputs=SimpleNamespace(alone=True), output=SimpleNamespace(moves=lambda _: True),
            frame_filter=SimpleNamespace(dropped=self.dropped))
        self.agent = agent
        self.computer = EmulatedComputer(
            agent, ComputeModel(), EmulatedTiming('', self.timeline, None))

    @property
    def nanoseconds(self):
        """Return what ROS's clock would."""
        return START_NS + round(self.now * NS)

    def first_answer(self):
        self.left_out -= 1
        return self.left_out >= 0

    def pass_by(self, seconds):
        # A moment passes even for who does not sleep.
        self.now += max(seconds, 5e-6)

    def call_at(self, due, work):
        self.waiting = due, work

    def did(self, what, number=None):
        self.done.append((what, number, self.now))

    def contain(self, error, stamp_ns):
        self.errors.append(error)
        self.computer.reset()

    def run_until(self, seconds):
        """Let time pass, and wake up whoever asked for it."""
        while self.waiting and self.waiting[0] <= seconds:
            (due, work), self.waiting = self.waiting, None
            self.now = max(self.now, due)
            work()
        self.now = max(self.now, seconds)

    def show(self, *images):
        """Show images, each (stamp [s], arrival [s])."""
        for stamp, arrival in images:
            self.run_until(arrival)
            self.computer.on_image(bytes(16), {
                'publication_sequence_number': START_NS + round(stamp * NS)})
        self.run_until(self.now + 100.0)

    def answers(self):
        """Return image and time [s] of all answers."""
        return [(round((number - START_NS) / NS / PERIOD), at)
                for what, number, at in self.done if what == 'publish']


def regular(count, delay=0.0):
    return [(i * PERIOD, i * PERIOD + delay) for i in range(count)]


def expected(timeline, count):
    """Return image and answer's time of all images that a timeline takes of so many."""
    taken = [(one.image, one.answer) for one in islice(timeline, count)]
    return [one for one in taken if one[0] < count]


SECONDS = st.floats(0.0, 8.0).map(lambda periods: round(periods, 1) * PERIOD)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=5))
def test_images_are_taken_and_answered_as_in_lockstep(durations):
    # Whoever answers works until then.
    work = [(response, max(response, busy)) for response, busy in durations]
    with pytest.MonkeyPatch.context() as monkeypatch:
        bench = Bench(monkeypatch, *work)
        bench.show(*regular(60))
        wanted = [one for one in expected(bench.timeline, 60) if one[0] < 50]
        got = bench.answers()[:len(wanted)]
    assert not bench.errors
    assert [image for image, _ in got] == [image for image, _ in wanted]
    assert [at for _, at in got] == pytest.approx([at for _, at in wanted], abs=2e-5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-0.02, 0.02), st.floats(0.0, 0.4)), min_size=60, max_size=60),
       st.sampled_from([6.4, 3.2, 2.5, 1.0]))
def test_neither_late_arrivals_nor_stamps_that_are_off_change_what_is_taken(parts, periods):
    images = [((i + off) * PERIOD, (i + off + delay) * PERIOD)
              for i, (off, delay) in enumerate(parts)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        bench = Bench(monkeypatch, (periods * PERIOD, periods * PERIOD))
        bench.show(*images)
    first = images[0][0]
    wanted = [one for one in expected(bench.timeline, 60) if one[0] < 50]
    got = bench.answers()[:len(wanted)]
    assert [image for image, _ in got] == [image for image, _ in wanted]
    # The median of the stamps is off by less than any of them.
    assert [at - first for _, at in got] == pytest.approx(
        [at for _, at in wanted], abs=0.04 * PERIOD + 1e-6)


def test_one_stamp_that_is_off_moves_no_answer(monkeypatch):
    bench = Bench(monkeypatch, (2.5 * PERIOD, 2.5 * PERIOD))
    images = regular(40)
    images[20] = (20.7 * PERIOD, 20.7 * PERIOD)
    bench.show(*images)
    wanted = expected(bench.timeline, 40)
    assert 20 in [image for image, _ in wanted]
    assert [at for _, at in bench.answers()][:14] == pytest.approx(
        [at for _, at in wanted][:14], abs=2e-5)


def test_a_camera_that_is_a_thousandth_slow_is_followed(monkeypatch):
    bench = Bench(monkeypatch, (2.4 * PERIOD, 2.4 * PERIOD))
    slow = 1.001 * PERIOD
    bench.show(*((i * slow, i * slow) for i in range(3000)))
    ages = [at - image * slow for image, at in
            ((round((number - START_NS) / NS / slow), at)
             for what, number, at in bench.done if what == 'publish')]
    assert len(ages) > 1200
    assert max(ages[100:]) < 3.4 * PERIOD + 8e-3 * PERIOD
    assert min(ages[100:]) > 2.4 * PERIOD - 8e-3 * PERIOD


def test_an_image_that_is_lost_is_waited_for_and_replaced_by_the_one_before(monkeypatch):
    # At 6 periods, when the computer is free, image 6 is due.
    bench = Bench(monkeypatch, (3 * PERIOD, 6 * PERIOD))
    bench.show(*[one for i, one in enumerate(regular(14)) if i != 6])
    # The last one is waited for in vain as well, since the camera ends.
    assert [image for image, _ in bench.answers()] == [0, 5, 12, 13]
    responded = [at for what, _, at in bench.done if what == 'respond']
    assert responded[1] == pytest.approx(6.5 * PERIOD, abs=2e-5)
    assert [at for _, at in bench.answers()] == pytest.approx(
        [i * PERIOD for i in (3, 9, 15, 21)], abs=2e-5)


def test_dropped_images_are_counted_as_the_computers(monkeypatch):
    bench = Bench(monkeypatch, (4 * PERIOD, 4 * PERIOD))
    bench.show(*regular(13))
    assert [image for image, _ in bench.answers()] == [0, 4, 8, 12]
    assert bench.dropped == {'by the emulated computer': 9}


def test_an_answer_is_settled_after_it_is_out_and_before_the_next_image(monkeypatch):
    bench = Bench(monkeypatch, (2 * PERIOD, 3 * PERIOD), response_frames=1)
    bench.show(*regular(7))
    stamps = [START_NS + round(i * PERIOD * NS) for i in (0, 3, 6)]
    assert [one[:2] for one in bench.done] == [
        ('respond', stamps[0]), ('settle', None), ('respond', stamps[1]), ('publish', stamps[1]),
        ('settle', None), ('respond', stamps[2]), ('publish', stamps[2]), ('settle', None)]
    times = [at for *_, at in bench.done]
    assert times == pytest.approx([PERIOD * i for i in (0, 2, 3, 5, 5, 6, 8, 8)], abs=2e-5)


def test_a_reset_forgets_what_is_computed_and_what_waits(monkeypatch):
    bench = Bench(monkeypatch, (5 * PERIOD, 5 * PERIOD))
    for stamp, arrival in regular(3):
        bench.run_until(arrival)
        bench.computer.on_image(bytes(16), {
            'publication_sequence_number': START_NS + round(stamp * NS)})
    bench.computer.reset()
    bench.run_until(bench.now + 10.0)
    assert bench.answers() == []


def test_no_answer_leaves_an_agent_that_was_deactivated(monkeypatch):
    bench = Bench(monkeypatch, (5 * PERIOD, 5 * PERIOD))
    bench.computer.on_image(bytes(16), {'publication_sequence_number': START_NS})
    bench.agent.is_active = False
    bench.run_until(10.0)
    assert [what for what, *_ in bench.done] == ['respond']


def test_a_step_that_fails_is_contained_whenever_it_fails(monkeypatch):
    bench = Bench(monkeypatch, (PERIOD, PERIOD))
    fault = RuntimeError('no memory')

    def fail():
        raise fault
    bench.agent.engine.settle = fail
    bench.show(*regular(2))
    assert bench.errors == [fault, fault]


def test_without_an_executor_that_wakes_up_in_time_the_reason_is_said(monkeypatch):
    bench = Bench(monkeypatch, (PERIOD, PERIOD))
    bench.agent.executor = None
    bench.show(*regular(1))
    assert 'start the agent by `ros2 run stream_agent agent`' in str(bench.errors[0])


def test_images_are_numbered_across_those_that_are_lost():
    clock = ImageClock(PERIOD)
    assert [clock.number(START_NS + round(i * PERIOD * NS))
            for i in (0, 1, 2.7, 3, 5, 5.9, 40)] == [0, 1, 2, 3, 5, 6, 40]
    assert clock.seconds(START_NS + NS) == pytest.approx(1.0, abs=0.01 * PERIOD)
