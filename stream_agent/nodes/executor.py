"""An executor that hands a message over as soon as it has arrived."""

from __future__ import annotations

from collections.abc import Callable
import math
import time

from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.subscription import Subscription
from rclpy.waitable import NumberOfEntities

KINDS = ('subscription', 'guard_condition', 'timer', 'client', 'service')


class PromptExecutor(SingleThreadedExecutor):
    """
    Waits with one wait set as long as the entities of its nodes stay the same.

    rclpy's own executor lists all entities and makes a wait set anew around every message, which
    takes a third of the time from an image to its command. Messages are handed over from here;
    timers, services and events are left to rclpy once one of them is ready. Callbacks of
    subscriptions are plain functions, and entities are created and destroyed in the thread that
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
        """Wait until something is ready, and handle the messages and one of the rest."""
        if self._changed:
            self._collect()
        due, work = self._later or (math.inf, None)
        left = max(0.0, due - time.monotonic())
        self._wait(min(math.inf if timeout_sec is None else timeout_sec, left))
        ready = {kind: self._wait_set.get_ready_entities(kind) for kind in KINDS}
        others = (any(waitable.is_ready(self._wait_set) for waitable in self._waitables)
                  or any(ready[kind] for kind in KINDS[1:]))
        for pointer in ready['subscription']:
            if not self._changed:
                hand_over(self._subscriptions[pointer])
        if others:
            super().spin_once(timeout_sec=0)
        elif work and not ready['subscription'] and time.monotonic() >= due:
            self._later = None
            work()

    def _collect(self) -> None:
        """List the entities of all nodes, and make a wait set for as many."""
        self._changed = False
        nodes = self.get_nodes()
        self._waitables = [one for node in nodes for one in node.waitables]
        subscriptions = [one for node in nodes for one in node.subscriptions]
        self._subscriptions = {one.handle.pointer: one for one in subscriptions}
        self._handles = {
            'subscription': [one.handle for one in subscriptions],
            'guard_condition': [self._guard.handle, *(
                one.handle for node in nodes for one in node.guards)],
            'timer': [one.handle for node in nodes for one in node.timers],
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
