"""Whether the policy fits the gate, the device and the camera."""

from typing import NamedTuple

from stream_agent.doctor.findings import error, Finding, ok, warning
from stream_agent.gate.settings import GateSettings

# Of a camera period: what a response may take before frames begin to wait (M3).
COMFORTABLE = 0.8


class PolicyFacts(NamedTuple):
    """
    What is known of a policy.

    :param name: Of its file.
    :param shape: (C, H, W) of its input.
    :param crop_top: Share of the image's rows that is cut off above.
    :param crop_bottom: The same below.
    :param max_speed: The greatest it asks for [m/s].
    :param max_yaw_rate: The same [rad/s].
    """

    name: str
    shape: tuple[int, int, int]
    crop_top: float
    crop_bottom: float
    max_speed: float
    max_yaw_rate: float


class PolicyTiming(NamedTuple):
    """
    Durations over some frames [s].

    :param conditions: Device, backend and threads, as they are shown.
    """

    response_p50: float
    response_p99: float
    step_p50: float
    step_p99: float
    frames: int
    conditions: str


def check_limits(policy: PolicyFacts, gate: GateSettings) -> Finding:
    """Hold what the policy may ask for against what the gate lets pass."""
    cut = [f'{name} {asked:g} {unit} (gate: {passed:g})' for name, asked, passed, unit in (
        ('speed', policy.max_speed, gate.max_speed, 'm/s'),
        ('yaw rate', policy.max_yaw_rate, gate.max_yaw_rate, 'rad/s')) if asked > passed]
    if not cut:
        return ok('limits', f'policy up to {policy.max_speed:g} m/s and {policy.max_yaw_rate:g} '
                  f'rad/s, gate up to {gate.max_speed:g} m/s and {gate.max_yaw_rate:g} rad/s')
    return warning('limits', 'the policy may ask for more than the gate lets pass: '
                   f"{', '.join(cut)}", 'expect it to be cut; where the policy is to drive as '
                   'trained and the robot may, raise max_speed and max_yaw_rate of the gate')


def check_response(timing: PolicyTiming, period: float) -> Finding:
    """Hold the time to the answer against the camera period."""
    said = (f'p50 {timing.response_p50 * 1e3:.2f} ms, p99 {timing.response_p99 * 1e3:.2f} ms over '
            f'{timing.frames} frames on {timing.conditions}; camera period {period * 1e3:.1f} ms')
    remedy = ('close what else computes here, or choose another device or a smaller policy; '
              '`ros2 run stream_agent plan` finds the rollout for this machine')
    if timing.response_p99 > period:
        return error('response', f'takes longer than a camera period: {said}', remedy)
    if timing.response_p99 > COMFORTABLE * period:
        return warning('response', f'takes over 80 % of a camera period: {said}', remedy)
    return ok('response', said)


def check_step(timing: PolicyTiming, period: float) -> Finding:
    """Hold the whole step, with what only later frames need, against the camera period."""
    said = f'whole: p50 {timing.step_p50 * 1e3:.2f} ms, p99 {timing.step_p99 * 1e3:.2f} ms'
    if timing.step_p99 <= COMFORTABLE * period:
        return ok('step', said)
    over = 'a camera period' if timing.step_p99 > period else '80 % of a camera period'
    return warning('step', f'takes over {over}, so that frames are dropped: {said}',
                   'slow the camera down, and set camera_period to match; or choose another '
                   'device')
