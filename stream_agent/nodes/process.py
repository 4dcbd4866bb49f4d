"""One ROS node in a process of its own: start, spin, stop the robot, end."""

from collections.abc import Callable, Iterable
from contextlib import suppress
import ctypes
from dataclasses import Field
from difflib import get_close_matches
import math
import os
import re
import signal
import sys
import threading
import time
import traceback

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from rclpy.utilities import remove_ros_args
from rclpy.waitable import NumberOfEntities
from rosgraph_msgs.msg import Clock
from stream_agent.bounded_settings import range_of, settings_fields
from stream_agent.nodes import parameters
from stream_agent.share import check_parameter_files, ParameterFileError, share_folder

# Long enough to cost nothing, short enough to react to a signal well within 2 s.
WAKE_UP_PERIOD = 0.1
# A node that is told to end has this long to come back to its loop [s].
PATIENCE = 1.0
# A message of /clock takes 0.1 to 0.4 ms of a core; more of them a second are warned of.
FASTEST_CLOCK, CLOCKS_COUNTED = 300.0, 500
# The kinds of entities that an executor waits for, and those that are left to rclpy.
KINDS = ('subscription', 'guard_condition', 'timer', 'client', 'service')
LEFT_TO_RCLPY = ('guard_condition', 'client', 'service')


class PromptExecutor(SingleThreadedExecutor):
    """
    Waits with one wait set as long as the entities of its nodes stay the same.

    rclpy's own executor lists all entities and makes a new wait set around every message, which
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
        Do some work at a given time, or as soon afterwards as nothing else is ready.

        :param due: By ``time.monotonic``; a new call replaces the previous one.
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
        self._subscriptions: dict = {one.handle.pointer: one for one in subscriptions}
        self._timers: dict = {one.handle.pointer: one for one in timers}
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


def hand_over(subscription: Subscription) -> bool:
    """Call a subscription back with the message that has arrived; return whether there was one."""
    with subscription.handle:
        taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    if taken is not None:
        with_info = subscription._callback_type is not Subscription.CallbackType.MessageOnly
        subscription.callback(*taken if with_info else taken[:1])
    return taken is not None


def fire(timer: Timer) -> None:
    """Call a timer back, if it is still due."""
    with timer.handle:
        if not timer.handle.is_timer_ready():
            return
        # rclpy 9 has the first only.
        (getattr(timer.handle, 'call_timer_with_info', None) or timer.handle.call_timer)()
    timer.callback()


class ClockLoad:
    """
    Counts the messages of simulated time, and warns once if they cost much of a core.

    :param node: A ROS node that has ``use_sim_time``, or has it not.
    """

    def __init__(self, node: Node) -> None:
        self._node, self._since, self._count = node, time.monotonic(), 0
        for subscription in node.subscriptions:
            if subscription.msg_type is Clock:
                self._pass_on = subscription.callback
                subscription.callback = self.on_clock

    def on_clock(self, msg: Clock) -> None:
        """Pass a message on to rclpy, which sets the node's clock by it."""
        self._pass_on(msg)
        self._count += 1
        if self._count != CLOCKS_COUNTED:
            return
        rate = self._count / (time.monotonic() - self._since)
        self._since, self._count = time.monotonic(), 0
        if rate > FASTEST_CLOCK:
            self._count = CLOCKS_COUNTED  # it is said once
            self._node.get_logger().warning(
                f'/clock comes at {rate:.0f} Hz, which alone costs each process a tenth of a core '
                'or more; throttle it, as by `ros2 run topic_tools throttle messages /clock 100 '
                '/slow_clock`, and start our processes with -r /clock:=/slow_clock')


class PromptEnd:
    """
    Ends the process, with exit code 0, if its loop does not come back after a signal.

    Configuring an agent can take seconds, in which nobody looks whether a signal has come. Until
    it is configured it commands nothing, and a gate that hears nothing stops the base.

    :param patience: From the signal on [s].
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        # Plain locks and a thread that is there before: a signal handler must not wait for what
        # the code that it interrupts may hold.
        self._asked, self._back = threading.Lock(), threading.Lock()
        self._asked.acquire()
        self._back.acquire()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        self._asked.acquire()
        if not self._back.acquire(timeout=self._patience):
            os._exit(0)

    def asked(self) -> None:
        """Begin to wait for the loop; for a signal handler, and only the first call counts."""
        with suppress(RuntimeError):
            self._asked.release()

    def back(self) -> None:
        """Stop waiting: the loop has come back, and the node may take its time to stop."""
        with suppress(RuntimeError):
            self._back.release()


# Of <malloc.h>: up to which size memory is taken from the heap, and how much stays there unused.
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
LARGEST_KEPT, KEPT = 32 * 2**20, 256 * 2**20


def keep_memory_of_images() -> None:
    """Let a large image take the memory of the last one, whose pages need not be cleared again."""
    if sys.platform.startswith('linux') and hasattr(libc := ctypes.CDLL(None), 'mallopt'):
        libc.mallopt(MMAP_THRESHOLD, LARGEST_KEPT)
        libc.mallopt(TRIM_THRESHOLD, KEPT)


def use_large_shared_memory() -> None:
    """
    Let Fast DDS keep 32 MB for images that this process publishes, instead of half a megabyte.

    Larger images would hardly arrive. A profile that the user has chosen is left alone.
    """
    names = 'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'
    if not any(os.environ.get(name) for name in names):
        os.environ[names[0]] = str(share_folder() / 'config' / 'fastdds.xml')


def parameter_help(settings: Iterable[type]) -> str:
    """Return the parameters of a process: meaning, unit, range and default, two lines each."""
    lines = ['usage: stream_agent NAME --ros-args -p PARAMETER:=VALUE ... -r TOPIC:=OTHER ...', '',
             'parameters:']
    for item in (item for kind in settings for item in settings_fields(kind)):
        default = list(item.default) if isinstance(item.default, tuple) else item.default
        lines += [f'  {item.name} (default {default!r})', f'      {described(item)}']
    return '\n'.join(lines)


def described(item: Field) -> str:
    """Return what a setting means, and what it may be."""
    about = item.metadata
    allowed = range_of(item) if 'unit' in about else ' or '.join(about.get('among', ()))
    return about['meaning'] + (f' [{allowed}]' if allowed else '')


def plain_arguments(args: list[str], settings: Iterable[type]) -> int | None:
    """
    Answer a call for help, and refuse arguments that ROS would refuse, or leave unread.

    :returns: The exit code; None if the process may start.
    """
    try:
        # First, as ROS's parser does not survive every file.
        check_parameter_files(args)
        plain = remove_ros_args(args)
    except ParameterFileError as error:
        return refuse(str(error))
    except RuntimeError as error:
        return refuse(ros_fault(error))
    if not plain:
        return None
    if {'-h', '--help'} & {*plain}:
        print(parameter_help(settings))
        return 0
    names = [item.name for kind in settings for item in settings_fields(kind)]
    near = get_close_matches(plain[0].lstrip('-').replace('-', '_'), names, 1) or names[:1]
    print(f"'{plain[0]}' is not read here; parameters are set as in "
          f'`--ros-args -p {near[0]}:=VALUE`, and --help lists them', file=sys.stderr)
    return 2


def refuse(sentence: str) -> int:
    """Say why the process does not start, and return its exit code."""
    print(f'stream_agent: {sentence}', file=sys.stderr)
    return 2


def ros_fault(error: Exception) -> str:
    """Return in a sentence why ROS does not take its arguments, without places in its source."""
    said = re.sub(r',? at \S+\.(c|cpp|h|hpp):\d+|^Failed to parse ROS arguments: |'
                  r' Error: Expect(ed lexeme|ing token).*', '', str(error))
    return (f"ROS refuses the arguments: {' '.join(said.split()).rstrip('.')}; after --ros-args "
            'write -p NAME:=VALUE, -r FROM:=TO, or --params-file FILE')


def run(make_node: Callable[[], Node], args: list[str] | None = None,
        settings: Iterable[type] = ()) -> int:
    """
    Run a ROS node until SIGINT, SIGTERM, or its own end.

    A node may have ``finished`` (true once it has nothing left to do) and ``stop()`` (called
    once, while its publishers still work), and ``exit_code``. An exception in a callback stops it
    the same way, unless it has ``survives_errors``.

    :param make_node: Makes the ROS node; a ``ValueError`` from it is a user's mistake.
    :param args: Arguments of the process, without its name; ``--ros-args`` among them.
    :param settings: Of which its parameters are made, for --help.
    :returns: The exit code: 0 after a signal, the node's own end or --help, 1 after an error, 2
        for arguments that are not ROS's or a parameter file that is refused.
    """
    if (code := plain_arguments(args or [], settings)) is not None:
        return code
    keep_memory_of_images()
    parameters.arguments[:] = args or []
    leave, prompt, code = [], PromptEnd(), 0

    def on_signal(*_) -> None:
        leave.append(True)
        prompt.asked()
    # rclpy's own handlers invalidate the context before a stop can be published.
    try:
        rclpy.init(args=[sys.argv[0], *(args or [])],
                   signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:
        return refuse(ros_fault(error))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    node = None
    try:
        node = make_node()
        ClockLoad(node)
        executor = PromptExecutor()
        executor.add_node(node)
        while not leave and not getattr(node, 'finished', False):
            spin_once(executor, node)
    except Exception as error:
        report_error(node, error)
        code = 1
    finally:
        prompt.back()
        leave_node(node)
        rclpy.try_shutdown()
        # A second signal, as Ctrl-C under `ros2 launch` sends, must not spoil the exit code.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    return code or getattr(node, 'exit_code', 0)


def spin_once(executor: Executor, node: Node) -> None:
    """Handle what has arrived; an error in a callback ends no node that survives it."""
    try:
        executor.spin_once(timeout_sec=WAKE_UP_PERIOD)
    except Exception as error:
        if not getattr(node, 'survives_errors', False):
            raise
        node.get_logger().error('an error in a callback\n' + ''.join(
            traceback.format_exception(error)), throttle_duration_sec=5.0)


def report_error(node: Node | None, error: Exception) -> None:
    """Log what ended the process: a sentence for a user's mistake, a traceback for a bug."""
    logger = node.get_logger() if node else rclpy.logging.get_logger('stream_agent')
    if isinstance(error, ValueError) and node is None:
        logger.fatal(str(error))
    elif isinstance(error, ParameterException) and node is None:
        # Of the truth values that rclpy declares for every node, such as use_sim_time.
        logger.fatal(f"{' '.join(str(error).split())}; set it to true or false")
    else:
        logger.fatal('stopped by an error\n' + ''.join(traceback.format_exception(error)))


def leave_node(node: Node | None) -> None:
    """Let the node stop what it moves, whatever happened before, and destroy it."""
    if node is None:
        return
    try:
        if hasattr(node, 'stop'):
            node.stop()
    except Exception as error:
        report_error(node, error)
    node.destroy_node()
