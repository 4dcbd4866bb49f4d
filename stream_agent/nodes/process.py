"""One ROS node in a process of its own: start, spin, stop the robot, end."""

from collections.abc import Callable
import signal
import sys
import traceback

import rclpy
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from stream_agent.nodes.executor import PromptExecutor

# Long enough to cost nothing, short enough to react to a signal well within 2 s.
WAKE_UP_PERIOD = 0.1


def run(make_node: Callable[[], Node], args: list[str] | None = None) -> int:
    """
    Run a ROS node until SIGINT, SIGTERM, or its own end.

    A node may have ``finished`` (true once it has nothing left to do) and ``stop()`` (called
    once, while its publishers still work), and ``exit_code``. An exception in a callback stops it
    the same way, unless it has ``survives_errors``.

    :param make_node: Makes the ROS node; a ``ValueError`` from it is a user's mistake.
    :param args: Arguments of the process, without its name; ``--ros-args`` among them.
    :returns: The exit code: 0 after a signal or the node's own end, 1 after an error.
    """
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
