"""The agent: a policy that answers every camera frame, first the answer, then the rest."""

from __future__ import annotations

from collections.abc import Callable
import gc
from pathlib import Path
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TwistStamped
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CompressedImage, Image
from stream_agent.engine.engine import Engine
from stream_agent.engine.frame_filter import FrameFilter, FrameFilterSettings
from stream_agent.engine.ranks.local_ranks import LocalRanksEngine, make_job, start_ranks
from stream_agent.engine.settings import AgentSettings, EngineSettings
from stream_agent.images import ImageError
from stream_agent.measurement.durations import Durations, profile_table, Rate
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.transforms import allow_transforms
from stream_agent.nodes import process
from stream_agent.nodes.messages import (
    COMMAND_QOS, command_to_twist, FRAME_QOS, image_source, stamp_to_ns)
from stream_agent.nodes.parameters import declare_settings, read_settings, refuse_unknown
from stream_agent.nodes.stop_request import ask_for_stop
from stream_agent.theory.information import frames_unanswered, frames_until_response
from stream_agent.theory.rollout import inference_factor
import torch

# A worst second below this share of the camera's rate is worth a warning.
LOW_RATE = 0.9


def names_in(text: str) -> tuple[str, ...]:
    """Return the names in a list with commas."""
    return tuple(name.strip() for name in text.split(',') if name.strip())


def agent_status(agent: AgentNode) -> DiagnosticStatus:
    """Return rate (now, mean, worst second), durations by stage [s], and drops by reason."""
    rate = agent.rate.now()
    values = {
        'pattern': agent.policy.pattern_name,
        'device': str(agent.engine.device),
        'backend': f'{agent.engine.backend_name}, {agent.engine.threads} threads',
        'first response frame': str(agent.frames_until_response),
        'inference factor': str(agent.inference_factor),
        'rate now': f'{rate:.1f}',
        'rate mean': f'{agent.rate.mean():.2f}',
        'rate worst second': f'{agent.rate.worst_second():.0f}',
        'commands': str(agent.commands),
        'accepted frames': str(agent.accepted),
        **({'ranks': str(agent.engine.ranks)} if agent.engine.ranks > 1 else {}),
        **{f'dropped {reason}': str(count) for reason, count
           in agent.frame_filter.dropped.items()},
        **{f'{stage} {key}': f'{seconds:.6f}' for stage, durations in agent.stages.items()
           for key, seconds in durations.percentiles().items()}}
    level, message = DiagnosticStatus.OK, f'answering {rate:.0f} frames a second'
    if rate < LOW_RATE / agent.frame_filter.settings.camera_period:
        level = DiagnosticStatus.WARN
        message = f'{rate:.0f} frames in the last second; check the camera on the topic image'
    return DiagnosticStatus(
        level=level, name=f'{agent.get_name()}: frames', message=message,
        values=[KeyValue(key=key, value=value) for key, value in values.items()])


STAGES = ('arrival', 'convert', 'respond', 'publish', 'settle')


class AgentNode(LifecycleNode):
    """
    Steps a policy on every image and publishes its command before the step is complete.

    Subscribes ``image`` (sensor_msgs/Image) or ``image/compressed``, publishes
    ``policy_command`` (geometry_msgs/TwistStamped with the stamp of its frame, one for every
    frame that is accepted) and ``/diagnostics``. Configuring loads and warms up the network,
    activating forgets all earlier frames, deactivating stops the robot.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('agent', **kwargs)
        for kind in (AgentSettings, EngineSettings, FrameFilterSettings):
            declare_settings(self, kind)
        refuse_unknown(self)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network and create the interfaces; fails if either is not available."""
        try:
            self._load()
        except (OSError, RuntimeError, ValueError) as error:
            # rclpy swallows what a transition raises, so whatever goes wrong is said here.
            self.get_logger().error(f'configure: {error}')
            self._close_engine()
            return TransitionCallbackReturn.FAILURE
        self._command_pub = self.create_lifecycle_publisher(
            TwistStamped, 'policy_command', COMMAND_QOS)
        self._diagnostics_pub = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._image_sub = self.create_subscription(
            self._image_type, self._image_topic, self.on_image, FRAME_QOS)
        self._timer = self.create_timer(1.0, self.publish_diagnostics,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))
        # What lives for good need not be looked at again by every garbage collection.
        gc.collect()
        gc.freeze()
        return super().on_configure(state)

    def _load(self) -> None:
        """Read parameters and policy, and take the slow first steps."""
        value = {name: parameter.value for name, parameter in self._parameters.items()}
        self._image_type, self._image_topic, self._read = image_source(value['image_transport'])
        if not value['checkpoint']:
            raise ValueError('checkpoint is empty; give the file of a policy, such as '
                             '-p checkpoint:=lane_streaming.safetensors')
        # All that torch computes is the network's step; measuring sets its own.
        torch.set_num_threads(value['threads'] or 1)
        allow_transforms(names_in(value['allow']))
        self.frame_filter = FrameFilter(read_settings(self, FrameFilterSettings))
        self.policy = load_policy(Path(value['checkpoint']).expanduser())
        network = self.policy.network
        self.engine = self._make_engine(value)
        torch.set_num_threads(self.engine.threads)
        for measured in self.engine.measured:
            self.get_logger().debug(f'measured: {measured}')
        self.engine.warm_up()
        self._updates = value['updates_per_frame'] or self.policy.updates_per_frame
        # The theory's frames are update steps here, of which an image is held for a few.
        self.frames_until_response = frames_until_response(
            network.graph, network.pattern) // self._updates
        self._updates_unanswered = frames_unanswered(network.graph, network.pattern)
        self.inference_factor = inference_factor(network.graph, network.pattern)
        self._every_update = value['publish_every_update']
        self._forget()

    def _make_engine(self, value: dict) -> Engine | LocalRanksEngine:
        """Make what steps the network: on several ranks, if that is asked for and faster."""
        how = {name: value[name] for name in ('device', 'backend', 'precision', 'threads')}
        if value['ranks'] > 1:
            job = make_job(value['ranks'], str(Path(value['checkpoint']).expanduser()),
                           allow=names_in(value['allow']), partition=value['partition'], **how)
            engine = start_ranks(job, self.policy.network)
            if not isinstance(engine, str):
                return engine
            self.get_logger().warning(f'one process computes the network: {engine}')
        return Engine(self.policy.network, **how)

    def _close_engine(self) -> None:
        """Release the network's memory, and end the other ranks."""
        if engine := self.__dict__.pop('engine', None):
            engine.close()

    def _forget(self) -> None:
        """Forget all frames and what was measured on them."""
        self.stages = {name: Durations() for name in STAGES}
        self.rate = Rate()
        self.frame_filter.dropped.clear()
        self.commands = self.accepted = 0
        self._reset_memory()

    def _reset_memory(self) -> None:
        """Begin a new sequence of frames."""
        self.engine.reset()
        self.frame_filter.forget()
        self._unanswerable = self._updates_unanswered

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start from an empty memory; fails if another rank is gone."""
        try:
            self._forget()
        except RuntimeError as error:
            self.get_logger().error(f'activate: {error}')
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info(
            f'{self.policy.pattern_name} policy on {self.engine.device} '
            f'({self.engine.backend_name}, {self.engine.threads} threads'
            f'{f" on each of {ranks} ranks" if (ranks := self.engine.ranks) > 1 else ""}), '
            f'first response {self.frames_until_response} frames after a change')
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the robot while the publisher still publishes."""
        self.stop_robot()
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the robot if it was under way, and end the other ranks."""
        if state.label == 'active':
            self.stop_robot()
        if hasattr(self, 'engine'):
            self.destroy_timer(self._timer)
            self.destroy_subscription(self._image_sub)
            self._close_engine()
        return super().on_shutdown(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the interfaces and the device memory."""
        self.destroy_timer(self._timer)
        self.destroy_subscription(self._image_sub)
        self.destroy_publisher(self._diagnostics_pub)
        self.destroy_lifecycle_publisher(self._command_pub)
        self._close_engine()
        del self.policy
        return super().on_cleanup(state)

    def on_image(self, msg: Image | CompressedImage) -> None:
        """
        Respond to a frame, publish the command, then settle what only later frames need.

        Frames that come while the agent is inactive are not seen.
        """
        if not self._command_pub.is_activated or (taken := self._take(msg)) is None:
            return
        frame, stamp_ns = taken
        first = self._first_answer()
        for update in range(self._updates):
            output = self._timed('respond', self.engine.respond, frame)
            if update >= first:
                self._timed('publish', self.publish_command, output, stamp_ns)
            self._timed('settle', self.engine.settle)

    def _take(self, msg: Image | CompressedImage) -> tuple[np.ndarray, int] | None:
        """Return the network's input and the stamp [ns] of a frame; None if it is refused."""
        start = time.perf_counter()
        now_ns = self.get_clock().now().nanoseconds
        stamp_ns = stamp_to_ns(msg.header.stamp)
        if stamp_ns == 0:
            self.get_logger().warning('image without a stamp; taking the time of its arrival. '
                                      'Let the camera driver set header.stamp', once=True)
            stamp_ns = now_ns
        if self.frame_filter.refuse(stamp_ns, now_ns):
            return None
        try:
            frame = self.policy.preprocessing(self._read(msg))
        except ImageError as error:
            self.frame_filter.dropped['unreadable'] += 1
            self.get_logger().error(str(error), throttle_duration_sec=5.0)
            return None
        if self.frame_filter.accept(stamp_ns):
            self.get_logger().warning('frames are missing; memory reset',
                                      throttle_duration_sec=5.0)
            self._reset_memory()
            self.frame_filter.accept(stamp_ns)
        self.stages['arrival'].add((now_ns - stamp_ns) / 1e9)
        self.stages['convert'].add(time.perf_counter() - start)
        return frame, stamp_ns

    def _first_answer(self) -> int:
        """Count a frame; return its first update step with a command, past the last for none."""
        empty = min(self._unanswerable, self._updates)
        self._unanswerable -= empty
        if empty == self._updates:
            self.frame_filter.dropped['before first response'] += 1
            return empty
        self.accepted += 1
        self.rate.add()
        return empty if self._every_update else self._updates - 1

    def _timed(self, stage: str, work: Callable, *arguments) -> np.ndarray | None:
        """Do a stage of a frame, and count how long it took."""
        start = time.perf_counter()
        result = work(*arguments)
        self.stages[stage].add(time.perf_counter() - start)
        return result

    def publish_command(self, output: np.ndarray, stamp_ns: int) -> None:
        """Publish what the network's output asks for at a frame."""
        command = self.policy.limits.command(output)
        self._command_pub.publish(command_to_twist(command, stamp_ns))
        self.commands += 1

    def stop_robot(self) -> None:
        """Ask the gate to bring the robot to standstill (G10), and wait 0.2 s at most."""
        ask_for_stop(self._command_pub, self.get_clock())

    def publish_diagnostics(self) -> None:
        """Publish rates, durations and drops."""
        msg = DiagnosticArray(status=[agent_status(self)])
        msg.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_pub.publish(msg)

    def stop(self) -> None:
        """Stop the robot and print where the time went, at the end of the process."""
        if hasattr(self, 'stages'):
            print(f'{self.get_name()}: {self.commands} commands, {self.accepted} frames accepted, '
                  f'dropped {dict(self.frame_filter.dropped)}\n{profile_table(self.stages)}',
                  flush=True)
        self.trigger_shutdown()


def make_agent() -> AgentNode:
    """Make the agent and, if ``autostart`` is set, bring it up."""
    agent = AgentNode()
    if agent.get_parameter('autostart').value:
        success = TransitionCallbackReturn.SUCCESS
        if agent.trigger_configure() != success or agent.trigger_activate() != success:
            raise ValueError(f'{agent.get_name()}: not started; the error above says why')
    return agent


def main(args: list[str] | None = None) -> int:
    """Run the agent until it is told to go, and stop the robot before it goes."""
    return process.run(make_agent, args, process.prompt_executor)
