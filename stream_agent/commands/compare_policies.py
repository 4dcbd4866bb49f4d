"""Policies that recordings are replayed to: their names, their units, and their engines."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path
import re

from stream_agent.commands.compare_remarks import plural, QUANTITIES
from stream_agent.commands.compare_replay import Player
from stream_agent.engine.engine import Engine
from stream_agent.network.checkpoint import Policy
from stream_agent.recordings.recording import Recording

# What makes recordings of the second kind those of the first.
REMEDIES = {('yaw rate', 'steering angle'): 'give --wheelbase METRES to turn steering angles into '
            'yaw rates'}


def labels_of(paths: Sequence[Path]) -> list[str]:
    """Return names for policies: their files', with the folder's where several are called so."""
    stems = Counter(path.stem for path in paths)
    names = [path.stem if stems[path.stem] == 1 else f'{path.parent.name}_{path.stem}'
             for path in paths]
    # Rows are lines with commas, and a plot's legend hides what begins with an underscore.
    names = [re.sub(r'[^\w.+-]', '_', name).strip('_') or 'policy' for name in names]
    labels: list[str] = []
    for name in names:
        numbered = (f'{name}_{number}' for number in count(2))
        labels.append(next(label for label in chain([name], numbered) if label not in labels))
    return labels


def check_steering(policies: Mapping[Path, Policy], recordings: Sequence[Recording]) -> None:
    """
    Refuse policies that are known to steer by another quantity than the recorded drivers.

    :param policies: By their files.
    :param recordings: All of one kind.
    :raises ValueError: If there is one.
    """
    kind = recordings[0].commands.steering
    for path, policy in policies.items():
        if policy.steering in ('', kind):
            continue
        others = (f' and {plural(len(recordings) - 1, "other recording")}'
                  if len(recordings) > 1 else '')
        remedy = REMEDIES.get((policy.steering, kind),
                              'give a policy that was trained on recordings like these')
        raise ValueError(
            f"policy '{path}' steers by {QUANTITIES.get(policy.steering, policy.steering)}, the "
            f"driver of '{recordings[0].path}'{others} by {QUANTITIES[kind]}; {remedy}, or leave "
            'the policy out')


def make_player(name: str, policy: Policy, arguments: argparse.Namespace) -> Player:
    """Make a policy answer, and take its slow first steps."""
    engine = Engine(policy.network, arguments.device, policy.updates_per_frame,
                    executor=arguments.executor, threads=arguments.threads)
    engine.warm_up()
    return Player(name, policy, engine)
