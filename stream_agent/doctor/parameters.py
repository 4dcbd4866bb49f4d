"""Whether the parameters of agent, gate and recorder are right, and agree."""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from stream_agent.bounded_settings import SettingsError
from stream_agent.doctor.findings import error, Finding, from_sentence, ok, warning
from stream_agent.engine.frame_filter import FrameFilterSettings
from stream_agent.engine.settings import AgentSettings, EngineSettings
from stream_agent.gate.settings import BaseSettings, GateSettings
from stream_agent.images import TRANSPORTS

CHECK = 'parameters'


def types_of(*kinds: type) -> dict[str, type]:
    """Return the types of what a process takes besides its settings with a check, by name."""
    return {**{item.name: type(item.default) for kind in kinds for item in fields(kind)},
            'use_sim_time': bool}


OTHER_GATE = types_of(BaseSettings)
OTHER_AGENT = types_of(AgentSettings, EngineSettings)
WORDS = {str: 'a text', float: 'a number with a decimal point', int: 'a whole number',
         bool: 'true or false'}


def check_parameters(agent: Mapping[str, Any], gate: Mapping[str, Any],
                     recorder: Mapping[str, Any], files: str) -> list[Finding]:
    """
    Judge the parameters of the three processes.

    :param files: Which they come from, for messages.
    """
    found = [*check_process('gate', gate, GateSettings, OTHER_GATE),
             *check_process('agent', agent, FrameFilterSettings, OTHER_AGENT),
             *check_agreement(agent, gate, recorder)]
    return found or [ok(CHECK, f'{files}: they are readable and agree')]


def check_process(process: str, given: Mapping[str, Any], kind: type,
                  others: Mapping[str, type]) -> list[Finding]:
    """
    Judge what a process would say of its parameters at its start.

    :param kind: The settings that some of them become.
    :param others: Types of all others.
    """
    known = [*(item.name for item in fields(kind)), *others]
    unknown = [name for name in given
               if name not in known and not name.startswith('qos_overrides')]
    found = [error(CHECK, f"{process}: there is no parameter '{name}'", 'the nearest is '
                   f"'{get_close_matches(name, known, 1, 0.0)[0]}'") for name in unknown]
    wrong = [name for name in others if name in given and type(given[name]) is not others[name]]
    found += [error(CHECK, f'{process}: {name} is {given[name]!r}',
                    f'set it to {WORDS[others[name]]}') for name in wrong]
    return [*found, *check_settings(process, given, kind)]


def well_typed(given: Mapping[str, Any], others: Mapping[str, type]) -> dict[str, Any]:
    """Return the parameters without those of a wrong type."""
    return {name: value for name, value in given.items()
            if name not in others or type(value) is others[name]}


def check_settings(process: str, given: Mapping[str, Any], kind: type) -> list[Finding]:
    """Hold parameters against the settings that they become."""
    items = {item.name: item for item in fields(kind) if item.name in given}
    whole = [name for name, item in items.items()
             if isinstance(item.default, float) and type(given[name]) is int]
    if whole:
        return [error(CHECK, f'{process}: {name} is {given[name]}, where ROS wants a decimal '
                      'point', f'write {float(given[name])}') for name in whole]
    try:
        kind(**{name: given[name] for name in items})
    except SettingsError as fault:
        return [from_sentence(CHECK, f'{process}: {fault}')]
    return []


def check_agreement(agent: Mapping[str, Any], gate: Mapping[str, Any],
                    recorder: Mapping[str, Any]) -> list[Finding]:
    """Judge what has to be the same in two processes."""
    found = []
    transport = agent.get('image_transport', TRANSPORTS[0])
    if isinstance(transport, str) and transport not in TRANSPORTS:
        found.append(error(CHECK, f"agent: image_transport is '{transport}'",
                           "set it to 'raw' or 'compressed'"))
    for name, kind, (process, one) in (('command_type', BaseSettings, ('gate', gate)),
                                       ('wheel_base', BaseSettings, ('gate', gate)),
                                       ('image_transport', AgentSettings, ('agent', agent))):
        usual = getattr(kind, name)
        ours, theirs = one.get(name, usual), recorder.get(name, usual)
        if ours != theirs:
            found.append(warning(CHECK, f'{name} is {ours} for the {process}, {theirs} for the '
                                 'recorder, which will not see what the robot does',
                                 f'set {name} of the recorder to {ours}'))
    if agent.get('camera_period') != gate.get('camera_period'):
        found.append(warning(CHECK, 'camera_period is not the same for agent and gate',
                             'set it once, in the section /**'))
    return found
