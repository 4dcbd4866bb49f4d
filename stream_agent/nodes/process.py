"""One ROS node in a process of its own: start, spin, stop the robot, end."""

from collections.abc import Callable, Iterable
from dataclasses import Field
from difflib import get_close_matches
import os
import signal
import sys
import traceback

import rclpy
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from stream_agent.bounded_settings import range_of, settings_fields
from stream_agent.nodes.executor import PromptExecutor
from stream_agent.share import share_folder

# Long enough to cost nothing, short enough to react to a signal well within 2 s.
WAKE_UP_PERIOD = 0.1


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
    Answer a call for help, and refuse arguments that ROS would leave unread.

    :returns: The exit code; None if there are none.
    """
    plain = remove_ros_args(args)
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
    :returns: The exit code: 0 after a signal or the node's own end, 1 after an error, 2 for
        arguments that are not ROS's.
    """
    if (code := plain_arguments(args or [], settings)) is not None:
        return code
    leave = []
    # rclpy's own handlers invalidate the context before a stop can be published.
    rclpy.init(args=[sys.argv[0], *(args or [])],
               signal_handler_options=SignalHandlerOptions.NO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: leave.append(True))
    node = None
    try:
        node = make_node()
        executor = PromptExecutor()
        executor.add_node(node)
        while not leave and not getattr(node, 'finished', False):
            spin_once(executor, node)
        return getattr(node, 'exit_code', 0)
    except Exception as error:
        report_error(node, error)
        return 1
    finally:
        leave_node(node)
        rclpy.try_shutdown()
        # A second signal, as Ctrl-C under `ros2 launch` sends, must not spoil the exit code.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


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
