"""Checks of the contract's inputs: who sends them, how often, stamped how, and what they say."""

from collections.abc import Mapping, Sequence
import math
from typing import Any, NamedTuple

import numpy as np
from stream_agent.contract.conversions import ConversionError, Scan
from stream_agent.contract.settings import InputSettings, JOINT_STATE, of_each
from stream_agent.doctor.camera import (
    ArrivedFrame, clock_remedy, GREATEST_AGE, OTHER_CLOCK, RATE_TOLERANCE)
from stream_agent.doctor.findings import (
    error, Finding, from_sentence, not_checked, ok, Severity, split_remedy, warning)
from stream_agent.doctor.topics import Endpoint, nodes_of, similar
from stream_agent.engine.frame_filter import FrameFilterSettings

# By how much medians of arrival minus stamp may differ before two clocks are suspected [s].
CLOCKS_APART = 0.1


class ArrivedMessage(NamedTuple):
    """
    A message of an input that is no image.

    :param stamp_ns: Of what it says: a scan's is that of its last ray.
    :param arrival_ns: When it arrived, by the clock of the stamps.
    :param at: When it arrived, by the steady clock [s].
    :param values: What its conversion takes; None if it has none.
    :param fault: Why it has none; empty if it has.
    """

    stamp_ns: int
    arrival_ns: int
    at: float
    values: Any
    fault: str = ''


class DepthSeen(NamedTuple):
    """The size of a depth image, and the share of its pixels that measure something."""

    height: int
    width: int
    measured: float


Arrived = Sequence[ArrivedMessage] | Sequence[ArrivedFrame]


def check_sender(name: str, settings: InputSettings, topic: str, senders: Sequence[Endpoint],
                 others: Mapping[str, str]) -> Finding:
    """
    Judge who sends an input.

    :param topic: With its namespace.
    :param others: The types of all topics that somebody publishes, by topic.
    """
    check, right = f'{name} topic', [end for end in senders if end.kind == settings.type]
    alike = similar(topic, [one for one, kind in others.items() if kind == settings.type])
    elsewhere = (f'or set inputs.{name}.topic to one of that type: {", ".join(alike)}' if alike
                 else f'no other topic has {settings.type}')
    if not senders:
        return error(check, f"nobody publishes '{topic}'", f'start its driver, {elsewhere}')
    if not right:
        return error(check, f"'{topic}' has {senders[0].kind} from {nodes_of(senders)}; "
                     f'inputs.{name}.type is {settings.type}',
                     f'set inputs.{name}.type to {senders[0].kind} with fields of that, '
                     f'{elsewhere}')
    if deaf := [end for end in right if end.incompatible]:
        return error(check, f"'{topic}': {nodes_of(deaf)} offers {deaf[0].qos}, which the agent "
                     f'cannot receive: {deaf[0].incompatible}',
                     'let the driver publish with sensor QoS')
    # Drivers of joints share a topic, each with its own.
    if len(right) > 1 and settings.type != JOINT_STATE:
        return error(check, f"'{topic}' has messages of several senders: {nodes_of(right)}",
                     'let one of them publish, or give each its own topic')
    return ok(check, f"'{topic}': {settings.type} from {nodes_of(right)}, {right[0].qos}")


def check_messages(name: str, settings: InputSettings, arrived: Sequence[ArrivedMessage],
                   end: float, conversion: Any, trigger: FrameFilterSettings | None
                   ) -> list[Finding]:
    """
    Judge the messages of an input that arrived until ``end``, by the steady clock [s].

    :param conversion: What makes the network's numbers of them; of depth None.
    :param trigger: How the agent judges them if they trigger the network; else None.
    """
    if not arrived:
        return [not_checked(f'{name} {check}', 'no message arrived')
                for check in ('rate', 'stamps', 'values')]
    period = trigger.camera_period if trigger else None
    return [check_rhythm(name, settings, arrived, end, period),
            check_times(name, settings, arrived, trigger),
            check_values(name, settings, arrived, conversion)]


def check_rhythm(name: str, settings: InputSettings, arrived: Arrived, end: float,
                 period: float | None) -> Finding:
    """Compare how often messages come with the contract, and for triggers with the camera."""
    check, at = f'{name} rate', [one.at for one in arrived]
    gap = float(np.diff([*at, end]).max())
    if len(at) < 3 or at[-1] <= at[0]:
        return error(check, f'only {len(at)} messages arrived', 'let its driver publish at a '
                     'steady rate, or watch longer with --seconds')
    hertz = (len(at) - 1) / (at[-1] - at[0])
    said = f'{hertz:.2f} Hz, longest gap {gap:.3f} s'
    if period and abs(1 / hertz / period - 1) > RATE_TOLERANCE:
        return warning(check, f'{said}; it triggers the network, and camera_period is '
                       f'{period:.4f} s', f'set camera_period to {1 / hertz:.4f} for all '
                       'processes (section /**), or the driver to the rate of training')
    if settings.rate and abs(hertz / settings.rate - 1) > RATE_TOLERANCE:
        return warning(check, f'{said}; inputs.{name}.rate is {settings.rate:g} Hz',
                       'set the driver to this rate, or the contract to that of the driver')
    if not period and gap > settings.oldest:
        return warning(check, f'{said}, and the agent takes none that is older than '
                       f'{settings.oldest:g} s (inputs.{name}.oldest), so frames get no command',
                       'let its driver publish more often, or raise oldest')
    return ok(check, said)


def check_times(name: str, settings: InputSettings, arrived: Arrived,
                trigger: FrameFilterSettings | None = None) -> Finding:
    """Judge the stamps of an input's messages, where these count; as ``check_messages``."""
    check = f'{name} stamps'
    if settings.stamp == 'arrival':
        return ok(check, 'the time of arrival counts (stamp: arrival)')
    stamps = np.array([one.stamp_ns for one in arrived])
    if zero := int((stamps == 0).sum()):
        return error(check, f'{zero} of {len(stamps)} are zero, and stamps count',
                     f'let its driver set header.stamp, or set inputs.{name}.stamp to arrival')
    age = lag_of(arrived)
    said = f'{abs(age):.3f} s {"old on arrival" if age >= 0 else "in the future"} (median)'
    if abs(age) > OTHER_CLOCK:
        return error(check, f'they are {abs(age):.4g} s off, from another clock',
                     'for simulated time add `--ros-args -p use_sim_time:=true`, and '
                     'use_sim_time:=true to the launch; otherwise let the driver stamp by the '
                     'system time')
    remedy = clock_remedy(age, 'driver', 'its messages')
    if trigger and not -trigger.max_lead <= age <= trigger.oldest:
        return error(check, f'{said}; the agent drops such frames', remedy)
    if not trigger and abs(age) > settings.oldest:
        return error(check, f'{said}, and the agent takes none beyond {settings.oldest:g} s '
                     f'(inputs.{name}.oldest)', remedy)
    if behind := int((np.diff(stamps) < 0).sum()):
        return warning(check, f'{behind} of {len(stamps)} are earlier than the one before',
                       'let one driver publish, each measurement once')
    if not 0 <= age <= GREATEST_AGE:
        return warning(check, said, remedy)
    return ok(check, f'ascending; {age * 1e3:.1f} ms old on arrival (median)')


def lag_of(arrived: Arrived) -> float:
    """Return the median of arrival minus stamp [s]."""
    return float(np.median([(one.arrival_ns - one.stamp_ns) / 1e9 for one in arrived]))


def check_clocks(arrived: Mapping[str, Arrived]) -> list[Finding]:
    """Hold the stamps of all inputs against each other, as computers have a clock each."""
    lags = {name: lag_of(messages) for name, messages in arrived.items()
            if messages and all(one.stamp_ns for one in messages)}
    if len(lags) < 2:
        return []
    latest, earliest = max(lags, key=lags.__getitem__), min(lags, key=lags.__getitem__)
    apart = lags[latest] - lags[earliest]
    if apart <= CLOCKS_APART:
        return [ok('clocks', f'{", ".join(lags)} are on their way for about as long')]
    return [warning('clocks', f"messages of '{latest}' are {apart:.3f} s older on arrival than "
                    f"those of '{earliest}' (medians)", 'if their drivers are on different '
                    'computers, synchronise the clocks (chrony); if not, find what delays '
                    f"'{latest}', or set stamp: arrival for it")]


def check_values(name: str, settings: InputSettings, arrived: Sequence[ArrivedMessage],
                 conversion: Any) -> Finding:
    """Judge whether the fields are there, and within what the network was told of them."""
    check = f'{name} values'
    if bad := [one.fault for one in arrived if one.fault]:
        said, remedy = split_remedy(bad[0])
        return error(check, f'{len(bad)} of {len(arrived)} cannot be used: {said}', remedy or
                     f'correct inputs.{name}, or its driver')
    if settings.is_depth:
        seen = [one.values for one in arrived]
        return ok(check, f'{seen[-1].width} x {seen[-1].height}, of which '
                  f'{np.mean([one.measured for one in seen]):.0%} measure something')
    try:
        for one in arrived:
            conversion(one.values)
    except ConversionError as fault:
        return from_sentence(check, fault)
    if settings.kind == 'scan':
        return judge_scans(check, settings, [one.values for one in arrived])
    return judge_numbers(name, settings, np.array([one.values for one in arrived]))


def judge_scans(check: str, settings: InputSettings, scans: Sequence[Scan]) -> Finding:
    """Say how many rays measure something; warn of a scanner that is covered or blind."""
    measured = np.mean([np.mean((scan.ranges >= scan.range_min) & (scan.ranges <= scan.range_max))
                        for scan in scans])
    scan = scans[-1]
    said = (f'{len(scan.ranges)} rays of {scan.range_min:g} to {scan.range_max:g} m, of which '
            f'{measured:.0%} measure something; the network sees {settings.angle_min:g} to '
            f'{settings.angle_max:g} rad up to {settings.high[0]:g} m')
    if not measured:
        return warning(check, said, 'look whether the scanner turns, and what is before it')
    return ok(check, said)


def judge_numbers(name: str, settings: InputSettings, values: np.ndarray) -> Finding:
    """Say between which values each field was; warn of those that are cut off."""
    ends = [of_each(one, settings.fields) for one in (settings.low, settings.high)]
    units = of_each(settings.units, settings.fields)
    cut, said = [], []
    for field, unit, first, last, column in zip(settings.fields, units, *ends, values.T):
        low, high = sorted((first, last))
        said.append(f'{field} {column.min():.4g} to {column.max():.4g} {unit}')
        if share := float(np.mean((column < low) | (column > high))):
            cut.append(f'{field} is outside {low:g} to {high:g} {unit} in {share:.0%} of the '
                       f'messages ({column.min():.4g} to {column.max():.4g})')
    if cut:
        return warning(f'{name} values', '; '.join(cut), 'the network sees all of these as the '
                       f'same: widen low and high of inputs.{name}, and train with that')
    return ok(f'{name} values', ', '.join(said))


def as_unused(found: Finding) -> Finding:
    """Return a finding about an input that the policy does not read: no error."""
    if found.level is not Severity.ERROR:
        return found
    return warning(found.check, f'{found.said} (the policy does not read it)', found.remedy)


def check_joints(names: Sequence[str], quantity: str, lowest: Sequence[float],
                 highest: Sequence[float], topic: str, measured: Mapping[str, float] | None
                 ) -> Finding:
    """
    Judge whether what is commanded is measured, and where it is now.

    :param topic: Of the measured positions, with its namespace.
    :param measured: The last position of each joint, by name; None if none came.
    """
    holds = quantity == 'position'
    bad = error if holds else warning
    if measured is None:
        return bad('joints', f"no joint states on '{topic}'"
                   + ', without which the gate moves nothing' * holds,
                   'start joint_state_broadcaster, or set output.measured_topic')
    absent = [name for name in names if not math.isfinite(measured.get(name, math.nan))]
    if absent:
        return bad('joints', f"'{topic}' has no position of {', '.join(absent)}; it has "
                   f"{', '.join(sorted(measured))}", 'correct output.names, which are those of '
                   'the controller')
    outside = [f'{name} at {measured[name]:.4g} ({low:g} to {high:g})'
               for name, low, high in zip(names, lowest, highest)
               if not low <= measured[name] <= high]
    if holds and outside:
        return warning('joints', f"outside of what may be commanded: {', '.join(outside)}",
                       'the first commands lead them inside, at max_rate: move them there by '
                       'hand, or correct output.lowest and output.highest')
    return ok('joints', ', '.join(f'{name} at {measured[name]:.4g}' for name in names))
