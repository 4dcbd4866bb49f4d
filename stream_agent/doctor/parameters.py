"""Whether the parameters of agent, gate and recorder are right, and agree."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, Field
from difflib import get_close_matches
from typing import Any, TypeVar

from stream_agent.bounded_settings import (
    allowed_values, choice, is_allowed, meant, settings_fields, SettingsError)
from stream_agent.contract.contract import Contract, ContractError, SECTIONS
from stream_agent.doctor.findings import error, Finding, from_sentence, ok, warning
from stream_agent.engine.frame_filter import FrameFilterSettings
from stream_agent.engine.settings import AgentSettings, EngineSettings
from stream_agent.gate.settings import BaseSettings, GateSettings
from stream_agent.share import Given, ParameterFileError, ParameterFiles

CHECK = 'parameters'


@dataclass(frozen=True)
class RosSettings:
    """The parameter that every ROS node has."""

    use_sim_time: bool = choice(False, 'follow the clock of a simulation')


GATE = (GateSettings, BaseSettings, RosSettings)
AGENT = (FrameFilterSettings, AgentSettings, EngineSettings, RosSettings)
Settings = TypeVar('Settings')
# By process and parameter: file and line.
Places = Mapping[str, Mapping[str, str]]
NO_PLACES: Places = {}


def check_parameters(agent: Mapping[str, Any], gate: Mapping[str, Any],
                     recorder: Mapping[str, Any], files: str, places: Places = NO_PLACES
                     ) -> list[Finding]:
    """Judge the parameters of the three processes; ``files`` names their sources in messages."""
    found = [*check_process('gate', gate, GATE, places),
             *check_process('agent', agent, AGENT, places),
             *check_agreement(agent, gate, recorder)]
    return found or [ok(CHECK, f'{files}: readable and consistent')]


def judge_files(files: ParameterFiles, space: str, kinds: Mapping[str, Sequence[type]]
                ) -> list[Finding]:
    """
    Report what has no effect in parameter files, or another one than it seems to have.

    :param space: The namespace of the robot.
    :param kinds: The settings of every process, by its name.
    """
    found = [from_sentence(CHECK, f'{process}: {sentence}')
             for process in kinds for sentence in files.ignored(f'{space}/{process}')]
    for stray in files.strays(space):
        finding = from_sentence(CHECK, str(stray))
        found.append(finding if stray.meant else warning(*finding[1:]))
    found += [warning(CHECK, f"'{path}' has no parameters",
                      'check that it is the file that is meant') for path in files.empty]
    unknown: dict[str, list[str]] = {}
    for process, classes in kinds.items():
        for name in foreign(files, f'{space}/{process}', classes):
            unknown.setdefault(name, []).append(process)
    known = parameters_of([kind for classes in kinds.values() for kind in classes])
    for name, processes in unknown.items():
        if name in known:
            continue
        (given, *_) = files.sources(f'{space}/{processes[0]}', name)
        nearest = get_close_matches(name, known, 1, 0.0)[0]
        found.append(warning(
            CHECK, f"{given.place}: {', '.join(processes)} have no parameter '{name}'",
            f"leave it if it is for others; the nearest name is '{nearest}'"))
    return found


def read_contract(files: ParameterFiles, space: str) -> tuple[Contract, list[Finding]]:
    """Return the contract of the agent, and what is wrong with it or differs for others."""
    try:
        contract = files.contract_of(f'{space}/agent')
        others = [process for process in ('gate', 'recorder')
                  if files.contract_of(f'{space}/{process}') != contract]
    except (ContractError, ParameterFileError) as fault:
        return Contract.of_values({}), [from_sentence(CHECK, fault)]
    if not others:
        return contract, []
    return contract, [warning(CHECK, f"inputs or output are others for {' and '.join(others)} "
                              'than for the agent', 'say them once, in the section /**')]


def foreign(files: ParameterFiles, process: str, kinds: Sequence[type]) -> list[str]:
    """Return names that a process does not know, and that only sections for all give it."""
    known = parameters_of(kinds)
    return [name for name in own_values(files, process) if name not in known
            and not name.startswith('qos_overrides')
            and all(given.is_shared for given in files.sources(process, name))]


def values_of(files: ParameterFiles, process: str, kinds: Sequence[type]) -> dict[str, Any]:
    """Return what a process is given as it takes it, without what is for others."""
    known, others = parameters_of(kinds), foreign(files, process, kinds)
    return {name: meant(known[name], given.value, given.text) if name in known and
            given.value is not None else given.value
            for name, given in own_values(files, process).items() if name not in others}


def own_values(files: ParameterFiles, process: str) -> dict[str, Given]:
    """Return what a process is given besides the contract, which is checked as a whole."""
    return {name: given for name, given in files.renamed(process).items()
            if name.partition('.')[0] not in SECTIONS}


def parameters_of(kinds: Sequence[type]) -> dict[str, Field]:
    """Return the parameters that settings are made of, by their names."""
    return {item.name: item for kind in kinds for item in settings_fields(kind)}


def places_of(files: ParameterFiles, space: str, processes: Iterable[str]) -> Places:
    """Return where the parameters of processes are given."""
    return {process: {name: given.place
                      for name, given in own_values(files, f'{space}/{process}').items()}
            for process in processes}


def check_process(process: str, given: Mapping[str, Any], kinds: Sequence[type],
                  places: Places = NO_PLACES) -> list[Finding]:
    """
    Report which parameters a process would refuse at its start, by the settings it makes.

    :param places: As of ``places_of``, for messages.
    """
    known = parameters_of(kinds)
    found = []
    for name, value in given.items():
        place = places.get(process, {}).get(name)
        at = f'{process}: {place}' if place else process
        if name not in known:
            if not name.startswith('qos_overrides'):
                found.append(error(CHECK, f"{at}: there is no parameter '{name}'",
                                   'the nearest name is '
                                   f"'{get_close_matches(name, known, 1, 0.0)[0]}'"))
        elif value is None or not is_allowed(known[name], value):
            shown = '[]' if value is None else repr(value)
            found.append(error(CHECK, f'{at}: {name} is {shown}',
                               f'set it to {allowed_values(known[name])}'))
    if not found:
        try:
            for kind in kinds:
                make_settings(kind, given)
        except SettingsError as fault:
            return [from_sentence(CHECK, f'{process}: {fault}')]
    return found


def make_settings(kind: type[Settings], given: Mapping[str, Any]) -> Settings:
    """Make settings of the allowed values; SettingsError if these contradict each other."""
    return kind(**{name: given[name] for name, item in parameters_of([kind]).items()
                   if name in given and is_allowed(item, given[name])})


def usable_settings(kind: type[Settings], given: Mapping[str, Any]) -> Settings:
    """Make settings as ``make_settings``; the defaults if the values contradict each other."""
    try:
        return make_settings(kind, given)
    except SettingsError:
        return kind()


def check_agreement(agent: Mapping[str, Any], gate: Mapping[str, Any],
                    recorder: Mapping[str, Any]) -> list[Finding]:
    """Judge what needs to be the same in two processes."""
    found = []
    for name, kind, (process, one) in (('command_type', BaseSettings, ('gate', gate)),
                                       ('wheel_base', BaseSettings, ('gate', gate)),
                                       ('image_transport', AgentSettings, ('agent', agent))):
        usual = getattr(kind, name)
        ours, theirs = one.get(name, usual), recorder.get(name, usual)
        if ours != theirs:
            found.append(warning(CHECK, f'{name} is {ours} for the {process}, {theirs} for the '
                                 'recorder, which will not see what the robot does',
                                 f'set {name} of the recorder to {ours}'))
    if agent.get('pass_periods') or agent.get('costs'):
        found.append(warning(CHECK, 'the agent emulates a slow computer, so its answers are late',
                             'leave out pass_periods and costs of the agent on a robot'))
    if agent.get('camera_period') != gate.get('camera_period'):
        found.append(warning(CHECK, 'camera_period is not the same for agent and gate',
                             'set it once, in the section /**'))
    return found
