"""When rollouts answer: the update steps of the paper's figures, and outputs that are held."""

from dataclasses import replace

import numpy as np
import pytest
from stream_agent.cli.arguments import open_graph
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.information import images_seen
from stream_agent.theory.patterns import streaming_pattern
from studies.noisy.experiments import EXPERIMENTS
from studies.noisy.results import held, published_curves
from studies.noisy.task import pattern_named, WindowOutputs
import torch

CASES = [(experiment, network, rollout) for experiment in ('noisy-mnist', 'noisy-cifar10')
         for network in EXPERIMENTS[experiment].networks
         for rollout in EXPERIMENTS[experiment].rollouts[network]]


def outputs_of(experiment, network, rollout):
    graph = open_graph(EXPERIMENTS[experiment].networks[network])
    pattern = pattern_named(graph, EXPERIMENTS[experiment].rollouts[network][rollout])
    return WindowOutputs(graph, pattern)


@pytest.mark.parametrize('experiment, network, rollout', CASES)
def test_the_steps_are_those_of_the_published_curves(experiment, network, rollout):
    (curve,) = [curve for curve in published_curves()
                if (curve.network, curve.rollout) == (network, rollout)]
    outputs = outputs_of(experiment, network, rollout)
    # Of most densely connected networks one step is published, of the first sequential output.
    assert (outputs.steps == curve.steps if len(curve.steps) > 1
            else curve.steps[0] in outputs.steps)
    assert rollout != 'sequential' or outputs.steps[0] == curve.steps[0]


@pytest.mark.parametrize('rollout, frames, steps', [
    ('streaming', range(2, 10), range(2, 10)), ('sequential', range(1, 9), range(3, 25, 3)),
    ('hybrid', range(2, 10), range(3, 18, 2))])
def test_worked_example_sr(rollout, frames, steps):
    outputs = outputs_of('noisy-mnist', 'SR', rollout)
    assert outputs.frames == list(frames)
    assert outputs.steps == list(steps)


def test_a_streaming_rollout_with_its_first_image_in_frame_0_depends_on_as_many_images():
    outputs = outputs_of('noisy-mnist', 'SR', 'streaming')
    ours = images_seen(outputs.graph, outputs.pattern, 5)
    papers = images_seen(outputs.graph, streaming_pattern(outputs.graph), 5)
    # Frame 0 has no image in a window of ours.
    assert [len(ours[i, 'out'] - {0}) for i in range(1, 6)] == [
        len(papers[i, 'out']) for i in range(1, 6)] == [0, 1, 2, 3, 4]


def test_a_window_has_its_first_answer_where_the_theory_says(one_thread):
    """Another image changes the outputs from there on, and none before."""
    outputs = outputs_of('noisy-mnist', 'SR', 'hybrid')
    network = RolloutNetwork(outputs.graph, outputs.pattern).eval()
    frames = torch.rand(2, outputs.window, 1, 28, 28)
    found, _ = network(frames, network.initial_state(2))
    differ = [not torch.equal(*found[:, i]) for i in range(outputs.window)]
    assert differ == [i >= outputs.skipped for i in range(outputs.window)]
    assert outputs.of(network, frames).shape[:2] == (2, 8)


def test_fewer_outputs_make_shorter_windows():
    outputs = outputs_of('noisy-cifar10', 'DSR2', 'streaming')
    assert outputs.window == 11
    assert replace(outputs, count=2).steps == [4, 5]


def test_an_output_holds_until_the_next():
    np.testing.assert_equal(held([2, 5], np.array([0.3, 0.6]), 7),
                            [np.nan, 0.3, 0.3, 0.3, 0.6, 0.6, 0.6])
