"""Learning from recordings: the walk of the streams, the loss, resuming, and what is learnt."""

from dataclasses import replace
import signal

import numpy as np
import pytest
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.learning.augmentation import Augmentation, sideways
from stream_agent.learning.cloning import CloningLearner, predict, r2_score
from stream_agent.learning.held_out import assign_folds
from stream_agent.learning.settings import CloningSchedule, TrainerOptions
from stream_agent.learning.trainer import Trainer
from stream_agent.learning.window_sampler import RecordedEpisode, WindowSampler
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing, scale
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import (
    newest_image_pattern, sequential_pattern, streaming_pattern)
import torch

pytestmark = pytest.mark.usefixtures('one_thread')
GRAPH = graph_from_data({
    'nodes': {'image': {'shape': [1, 6, 8]}, 'seen': {'shape': [12], 'activation': 'relu'},
              'memory': {'shape': [6], 'cell': 'gilr'},
              'command': {'shape': [2], 'activation': 'tanh'}},
    'edges': ['image->seen', 'seen->memory', 'memory->command', 'seen->command',
              {'source': 'memory', 'target': 'memory', 'transform': 'identity',
               'streams': True}],
    'output': 'command'})
SCHEDULE = CloningSchedule(epochs=10, streams=4, window=5, learning_rate=0.01)


def network_of(pattern=newest_image_pattern, seed=3):
    torch.manual_seed(seed)
    return RolloutNetwork(GRAPH, pattern(GRAPH))


def episode(length, seed, late=0):
    """Make frames with a bright column; steering follows the column ``late`` frames before."""
    generator = np.random.default_rng(seed)
    columns = generator.integers(0, 8, length)
    pixels = np.zeros((length, 1, 6, 8), np.uint8)
    pixels[np.arange(length), 0, :, columns] = 255
    steering = np.roll((columns - 3.5) / 4, late)
    steering[:late] = 0
    return RecordedEpisode('', {'image': pixels}, np.arange(length),
                           np.stack([np.full(length, 0.5), steering], 1).astype(np.float32))


def learner_of(network, episodes=None, augmentation=None, schedule=SCHEDULE):
    episodes = episodes or [episode(length, length) for length in (17, 9, 33)]
    return CloningLearner(network, Preprocessing((1, 6, 8)), CommandScale(1.0, 1.0), episodes,
                          schedule, augmentation, seed=5)


def test_streams_walk_through_every_episode_in_order_and_visit_all():
    lengths = [17, 3, 33, 8]
    streams = WindowSampler(lengths, 3, window=5, seed=0)
    last = [None] * 3
    visits = {}
    for _ in range(60):
        for i, place in enumerate(streams.advance()):
            if place.walked:
                assert (place.episode, place.visit) == (last[i].episode, last[i].visit)
                assert place.first == last[i].first + last[i].length
                assert last[i].length == 5
            elif last[i]:
                assert last[i].first + last[i].length == lengths[last[i].episode]
                assert place.first < 5
            assert 1 <= place.length <= 5
            visits[place.visit] = place.episode
            last[i] = place
    order = [visits[visit] for visit in sorted(visits)]
    epochs = [order[i:i + 4] for i in range(0, len(order) - 4, 4)]
    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_the_state_after_a_window_begins_the_next_and_starts_are_without():
    """Outputs of windows are those of the whole episode in one piece."""
    network = network_of()
    learner = learner_of(network)
    found = {}
    for step in range(12):
        places = learner._sampler.advance()
        frames, _ = learner._windows(places)
        with torch.no_grad():
            outputs, learner._state = network(frames, learner._initial_state(places))
        for place, output in zip(places, outputs):
            found.setdefault((place.visit, place.episode, place.first - place.walked), []).append(
                output[:place.length])
    assert len(found) > 6
    for (_, number, start), parts in found.items():
        whole = learner.episodes[number].observations(slice(start, None))['image']
        frames = scale(torch.from_numpy(whole)).unsqueeze(0)
        expected, _ = network(frames, network.initial_state())
        parts = torch.cat(parts)
        torch.testing.assert_close(parts, expected[0, :len(parts)], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('pattern', [newest_image_pattern, streaming_pattern])
def test_the_loss_is_the_mean_over_frames_that_exist_and_answer(pattern):
    network = network_of(pattern)
    learner = learner_of(network)
    late = 2 if pattern is streaming_pattern else 1
    for step in range(8):
        before = learner.state_dict()
        places = learner._sampler.advance()
        state = learner._initial_state(places)
        learner.load_state_dict(*before)
        total = count = 0
        for i, place in enumerate(places):
            frames = scale(torch.from_numpy(learner.episodes[place.episode].observations(
                slice(place.first, place.first + place.length))['image'])).unsqueeze(0)
            mine = replace(state, values={name: value[i:i + 1]
                                          for name, value in state.values.items()})
            outputs, _ = network(frames, mine)
            targets = torch.from_numpy(learner.episodes[place.episode].targets[
                place.first:place.first + place.length])
            errors = (outputs[0] - targets) ** 2 @ torch.tensor(SCHEDULE.weights)
            errors = errors[max(0, late - place.walked):]
            total, count = total + errors.sum(), count + len(errors)
        torch.testing.assert_close(learner.loss(step), total / count, atol=1e-5, rtol=1e-5)


def test_the_mean_over_processes_is_the_loss_of_one(monkeypatch):
    network = network_of()
    alone = learner_of(network)
    shares = []
    for rank in range(2):
        monkeypatch.setenv('WORLD_SIZE', '2')
        monkeypatch.setenv('RANK', str(rank))
        shares.append(learner_of(network))
    for step in range(7):
        losses = []
        for rank, learner in enumerate(shares):
            monkeypatch.setenv('WORLD_SIZE', '2')
            monkeypatch.setenv('RANK', str(rank))
            losses.append(learner.loss(step).item())
        monkeypatch.delenv('WORLD_SIZE')
        assert alone.loss(step).item() == pytest.approx(sum(losses) / 2, abs=1e-6)


def test_gradients_stay_inside_a_window():
    learner = learner_of(network_of())
    for step in range(2):
        learner.loss(step).backward()
    assert not any(value.requires_grad for value in learner.state_dict()[0].values())


def test_what_only_memory_can_know_is_learnt():
    """The steering follows the column of the frame before."""
    episodes = [episode(60, seed, late=1) for seed in range(12)]
    held_out = episode(60, 99, late=1)
    schedule = replace(SCHEDULE, epochs=15, streams=6, window=12, learning_rate=0.02)
    network = network_of()
    Trainer(learner_of(network, episodes, schedule=schedule),
            TrainerOptions(schedule.steps(12 * 60), schedule.learning_rate, quiet=True),
            None).run()
    assert r2_score(held_out.targets, predict(network, held_out, chunk=7))[1] > 0.8


def test_a_resumed_training_ends_as_if_it_had_never_stopped(tmp_path):
    def trained(folder, stop_at=None):
        network = network_of()
        options = TrainerOptions(steps=14, learning_rate=0.01, quiet=True)
        trainer = Trainer(learner_of(network, augmentation=Augmentation()), options, folder)
        outcome = trainer.run(
            lambda step, _: step == stop_at and signal.raise_signal(signal.SIGINT))
        assert outcome.step == (14 if stop_at is None else stop_at + 2)
        return network.state_dict()
    trained(tmp_path, stop_at=5)
    again, whole = trained(tmp_path), trained(None)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_left_and_right_are_exchanged_with_the_sign_of_the_steering():
    frames = torch.zeros(2, 3, 1, 2, 4)
    frames[..., 1] = 0.4
    targets = torch.tensor([0.5, 0.3]).expand(2, 3, 2)
    augmentation = Augmentation(steering_per_shift=0.8)
    seen, answer = augmentation.applied(frames, targets, [(0.0, 1.0, 0.0, True),
                                                          (0.05, 0.5, 0.25, False)])
    np.testing.assert_allclose(seen[0, :, 0, 0], [[0, 0, 0.4, 0]] * 3, atol=1e-6)
    np.testing.assert_allclose(answer[0], [[0.5, -0.3]] * 3, atol=1e-6)
    np.testing.assert_allclose(seen[1, :, 0, 0], [[0.25, 0.05, 0.05, 0.05]] * 3, atol=1e-6)
    np.testing.assert_allclose(answer[1], [[0.5, 0.5]] * 3, atol=1e-6)


def test_a_shift_and_a_mirror_repeat_the_border():
    frames = torch.arange(5.0).expand(1, 1, 1, 1, 5)
    mirrored = torch.tensor([True])
    assert sideways(frames, torch.tensor([-0.4]), ~mirrored).flatten().tolist() == [0, 0, 0, 1, 2]
    assert sideways(frames, torch.tensor([-0.4]), mirrored).flatten().tolist() == [2, 1, 0, 0, 0]


def test_a_walk_sees_one_change_and_training_alone():
    augmentation = Augmentation(shift=0.1)
    assert augmentation.draw(1, 7) == augmentation.draw(1, 7) != augmentation.draw(1, 8)
    assert {augmentation.draw(1, visit)[3] for visit in range(20)} == {True, False}


def test_folds_hold_whole_recordings_out_and_are_of_one_size():
    names = ['a', 'b', 'a', 'c', 'd', 'e', 'f']
    lengths = [300, 500, 200, 400, 150, 100, 90]
    folds = assign_folds(names, lengths, 3)
    assert folds[0] == folds[2]
    totals = [sum(length for length, fold in zip(lengths, folds) if fold == k) for k in range(3)]
    assert totals == [590, 590, 560] or max(totals) - min(totals) <= 100
    with pytest.raises(ValueError) as error:
        assign_folds(['a', 'a', 'b'], [1, 2, 3], 3)
    assert str(error.value) == ('2 recordings cannot be divided into 3 folds; give more '
                                'recordings, or ask for fewer folds')


def test_determination():
    targets = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    found = r2_score(targets, np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    assert found[0] == 0 and np.isnan(found[1])
    # The mean of so many 0.01 in float32 is not 0.01.
    equal = np.full((24, 2), 0.01, np.float32)
    assert np.isnan(r2_score(equal, np.zeros_like(equal))).all()


def test_windows_that_would_put_a_schedule_out_of_step():
    data = {'nodes': {'image': {'shape': [1, 6, 8]}, 'slow': {'shape': [4], 'period': 3},
                      'command': {'shape': [2]}},
            'edges': ['image->slow', 'slow->command', 'image->command'], 'output': 'command'}
    graph = graph_from_data(data)
    with pytest.raises(ValueError) as error:
        learner_of(RolloutNetwork(graph, sequential_pattern(graph)))
    assert str(error.value) == ('--window 5: the graph repeats itself every 3 update steps; use a '
                                'multiple of 3')
