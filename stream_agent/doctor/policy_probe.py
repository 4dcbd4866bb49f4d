"""Whether the policy loads here, fits the gate and the camera, and is fast enough."""

from pathlib import Path
import time
from typing import NamedTuple

import numpy as np
from stream_agent.contract.agreement import disagreements, sources
from stream_agent.contract.contract import Contract
from stream_agent.contract.conversions import OutputScale
from stream_agent.contract.settings import of_each, OutputSettings
from stream_agent.doctor.findings import error, Finding, from_sentence, not_checked, ok, warning
from stream_agent.engine.engine import choose_device, Engine
from stream_agent.engine.settings import AgentSettings, EngineSettings
from stream_agent.engine.torch_globals import wait_for
from stream_agent.gate.settings import GateSettings
from stream_agent.measurement.durations import Durations
from stream_agent.network.checkpoint import CommandScale, load_driving_policy, Policy
from stream_agent.network.transforms import allow_transforms
from stream_agent.share import policy_file
import torch

FRAMES = 50
TIMED = ('device', 'response', 'step')
# The share of a camera period that a response may take before frames begin to wait (M3).
COMFORTABLE = 0.8


class PolicyTiming(NamedTuple):
    """Durations to the output, and of whole steps with what only later frames need."""

    responses: Durations
    steps: Durations
    conditions: str


def examine_policy(checkpoint: str, agent: AgentSettings, engine: EngineSettings,
                   gate: GateSettings, contract: Contract) -> tuple[list[Finding], Policy | None]:
    """Load a policy as the agent would, hold it against the contract, and time it."""
    try:
        allow_transforms(filter(None, map(str.strip, agent.allow.split(','))))
        path = policy_file(Path(checkpoint))
        policy = load_driving_policy(path)
    except (OSError, ValueError) as fault:
        return [from_sentence('policy', fault), *(
            not_checked(check, 'no policy could be loaded') for check in ('limits', *TIMED))], None
    network = policy.network
    said = (f"'{path.name}': {policy.pattern_name}, {len(network.graph.nodes)} nodes, "
            f'{sum(value.numel() for value in network.parameters()):,} weights')
    limits = (check_vector_limits(policy.limits, contract.output)
              if isinstance(policy.limits, OutputScale) else check_limits(policy.limits, gate))
    return [ok('policy', said), *check_contract(policy, contract), limits,
            *examine_timing(policy, agent, engine, gate.camera_period)], policy


def check_contract(policy: Policy, contract: Contract) -> list[Finding]:
    """Say whether the robot gives what a policy reads, and takes what it commands."""
    found = [from_sentence('contract', sentence) for sentence in disagreements(
        contract, policy.trigger, policy.conversions, policy.limits)]
    if found or not contract.given:
        return found
    read = sources(contract, policy.trigger, policy.conversions).values()
    unread = [name for name in contract.inputs if name not in read]
    return [ok('contract', f"the policy reads {', '.join(policy.conversions)}, and steps with "
               f'{policy.trigger}' + f"; it does not read {', '.join(unread)}" * bool(unread))]


def check_vector_limits(policy: OutputScale, output: OutputSettings) -> Finding:
    """Compare what a policy may ask of each actuator with what the gate lets pass."""
    ends = [dict(zip(output.names, of_each(values, output.names)))
            for values in (output.lowest, output.highest)]
    cut = [f'{name} {low:g} to {high:g} {unit} (gate: {ends[0][name]:g} to {ends[1][name]:g})'
           for name, unit, low, high in zip(policy.names, policy.units, policy.low, policy.high)
           if name in ends[0] and not (
               ends[0][name] <= min(low, high) and max(low, high) <= ends[1][name])]
    if not cut:
        return ok('limits', f"within the contract's: {', '.join(policy.names)}")
    return warning('limits', 'the policy may ask for more than the gate lets pass: '
                   f"{', '.join(cut)}", 'expect it to be limited; if the policy should move as '
                   'trained and the robot may, widen output.lowest and output.highest')


def check_limits(policy: CommandScale, gate: GateSettings) -> Finding:
    """Compare what the policy may ask for with what the gate lets pass."""
    cut = [f'{name} {asked:g} {unit} (gate: {passed:g})' for name, asked, passed, unit in (
        ('speed', policy.max_speed, gate.max_speed, 'm/s'),
        ('yaw rate', policy.max_yaw_rate, gate.max_yaw_rate, 'rad/s')) if asked > passed]
    if not cut:
        return ok('limits', f'policy up to {policy.max_speed:g} m/s and {policy.max_yaw_rate:g} '
                  f'rad/s, gate up to {gate.max_speed:g} m/s and {gate.max_yaw_rate:g} rad/s')
    return warning('limits', 'the policy may ask for more than the gate lets pass: '
                   f"{', '.join(cut)}", 'expect it to be limited; if the policy should drive as '
                   'trained and the robot may, raise max_speed and max_yaw_rate of the gate')


def examine_timing(policy: Policy, agent: AgentSettings, settings: EngineSettings, period: float
                   ) -> list[Finding]:
    """Find the device, and time the policy on it."""
    try:
        found = choose_device(settings.device)
    except ValueError as fault:
        return [from_sentence('device', fault), *(
            not_checked(check, 'the device is not available') for check in TIMED[1:])]
    device = ok('device', f"'{settings.device}'" + (
        f' is {found}' if str(found) != settings.device else ' is available'))
    try:
        timing = measure(policy, agent, settings)
    except (RuntimeError, ValueError) as fault:
        return [device, from_sentence('response', fault),
                not_checked('step', 'there is no response')]
    return [device, check_response(timing, period), check_step(timing, period)]


def measure(policy: Policy, agent: AgentSettings, settings: EngineSettings) -> PolicyTiming:
    """Time black frames one after the other, after a warm-up."""
    torch.set_num_threads(settings.threads or 1)
    updates = agent.updates_per_frame or policy.updates_per_frame
    engine = Engine(policy.network, settings.device, backend=settings.backend,
                    precision=settings.precision, threads=settings.threads)
    engine.warm_up()
    frames = {name: np.full(policy.network.shapes[name], -0.5, np.float32)
              for name in policy.network.inputs}
    frame = frames if len(frames) > 1 else frames[policy.trigger]
    responses, steps = Durations(), Durations()
    for _ in range(FRAMES):
        start = time.perf_counter()
        for _ in range(updates - 1):
            engine.step(frame)
        engine.respond(frame)
        responses.add(time.perf_counter() - start)
        engine.settle()
        wait_for(engine.device)
        steps.add(time.perf_counter() - start)
    return PolicyTiming(responses, steps, f'{engine.device} ({engine.backend_name}, '
                        f'{engine.threads or 1} threads)')


def tail_of(durations: Durations) -> str:
    """Return the median and the 99th percentile [ms] as they are shown."""
    p50, p99 = (durations.percentile(percent) * 1e3 for percent in (50, 99))
    return f'p50 {p50:.2f} ms, p99 {p99:.2f} ms'


def check_response(timing: PolicyTiming, period: float) -> Finding:
    """Compare the time to the output with the camera period [s]."""
    said = (f'{tail_of(timing.responses)} over {timing.responses.count} frames on '
            f'{timing.conditions}; camera period {period * 1e3:.1f} ms')
    remedy = ('stop other programs on this computer, or choose another device or a smaller '
              'policy; `ros2 run stream_agent plan` finds the rollout for this machine')
    if timing.responses.percentile(99) > period:
        return error('response', f'takes longer than a camera period: {said}', remedy)
    if timing.responses.percentile(99) > COMFORTABLE * period:
        return warning('response', f'takes over 80 % of a camera period: {said}', remedy)
    return ok('response', said)


def check_step(timing: PolicyTiming, period: float) -> Finding:
    """Compare the whole step, with what only later frames need, with the camera period [s]."""
    said = f'whole: {tail_of(timing.steps)}'
    if timing.steps.percentile(99) <= COMFORTABLE * period:
        return ok('step', said)
    over = 'a camera period' if timing.steps.percentile(99) > period else '80 % of a camera period'
    return warning('step', f'takes over {over}, so that frames are dropped: {said}',
                   'slow the camera down, and set camera_period to match; or choose another '
                   'device')
