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
# Seconds after activation without any image, and then between images, from which that is an
# error (F11).
NO_CAMERA, NO_FRAME = 5.0, 2.0
# A problem that returns after being absent for this long [s] is logged again.
SILENCE = 10.0
# Frames refused for one of these reasons leave the robot without commands.
USELESS = {'stale', 'future', 'two cameras', 'unreadable'}


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
    found = problems(agent, rate)
    level = max((level for level, _ in found.values()), default=DiagnosticStatus.OK)
    message = '; '.join(text for _, text in found.values())
    return make_status(agent, 'frames', level,
                       message or f'answering {rate:.0f} frames a second', values)


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
                f'no image for {silent:.0f} s: {why_no_messages(agent, agent.image_sub)}')
        for name, text in agent.frame_filter.reasons.items():
            found[name] = (DiagnosticStatus.ERROR if name in USELESS else DiagnosticStatus.WARN,
                           text)
        found |= {name: (DiagnosticStatus.WARN, text)
                  for name, text in agent.camera.warnings().items()}
        period = agent.frame_filter.settings.camera_period
        if rate < LOW_RATE / period and not found:
            found['few frames'] = DiagnosticStatus.WARN, (
                f'{rate:.0f} frames in the last second; check the camera on the topic image')
        responses = agent.stages['respond']
        if responses.count > 100 and (slow := responses.percentile(99)) > SLOW_SHARE * period:
            found['slow'] = DiagnosticStatus.WARN, (
                f'one answer in a hundred takes {slow * 1e3:.3g} ms and more of the '
                f'{period * 1e3:.3g} ms between two frames; lower the load of this computer, '
                'or try other backends (`backend`, `threads`)')
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
