"""The agent: a policy that answers every frame, first the answer, then the rest."""

from __future__ import annotations

from collections.abc import Callable
import gc
import time
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from stream_agent.engine.engine import choose_device, Engine
from stream_agent.engine.frame_filter import (
    CameraWatch, FrameFilter, FrameFilterSettings)
from stream_agent.engine.ranks.local_ranks import LocalRanksEngine, make_job, start_ranks
from stream_agent.engine.settings import AgentSettings, EngineSettings, names_in
from stream_agent.images import SerializedImage, stamp_of_serialized
from stream_agent.measurement.durations import Durations, profile_table, Rate
from stream_agent.network.checkpoint import load_driving_policy
from stream_agent.network.program import Arrays
from stream_agent.network.transforms import allow_transforms
from stream_agent.nodes import process
from stream_agent.nodes.agent_status import agent_status
from stream_agent.nodes.agent_topics import AgentInputs, make_output, UNREADABLE
from stream_agent.nodes.emulation import emulated_computer
from stream_agent.nodes.messages import (
    as_callback, ask_for_stop, COMMAND_QOS, FRAME_QOS, sent_number, watch_gate)
from stream_agent.nodes.parameters import (
    declare_contract, declare_settings, read_settings, refuse_unknown)
from stream_agent.share import policy_file
from stream_agent.theory.information import frames_unanswered, frames_until_response
from stream_agent.theory.rollout import inference_factor
import torch


STAGES = ('arrival', 'convert', 'respond', 'publish', 'settle')
# How long before a frame is expected its answer is rehearsed [s], and the shortest idle time
# after which that is worth it.
REHEARSAL_LEAD, SHORTEST_IDLE = 0.003, 0.01


class AgentNode(LifecycleNode):
    """
    Steps a policy on every frame and publishes its command before the step is complete.

    A frame is a message of the input that triggers, usually an image; the policy's other inputs
    are taken as they are when the work on it begins.

    A step that fails costs its frame the command; a second failure in a row replaces the backend
    by 'eager', and a third ends the process. With several ranks the first failure ends it.

    Subscribes to what the contract says, or ``image`` (sensor_msgs/Image) or
    ``image/compressed``; publishes ``policy_command`` (geometry_msgs/TwistStamped, or a
    sensor_msgs/JointState of any actuators, with the stamp of its frame, one for every frame that
    is accepted) and ``/diagnostics``. Configuring loads and warms up the network,
    activating forgets all earlier frames, deactivating stops the robot.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('agent', **kwargs)
        for kind in (AgentSettings, EngineSettings, FrameFilterSettings):
            declare_settings(self, kind)
        self.contract = declare_contract(self)
        refuse_unknown(self)
        self.exit_code, self.finished, self.survives_errors = 0, False, True
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self.on_change_asked

    @property
    def is_active(self) -> bool:
        """Whether frames are answered."""
        return self._command_pub.is_activated

    def on_change_asked(self, request: ChangeState.Request, response: ChangeState.Response
                        ) -> ChangeState.Response:
        """Answer every request for a transition; rclpy leaves impossible ones unanswered."""
        try:
            return self._change_state(request, response)
        except RuntimeError:
            self.get_logger().error('the requested transition is not possible in this state; ask '
                                    '`ros2 lifecycle get` for the state')
            response.success = False
            return response

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network and create the interfaces; fails if either is not available."""
        try:
            self._load()
        except Exception as error:
            # rclpy swallows what a transition raises, so whatever goes wrong is said here.
            known = isinstance(error, (OSError, RuntimeError, ValueError))
            self.get_logger().error(
                f"configure: {error if known else ''.join(traceback.format_exception(error))}")
            self._close_engine()
            return TransitionCallbackReturn.FAILURE
        self._command_pub = self.create_lifecycle_publisher(
            self.output.kind, 'policy_command', COMMAND_QOS)
        self._diagnostics_pub = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # Left serialized: making a message costs as much as the rest of the way.
        self.inputs.subscribe()
        self.trigger_sub = self.create_subscription(
            self.inputs.trigger.kind, self.inputs.trigger.topic,
            as_callback((self.emulated or self).on_image), FRAME_QOS, raw=True)
        self.is_guarded = True
        self._gate_sub = watch_gate(self, self.on_gate)
        self._timer = self.create_timer(1.0, self.publish_diagnostics,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))
        # What lives for good need not be looked at again by every garbage collection.
        gc.collect()
        gc.freeze()
        return super().on_configure(state)

    def _load(self) -> None:
        """Read parameters and policy, and take the slow first steps."""
        value = {name: parameter.value for name, parameter in self._parameters.items()}
        if not value['checkpoint']:
            raise ValueError('checkpoint is empty; give the file of a policy, such as '
                             '-p checkpoint:=lane_streaming')
        # All that torch computes is the network's step; measuring sets its own.
        torch.set_num_threads(value['threads'] or 1)
        allow_transforms(names_in(value['allow']))
        self.frame_filter = FrameFilter(read_settings(self, FrameFilterSettings))
        self.policy = load_driving_policy(policy_file(value['checkpoint']))
        self.inputs = AgentInputs(self)
        self.output = make_output(self.policy.limits, self.contract.output.quantity)
        self.camera = CameraWatch(self.inputs.watched(self.frame_filter.settings),
                                  lambda: self.frame_filter.period)
        network = self.policy.network
        self.engine = self._make_engine(value)
        torch.set_num_threads(self.engine.threads or 1)
        for measured in self.engine.measured:
            self.get_logger().debug(f'measured: {measured}')
        self.engine.warm_up()
        self.updates = value['updates_per_frame'] or self.policy.updates_per_frame
        # The theory's frames are update steps here, of which an image is held for a few.
        self.frames_until_response = frames_until_response(
            network.graph, network.pattern) // self.updates
        self._updates_unanswered = frames_unanswered(network.graph, network.pattern)
        self.inference_factor = inference_factor(network.graph, network.pattern)
        self._every_update = value['publish_every_update']
        emulates = value['pass_periods'] or value['costs']
        self.emulated = emulated_computer(self) if emulates else None
        self._forget()

    def _make_engine(self, value: dict) -> Engine | LocalRanksEngine:
        """Make what steps the network: on several ranks, if that is asked for and faster."""
        how = {name: value[name] for name in ('device', 'backend', 'precision', 'threads')}
        if value['allow_cpu_fallback']:
            try:
                choose_device(how['device'])
            except ValueError as error:
                self.get_logger().warning(f'{error}. allow_cpu_fallback is set: the CPU does it')
                how['device'] = 'cpu'
        if value['ranks'] > 1:
            job = make_job(value['ranks'], str(policy_file(value['checkpoint'])),
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
        self.commands = self.accepted = self.failures = 0
        self.told: dict[str, float] = {}
        self.heard = self.active_since = time.monotonic()
        self._last_number: int | None = None
        self._reset_memory()

    def _reset_memory(self) -> None:
        """Begin a new sequence of frames."""
        self.engine.reset()
        self.frame_filter.forget()
        self.inputs.forget()
        if self.emulated:
            self.emulated.reset()
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
            self._leave()
        return super().on_shutdown(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the interfaces and the device memory."""
        self._leave()
        self.destroy_publisher(self._diagnostics_pub)
        self.destroy_lifecycle_publisher(self._command_pub)
        del self.policy
        return super().on_cleanup(state)

    def _leave(self) -> None:
        """Hear nothing any more, and give the engine back."""
        self.destroy_timer(self._timer)
        self.inputs.close()
        for one in (self.trigger_sub, self._gate_sub):
            self.destroy_subscription(one)
        self._close_engine()

    def on_image(self, data: bytes, info: dict[str, Any]) -> None:
        """
        Respond to a frame, publish the command, then settle what only later frames need.

        Frames that come while the agent is inactive are not seen.

        :param data: A serialized image, or another message that triggers.
        :param info: What the middleware knows of it.
        """
        if not self.is_active:
            return
        arrived = self.heard = time.monotonic()
        try:
            if taken := self.take(data, sent_number(info)):
                frame, stamp_ns, age, pixels = taken
                frames = frame if self.inputs.alone else self.inputs.complete(frame, stamp_ns)
                if frames is not None:
                    self._answer(frames, stamp_ns, age, pixels)
                    self.failures = 0
                    self._expect_next(arrived, frames)
        except Exception as error:
            self.contain(error, stamp_of_serialized(data))

    def _answer(self, frames: Arrays, stamp_ns: int, age: float, pixels: np.ndarray) -> None:
        """Respond, publish, settle: once for each update step of a frame."""
        first = self.first_answer()
        for update in range(self.updates):
            output = self.timed('respond', self.engine.respond, frames)
            if update >= first:
                self.timed('publish', self.publish_command, output, stamp_ns)
            self.timed('settle', self.engine.settle)
        self.camera.see(pixels, stamp_ns, age,
                        self.output.moves(self.policy.limits.command(output)))

    def take(self, data: bytes, number: int | None
             ) -> tuple[np.ndarray, int, float, np.ndarray] | None:
        """
        Judge a frame, and convert it.

        :returns: What the triggering input reads, the frame's stamp [ns], its age [s] and its
            bytes; None if it is refused.
        """
        start = time.perf_counter()
        now_ns = self.get_clock().now().nanoseconds
        try:
            image = self.inputs.trigger.read(data)
            stamp_ns = image.stamp_ns or self.inputs.stamp_instead(now_ns)
            if self.frame_filter.refuse(stamp_ns, now_ns, image.frame_id, number):
                return None
            frame = self.policy.preprocessing(self.inputs.trigger.pixels(image))
        except UNREADABLE as error:
            self.frame_filter.dropped['unreadable'] += 1
            self.frame_filter.reasons['unreadable'] = f'{self.trigger_sub.topic_name}: {error}'
            return None
        self._keep_memory_or_reset(image, stamp_ns, number)
        age = (now_ns - stamp_ns) / 1e9
        self.stages['arrival'].add(age)
        self.stages['convert'].add(time.perf_counter() - start)
        return frame, stamp_ns, age, np.frombuffer(image.data, np.uint8)

    def _keep_memory_or_reset(self, image: Any, stamp_ns: int, number: int | None) -> None:
        """Take a frame, and forget those before it if they are too old or of another kind."""
        last, self._last_number = self._last_number, number
        skipped = number - last - 1 if number and last and number > last else 0
        reason = 'frames are missing' if self.frame_filter.accept(stamp_ns, skipped) else ''
        if isinstance(image, SerializedImage):
            reason = self.camera.changed(image.encoding, image.width, image.height) or reason
        if reason:
            self.get_logger().warning(f'{reason}; memory reset', throttle_duration_sec=5.0)
            self._reset_memory()
            self.frame_filter.accept(stamp_ns)

    def _expect_next(self, arrived: float, frames: Arrays) -> None:
        """Rehearse the answer shortly before the next frame is expected."""
        period = self.frame_filter.period or self.frame_filter.settings.camera_period
        due = arrived + period - REHEARSAL_LEAD - 2 * self.stages['respond'].typical
        call_at = getattr(self.executor, 'call_at', None)
        if due - time.monotonic() > SHORTEST_IDLE and call_at:
            call_at(due, lambda: self.engine.rehearse(frames))

    def contain(self, error: Exception, stamp_ns: int) -> None:
        """Leave a frame whose step failed without a command, and try the next in another way."""
        self.failures += 1
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        about = f'no command for the frame of {stamp_ns / 1e9:.3f} s, as its step failed: {reason}'
        self.get_logger().error(about + '\n' + ''.join(traceback.format_exception(error)))
        try:
            if self.engine.ranks > 1 or self.failures > 2:
                raise RuntimeError('nothing is left to try')
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if self.failures == 2:
                self.get_logger().error("the backend 'eager' steps the network from now on")
                self._close_engine()
                self.engine = Engine(self.policy.network, 'cpu', backend='eager', threads=1)
            self._reset_memory()
        except Exception as last:
            self.get_logger().fatal(f'{about}; {last}: the agent ends')
            self.exit_code, self.finished = 1, True

    def first_answer(self) -> int:
        """Count a frame; return its first update step with a command, past the last for none."""
        empty = min(self._unanswerable, self.updates)
        self._unanswerable -= empty
        if empty == self.updates:
            self.frame_filter.dropped['before first response'] += 1
            return empty
        self.accepted += 1
        self.rate.add()
        return empty if self._every_update else self.updates - 1

    def timed(self, stage: str, work: Callable, *arguments) -> Any:
        """Do a stage of a frame, and count how long it took."""
        start = time.perf_counter()
        result = work(*arguments)
        self.stages[stage].add(time.perf_counter() - start)
        return result

    def publish_command(self, output: np.ndarray, stamp_ns: int) -> None:
        """Publish what the network's output asks for at a frame; a stop if the camera froze."""
        command, frozen = self.policy.limits.command(output), self.camera.is_frozen
        self._command_pub.publish(
            (self.output.write_frozen if frozen else self.output.write)(command, stamp_ns))
        if not self.inputs.alone:
            self.inputs.note(self.output.at_rest if frozen else output)
        self.commands += 1

    def stop_robot(self) -> None:
        """Ask the gate to bring the robot to standstill (G10), and wait 0.2 s at most."""
        ask_for_stop(self._command_pub, self.get_clock())

    def on_gate(self, alive: bool) -> None:
        """Say immediately that the gate is gone, if it is."""
        self.is_guarded = alive
        self.publish_diagnostics()

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
        if self._state_machine.current_state[1] != 'finalized':
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
    """Run the agent until SIGINT or SIGTERM, and stop the robot before it ends."""
    return process.run(make_agent, args, (AgentSettings, EngineSettings, FrameFilterSettings))
