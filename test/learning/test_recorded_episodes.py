"""Recordings of several inputs as episodes, and policies that know their own last commands."""

import numpy as np
import pytest
from stream_agent.contract.conversions import CommandsInput, OutputScale
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.learning.cloning import predict
from stream_agent.learning.recorded_episodes import own_commands, targets_of
from stream_agent.learning.window_sampler import RecordedEpisode
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import newest_image_pattern, streaming_pattern
import torch

OWN = graph_from_data({
    'nodes': {'seen': {'shape': [1]}, 'last': {'shape': [2]}, 'command': {'shape': [1]}},
    'edges': ['seen->command', 'last->command'], 'output': 'command'})


@pytest.mark.parametrize('count', [1, 2, 5])
def test_own_commands_are_those_of_the_frames_before_the_newest_first(count):
    targets = np.random.default_rng(0).uniform(-1.5, 1.5, (9, 2)).astype(np.float32)
    conversion = CommandsInput(count, 2)
    found = own_commands(targets, conversion)
    assert found.dtype == np.float32 and found.shape == (9, conversion.size)
    for i in range(9):
        np.testing.assert_array_equal(found[i], conversion(targets[:i][::-1]))


def test_targets_are_what_would_command_so():
    commands = np.array([[0.25, -1.0], [0.5, 2.0]])
    for limits in (CommandScale(0.5, 2.0),
                   OutputScale(('a', 'b'), ('rad', 'm'), (-1.0, -2.0), (3.0, 2.5))):
        found = targets_of(commands, limits)
        assert found.dtype == np.float32
        for target, command in zip(found, commands):
            np.testing.assert_allclose(limits.command(target), command, rtol=1e-6)


def network_of(pattern):
    """Return a network that gives what it sees, and half of its last but one command."""
    network = RolloutNetwork(OWN, pattern(OWN))
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
            if value.shape == (1, 1):
                value[0, 0] = 1.0
            elif value.shape == (1, 2):
                value[0, 1] = 0.5
    return network


def episode_of(seen):
    values = np.array(seen, np.float32)[:, np.newaxis]
    return RecordedEpisode('', {'seen': values, 'last': np.full((len(seen), 2), 9, np.float32)},
                           np.arange(len(seen)), values)


def test_a_policy_is_judged_by_its_own_last_commands_not_the_driver_s():
    seen = [0.5, 0.25, -0.5, 0.0, 0.5]
    found = predict(network_of(newest_image_pattern), episode_of(seen),
                    own={'last': CommandsInput(2, 1)})[:, 0]
    wanted = []
    for i, value in enumerate(seen):
        wanted.append(value + (0.5 * wanted[i - 2] if i >= 2 else 0.0))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    # With one pass late, the newest known is the one before.
    late = predict(network_of(newest_image_pattern), episode_of(seen),
                   own={'last': CommandsInput(2, 1)}, known=[0, 0, 1, 2, 3])[:, 0]
    wanted = []
    for i, value in enumerate(seen):
        wanted.append(value + (0.5 * wanted[i - 3] if i >= 3 else 0.0))
    np.testing.assert_allclose(late, wanted, atol=1e-6)


def test_what_does_not_depend_on_what_is_seen_is_no_command_of_its_own():
    # Each edge streams: the first output is no answer, and is not known later, either.
    found = predict(network_of(streaming_pattern), episode_of([0.5, 0.25, -0.5, 0.0, 0.5]),
                    own={'last': CommandsInput(2, 1)})[:, 0]
    # Frame 3 knows the commands 1 and 2, of which 1 is the last but one; that is out in frame 4.
    np.testing.assert_allclose(found, [0.0, 0.5, 0.25, -0.5, 0.0 + 0.5 * 0.5], atol=1e-6)
