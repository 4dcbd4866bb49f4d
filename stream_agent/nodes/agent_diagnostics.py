"""What the agent says of itself once a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

if TYPE_CHECKING:
    from stream_agent.nodes.agent_node import AgentNode

# A worst second below this share of the camera's rate is worth a warning.
LOW_RATE = 0.9


def agent_status(agent: AgentNode) -> DiagnosticStatus:
    """Return rate (now, mean, worst second), durations by stage [s], and drops by reason."""
    rate = agent.rate.now()
    values = {
        'pattern': agent.policy.pattern_name,
        'device': str(agent.engine.device),
        'executor': f'{agent.engine.executor_name}, {agent.engine.threads} threads',
        'first response frame': str(agent.frames_until_response),
        'inference factor': str(agent.inference_factor),
        'rate now': f'{rate:.1f}',
        'rate mean': f'{agent.rate.mean():.2f}',
        'rate worst second': f'{agent.rate.worst_second():.0f}',
        'commands': str(agent.commands),
        'accepted frames': str(agent.accepted),
        **{f'dropped {reason}': str(count) for reason, count in agent.intake.dropped.items()},
        **{f'{stage} {key}': f'{seconds:.6f}' for stage, durations in agent.stages.items()
           for key, seconds in durations.percentiles().items()}}
    level, message = DiagnosticStatus.OK, f'answering {rate:.0f} frames a second'
    if rate < LOW_RATE / agent.intake.settings.camera_period:
        level = DiagnosticStatus.WARN
        message = f'{rate:.0f} frames in the last second; check the camera on the topic image'
    return DiagnosticStatus(
        level=level, name=f'{agent.get_name()}: frames', message=message,
        values=[KeyValue(key=key, value=value) for key, value in values.items()])
