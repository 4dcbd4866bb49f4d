"""Layers that recognise signs learn before a policy drives; a memory is told what they mean."""

from dataclasses import replace
import math
from pathlib import Path

import numpy as np
import pytest
from stream_agent.cli.arguments import robot_settings
from stream_agent.driving.compute_model import ComputeModel, Timeline, Work
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.learning.imitation import filled
from stream_agent.learning.policy_sources import FromExpert, signs_folder
from stream_agent.learning.recognition import (
    cells_of, CLASSES, look_around, NOT_JUDGED, recogniser_of, Recognition, SignReader, soften,
    train_recogniser, Views)
from stream_agent.learning.settings import (
    FrameCrop, ImitationSchedule, RecognitionSchedule, SIGNS_SCHEDULE, TrainingError)
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing, scale
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.share import share_folder
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.signs import plates_seen, SPEEDS
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern
import torch

ROAD = robot_settings('reflex')
BRIEF = RecognitionSchedule(views=100, recognition_steps=3)
WHOLE = Preprocessing((1, 48, 64))


def network_of(pattern=sequential_pattern):
    graph = load_graph(share_folder() / 'config' / 'graphs' / 'reflex.yaml')
    torch.manual_seed(1)
    return RolloutNetwork(graph, pattern(graph))


def never():
    return False


def test_the_recogniser_is_what_leads_to_the_deepest_feature_maps():
    recogniser = recogniser_of(network_of())
    assert list(recogniser.graph.by_name) == [
        'image', 'layer1', 'layer2', 'layer3', 'layer4', 'layer5', 'glyphs']
    assert recogniser.shapes['glyphs'] == (24, 6, 8)
    lane = load_graph(share_folder() / 'config' / 'graphs' / 'mnist_s.yaml')
    assert recogniser_of(RolloutNetwork(lane, sequential_pattern(lane))) is None


@pytest.mark.parametrize('crop', [0.0, 0.1])
def test_cells_have_the_class_of_the_nearest_sign_whose_middle_is_in_them(crop):
    environment, size = DrivingEnvironment(ROAD, 3), (6, 8)
    environment.place(arc_length=4.2, speed=1.0)
    frame = environment.look()
    wanted = np.zeros(size, int)
    ahead = environment.scene.signs.plates_ahead(frame.along)
    for plate, corners in plates_seen(environment.scene.camera, frame.pose, ahead):
        x, y = corners.mean(axis=0) + 0.5
        row, column = math.floor((y - 48 * crop) / (48 * (1 - crop)) * 6), math.floor(x / 8)
        if 0 <= row < 6 and 0 <= column < 8:
            wide = np.linalg.norm(corners[1] - corners[0]) >= 6.0
            wanted[row, column] = CLASSES.index(plate.glyph) if wide else NOT_JUDGED
    assert (wanted > 0).any()
    found = cells_of(frame, environment, Preprocessing((1, 48, 64), crop), size)
    np.testing.assert_array_equal(found, wanted)


def test_views_are_the_same_by_seed_and_others_by_another():
    first, again, other = (look_around(ROAD, WHOLE, (6, 8), 5, seed) for seed in (1, 1, 2))
    assert torch.equal(first.pixels, again.pixels) and torch.equal(first.cells, again.cells)
    assert not torch.equal(first.pixels, other.pixels)


def test_what_was_learnt_is_frozen_and_shared_with_other_patterns(tmp_path):
    first, second = network_of(), network_of(newest_image_pattern)
    before = first.get_parameter('transforms.layer1-layer2.weight').clone()
    shares = [Recognition(network, ROAD, WHOLE, BRIEF, 1, tmp_path / 'signs').learn(never)
              for network in (first, second)]
    assert shares[0] == shares[1] and 0.0 <= shares[0] <= 1.0
    (file,) = (tmp_path / 'signs').iterdir()
    learnt = first.get_parameter('transforms.layer1-layer2.weight')
    assert not torch.equal(learnt, before)
    assert torch.equal(learnt, second.get_parameter('transforms.layer1-layer2.weight'))
    frozen = {name.split('.')[1] for name, weight in first.named_parameters()
              if not weight.requires_grad}
    assert 'layer5-glyphs' in frozen and not {'image-sight', 'glyphs-signs'} & frozen
    # Another schedule is another training.
    Recognition(second, ROAD, WHOLE, replace(BRIEF, recognition_steps=4), 1,
                tmp_path / 'signs').learn(never)
    assert len(list((tmp_path / 'signs').iterdir())) == 2


@pytest.mark.parametrize('steps', [1, 2, 10, 11])
def test_any_number_of_steps_is_taken(steps):
    recogniser = recogniser_of(network_of())
    views = Views(torch.zeros(3, 1, 48, 64, dtype=torch.uint8),
                  torch.ones(3, 6, 8, dtype=torch.int64))
    asked = []
    assert train_recogniser(recogniser, torch.nn.Conv2d(24, len(CLASSES), 1), views, steps, 1,
                            lambda: bool(asked.append(steps)))
    assert len(asked) == steps


def test_a_stop_leaves_nothing_behind(tmp_path):
    answers = iter([False, True])
    recognition = Recognition(network_of(), ROAD, WHOLE, BRIEF, 1, tmp_path)
    assert recognition.learn(lambda: next(answers)) is None
    assert not list(tmp_path.iterdir())


def test_the_reader_s_loss_reaches_the_memory_and_knows_the_speed():
    network, limits = network_of(), CommandScale(2.5, 5.0)
    reader = SignReader(network, 0.5)
    frames = torch.randint(0, 256, (2, 5, 1, 48, 64), dtype=torch.uint8)
    window = network.window(scale(frames), network.initial_state(2))
    targets = torch.zeros(2, 5, 2)
    targets[..., 0] = SPEEDS[2] / limits.max_speed
    reader._linear.weight.data.zero_()
    reader._linear.bias.data = torch.tensor([0.0, 0.0, 50.0, 0.0])
    assert reader.loss(window, limits, targets, 2).item() == 0.0
    reader._linear.bias.data.zero_()
    loss = reader.loss(window, limits, targets, 2)
    assert loss.item() == pytest.approx(0.5 * math.log(len(SPEEDS)))
    reader._linear.weight.data.fill_(0.1)
    reader._linear.weight.data[2] = -0.1
    reader.loss(window, limits, targets, 2).backward()
    assert network.get_parameter('transforms.glyphs-signs.1.linear.weight').grad.abs().max() > 0


def test_only_edges_into_the_output_are_softened():
    network, other = network_of(), network_of()
    soften(network)
    for (name, weight), before in zip(network.named_parameters(), other.parameters()):
        factor = 0.1 if '-command.' in name else 1.0
        assert torch.allclose(weight, factor * before), name


@pytest.mark.parametrize('period, burn_in, loss', [(1, 90, 90), (6, 15, 15)])
def test_windows_are_of_as_much_road_whatever_the_rate(period, burn_in, loss):
    network = network_of()
    timeline = Timeline((Work(0.0, period / 60.0),), 1 / 60.0)
    found = filled(SIGNS_SCHEDULE, network.graph, network.pattern, timeline)
    assert (found.burn_in, found.window) == (burn_in, burn_in + loss)


@pytest.mark.slow
def test_signs_are_learnt_from_only_where_there_are_any(tmp_path):
    learner = FromExpert(ROAD, schedule=replace(SIGNS_SCHEDULE, loss_time=0.0), crop=FrameCrop(),
                         recognition=BRIEF).learner(network_of(), 'a', 1, tmp_path / 'a')
    assert learner.prepare(0) and 0.0 <= learner.provenance()['signs_recognised'] <= 1.0
    assert list(signs_folder(tmp_path).iterdir())
    plain = FromExpert(replace(ROAD, signs=False), schedule=ImitationSchedule(
        environments=1, frames=30), crop=FrameCrop()).learner(network_of(), 'b', 1, None)
    assert plain.prepare(0) and 'signs_recognised' not in plain.provenance()


def test_a_smaller_network_takes_its_share_of_the_whole_one():
    graph = load_graph(share_folder() / 'config' / 'graphs' / 'reflex.yaml')
    source = FromExpert(ROAD, computer=ComputeModel(pass_periods=6.4, costs=Path('reflex_costs')))
    small, pattern = source.rollout(graph, 'smaller')
    assert len(small.nodes) < len(graph.nodes)
    timing = source.timing_of('smaller', small, pattern)
    # Of nine nodes that cost the same, two or less are left of 6.4 periods.
    assert timing.figures.latency < ROAD.period
    with pytest.raises(TrainingError, match='add --costs'):
        replace(source, computer=ComputeModel(pass_periods=6.4)).rollout(graph, 'smaller')
