"""What the agent says of itself: rates, durations, drops, and whatever keeps it from answering."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticStatus
from stream_agent.nodes.messages import make_status, why_no_messages

if TYPE_CHECKING:
    from stream_agent.nodes.agent_node import AgentNode

# A worst second below this share of the camera's rate is worth a warning.
LOW_RATE = 0.9
# An answer that takes more than this share of the camera's period is worth a warning, too.
SLOW_SHARE = 0.8
# An emulated computer's answers that come later by more than this share are worth one as well.
LATE_SHARE = 0.5
# Seconds after activation without any image, and then between images, from which that is an
# error (F11).
NO_CAMERA, NO_FRAME = 5.0, 2.0
# A problem that returns after being absent for this long [s] is logged again.
SILENCE = 10.0
# Frames refused for one of these reasons leave the robot without commands.
USELESS = 'stale', 'future', 'two cameras', 'unreadable', 'missing ', 'old '


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
        **({'emulated computer': str(agent.emulated)} if agent.emulated else {}),
        **{f'dropped {reason}': str(count) for reason, count
           in agent.frame_filter.dropped.items()},
        **agent.inputs.values(),
        **{f'{stage} {key}': f'{seconds:.6f}' for stage, durations in
           (agent.stages | ({'late': agent.emulated.late} if agent.emulated else {})).items()
           for key, seconds in durations.percentiles().items()}}
    found = problems(agent, rate)
    level = max((level for level, _ in found.values()), default=DiagnosticStatus.OK)
    message = '; '.join(text for _, text in found.values())
    message = message or f'answering {rate:.0f} frames a second'
    if agent.emulated:
        message = f'emulated computer, {agent.emulated}: {message}'
    return make_status(agent, 'frames', level, message, values)


def problems(agent: AgentNode, rate: float) -> dict[str, tuple[bytes, str]]:
    """
    Return what keeps the agent from answering well: level and remedy by name.

    Each is logged once, and again when it comes back after a while.

    :param rate: Frames answered in the last second.
    """
    found: dict[str, tuple[bytes, str]] = {}
    if agent.is_active:
        if not agent.is_guarded:
            found['no gate'] = DiagnosticStatus.ERROR, (
                'nobody guards the robot, as the gate has ended or hangs; start it: '
                'ros2 run stream_agent gate')
        now = time.monotonic()
        silent, active = now - agent.heard, now - agent.active_since
        if silent > NO_FRAME and active > NO_CAMERA or silent > NO_CAMERA:
            found['no frames'] = DiagnosticStatus.ERROR, (
                f'no {agent.inputs.noun} for {silent:.0f} s: ' + why_no_messages(
                    agent, agent.trigger_sub, f'the {agent.inputs.sender}',
                    f'{agent.inputs.remedy} or the remapping',
                    f'{agent.inputs.trigger.topic}:=TOPIC'))
        said = agent.frame_filter.reasons | agent.inputs.warnings(agent.camera.age)
        for name, text in said.items():
            found[name] = (DiagnosticStatus.ERROR if name.startswith(USELESS)
                           else DiagnosticStatus.WARN, text)
        found |= {name: (DiagnosticStatus.WARN, text)
                  for name, text in agent.camera.warnings().items()}
        period = agent.frame_filter.settings.camera_period
        expected = math.floor(agent.emulated.figures.rate) if agent.emulated else 1 / period
        if rate < LOW_RATE * expected and not found:
            found['few frames'] = DiagnosticStatus.WARN, (
                f'{rate:.0f} frames in the last second; check the {agent.inputs.sender} on the '
                f'topic {agent.inputs.trigger.topic}')
        if text := slow_answers(agent, period):
            found['slow'] = DiagnosticStatus.WARN, text
    agent.frame_filter.reasons.clear()
    for name, (level, text) in found.items():
        if time.monotonic() - agent.told.get(name, -math.inf) > SILENCE and name != 'few frames':
            # A line each, as rclpy wants one severity of each.
            if level == DiagnosticStatus.ERROR:
                agent.get_logger().error(text)
            else:
                agent.get_logger().warning(text)
        agent.told[name] = time.monotonic()
    return found


def slow_answers(agent: AgentNode, period: float) -> str:
    """
    Say how late answers are, if that is worth a warning; '' if not.

    :param period: Between two frames [s].
    """
    durations, share, what = agent.stages['respond'], SLOW_SHARE, (
        'takes {slow:.3g} ms and more of the {period:.3g} ms between two frames')
    if agent.emulated:
        durations, share, what = agent.emulated.late, LATE_SHARE, (
            'is {slow:.3g} ms and more later than on the emulated computer')
    slow = durations.percentile(99)
    if durations.count <= 100 or slow <= share * period:
        return ''
    return (f'one answer in a hundred {what.format(slow=slow * 1e3, period=period * 1e3)}; lower '
            'the load of this computer, or try other backends (`backend`, `threads`)')
