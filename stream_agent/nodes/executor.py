"""An executor that hands a message over as soon as it has arrived."""

from __future__ import annotations

from collections.abc import Callable
import math
import time

from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from rclpy.waitable import NumberOfEntities

KINDS = ('subscription', 'guard_condition', 'timer', 'client', 'service')
LEFT_TO_RCLPY = ('guard_condition', 'client', 'service')


class PromptExecutor(SingleThreadedExecutor):
    """
    Waits with one wait set as long as the entities of its nodes stay the same.

    rclpy's own executor lists all entities and makes a wait set anew around every message, which
    takes a third of the time from an image to its command. Messages and timers are served here;
    services and events are left to rclpy once one of them is ready. Callbacks of subscriptions
    and timers are plain functions, and entities are created and destroyed in the thread that
    spins. Unlike rclpy's experimental events executor it holds nothing that the middleware calls
    back, so entities may be destroyed at any time.
    """

    def __init__(self, **kwargs) -> None:
        self._changed = True
        self._later: tuple[float, Callable[[], object]] | None = None
        super().__init__(**kwargs)

    def call_at(self, due: float, work: Callable[[], object]) -> None:
        """
        Do something at a time at which nothing else is to be done, or never.

        :param due: By ``time.monotonic``; it replaces what was to be done later before.
        """
        self._later = due, work

    def wake(self) -> None:
        """Note that entities were created or destroyed, which rclpy says this way alone."""
        self._changed = True
        super().wake()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait until something is ready; serve messages and timers, and one of the rest."""
        if self._changed:
            self._collect()
        due, work = self._later or (math.inf, None)
        left = max(0.0, due - time.monotonic())
        self._wait(min(math.inf if timeout_sec is None else timeout_sec, left))
        ready = {kind: self._wait_set.get_ready_entities(kind) for kind in KINDS}
        others = (any(waitable.is_ready(self._wait_set) for waitable in self._waitables)
                  or any(ready[kind] for kind in LEFT_TO_RCLPY))
        for serve, pointers, served in (
                (hand_over, ready['subscription'], self._subscriptions),
                (fire, ready['timer'], self._timers)):
            for pointer in pointers:
                # What a callback has destroyed is not to be touched.
                if not self._changed:
                    serve(served[pointer])
        if others:
            super().spin_once(timeout_sec=0)
        elif work and not ready['subscription'] and not ready['timer'] and time.monotonic() >= due:
            self._later = None
            work()

    def _collect(self) -> None:
        """List the entities of all nodes, and make a wait set for as many."""
        self._changed = False
        nodes = self.get_nodes()
        self._waitables = [one for node in nodes for one in node.waitables]
        subscriptions = [one for node in nodes for one in node.subscriptions]
        timers = [one for node in nodes for one in node.timers]
        self._subscriptions = {one.handle.pointer: one for one in subscriptions}
        self._timers = {one.handle.pointer: one for one in timers}
        self._handles = {
            'subscription': [one.handle for one in subscriptions],
            'guard_condition': [self._guard.handle, *(
                one.handle for node in nodes for one in node.guards)],
            'timer': [one.handle for one in timers],
            'client': [one.handle for node in nodes for one in node.clients],
            'service': [one.handle for node in nodes for one in node.services]}
        count = sum((one.get_num_entities() for one in self._waitables), NumberOfEntities(
            *(len(self._handles[kind]) for kind in KINDS)))
        self._wait_set = rclpy_implementation.WaitSet(
            count.num_subscriptions, count.num_guard_conditions, count.num_timers,
            count.num_clients, count.num_services, count.num_events, self._context.handle)

    def _wait(self, seconds: float) -> None:
        """Wait until an entity is ready, for so long at most."""
        wait_set = self._wait_set
        wait_set.clear_entities()
        for kind, handles in self._handles.items():
            add = getattr(wait_set, f'add_{kind}')
            for handle in handles:
                add(handle)
        for waitable in self._waitables:
            waitable.add_to_wait_set(wait_set)
        wait_set.wait(-1 if seconds == math.inf else int(seconds * 1e9))


def hand_over(subscription: Subscription) -> None:
    """Call a subscription back with the message that has arrived, if it is still there."""
    with subscription.handle:
        taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    if taken is not None:
        with_info = subscription._callback_type is not Subscription.CallbackType.MessageOnly
        subscription.callback(*taken if with_info else taken[:1])


def fire(timer: Timer) -> None:
    """Call a timer back, if it is still due."""
    with timer.handle:
        if not timer.handle.is_timer_ready():
            return
        # rclpy 9 has the first only.
        (getattr(timer.handle, 'call_timer_with_info', None) or timer.handle.call_timer)()
    timer.callback()
