"""What the doctor finds out about a policy: whether it loads here, and how fast it is."""

from collections.abc import Mapping
from pathlib import Path
import time
from typing import Any

import numpy as np
from stream_agent.doctor.findings import Finding, from_sentence, not_checked, ok
from stream_agent.doctor.policy import (
    check_limits, check_response, check_step, PolicyFacts, PolicyTiming)
from stream_agent.engine.engine import choose_device, Engine
from stream_agent.engine.torch_globals import wait_for
from stream_agent.gate.settings import GateSettings
from stream_agent.measurement.durations import Durations
from stream_agent.network.checkpoint import load_policy, Policy
from stream_agent.network.custom import allow_transforms
from stream_agent.share import policy_file
import torch

FRAMES = 50
TIMED = ('device', 'response', 'step')


def examine_policy(checkpoint: str, agent: Mapping[str, Any], gate: GateSettings
                   ) -> tuple[list[Finding], PolicyFacts | None]:
    """
    Load a policy as the agent would, and time it.

    :param checkpoint: A file, or a name of config/policies.
    :param agent: The agent's parameters, ``device`` among them.
    """
    try:
        allow_transforms(filter(None, map(str.strip, str(agent.get('allow', '')).split(','))))
        path = policy_file(Path(checkpoint))
        policy = load_policy(path)
    except (OSError, ValueError) as error:
        return [from_sentence('policy', error), *(
            not_checked(check, 'there is no policy') for check in ('limits', *TIMED))], None
    facts = PolicyFacts(path.stem, policy.preprocessing.shape, policy.preprocessing.crop_top,
                        policy.preprocessing.crop_bottom, policy.limits.max_speed,
                        policy.limits.max_yaw_rate)
    network = policy.network
    said = (f"'{path.name}': {policy.pattern_name}, {len(network.graph.nodes)} nodes, "
            f'{sum(value.numel() for value in network.parameters()):,} weights')
    return [ok('policy', said), check_limits(facts, gate),
            *examine_timing(policy, agent, gate.camera_period)], facts


def examine_timing(policy: Policy, agent: Mapping[str, Any], period: float) -> list[Finding]:
    """Find the device, and time the policy on it."""
    device = str(agent.get('device', 'auto'))
    try:
        found = choose_device(device)
    except ValueError as error:
        return [from_sentence('device', error), *(
            not_checked(check, 'the device is not there') for check in TIMED[1:])]
    said = f"'{device}'" + (f' is {found}' if str(found) != device else ' is there')
    try:
        timing = measure(policy, agent, device)
    except (RuntimeError, ValueError) as error:
        return [ok('device', said), from_sentence('response', error),
                not_checked('step', 'there is no response')]
    return [ok('device', said), check_response(timing, period), check_step(timing, period)]


def measure(policy: Policy, agent: Mapping[str, Any], device: str) -> PolicyTiming:
    """Time black frames one after the other, after a warm-up."""
    torch.set_num_threads(int(agent.get('threads', 0)) or 1)
    engine = Engine(policy.network, device,
                    agent.get('updates_per_frame', 0) or policy.updates_per_frame,
                    backend=agent.get('backend', 'auto'),
                    precision=agent.get('precision', 'float32'), threads=agent.get('threads', 0))
    engine.warm_up()
    frame = np.full(policy.preprocessing.shape, -0.5, np.float32)
    responses, steps = Durations(), Durations()
    for _ in range(FRAMES):
        start = time.perf_counter()
        for _ in engine.responses(frame):
            responses.add(time.perf_counter() - start)
        wait_for(engine.device)
        steps.add(time.perf_counter() - start)
    conditions = f'{engine.device} ({engine.backend_name}, {engine.threads or 1} threads)'
    return PolicyTiming(responses.percentile(50), responses.percentile(99), steps.percentile(50),
                        steps.percentile(99), FRAMES, conditions)
