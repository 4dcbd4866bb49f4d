"""What a network learns from: the images it took, and what the expert does as answers act."""

from dataclasses import replace

import numpy as np
import pytest
from stream_agent.command import Command
from stream_agent.driving.compute_model import immediate, Timeline, Work
from stream_agent.driving.drivers import CommandRows, NetworkDriver
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.learning.imitation import Collector, EpisodeLog
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.theory.patterns import sequential_pattern
import torch

SMALL = graph_from_data({
    'nodes': {'image': {'shape': [1, 12, 16]}, 'command': {'shape': [2], 'activation': 'tanh'}},
    'edges': [{'source': 'image', 'target': 'command', 'transform': 'dense'}],
    'output': 'command'})
# Without noise, images are the same whether those before them were taken or not.
SETTINGS = SimulationSettings(width_px=32, height_px=24, noise=0.0, light=0.0)
LIMITS = CommandScale(1.0, 2.0)
COLLECTOR = Collector(SETTINGS, Preprocessing((1, 12, 16)), LIMITS, environments=2, frames=40,
                      most_delay=0.0)
PERIOD = SETTINGS.period


def collect(collector, expert_drives=True, yaw_rate=0.0):
    torch.manual_seed(0)
    network = RolloutNetwork(SMALL, sequential_pattern(SMALL))
    torch.nn.init.zeros_(network.transforms['image-command'].linear.weight)
    network.transforms['image-command'].linear.bias.data = torch.tensor([2.0, yaw_rate])
    return collector.collect(network, expert_drives, np.random.default_rng(5))


@pytest.mark.parametrize('work, aim', [(Work(0.4, 0.4), 0.0), (Work(2.5, 1.6), 0.8),
                                       (Work(3.0, 1.0), 0.0), (Work(6.4, 6.4), 3.2)])
def test_the_target_is_what_the_expert_commands_as_the_answer_acts(work, aim):
    # The expert drives, so what happens does not depend on when answers come.
    at_once, _ = collect(replace(COLLECTOR, frames=60, timeline=immediate(PERIOD)))
    timeline = Timeline((Work(work.response * PERIOD, work.busy * PERIOD),), PERIOD)
    late, _ = collect(replace(COLLECTOR, frames=7, timeline=timeline, aim=aim * PERIOD))
    for expected, found in zip(at_once, late):
        assert len(found) >= 4
        times = np.arange(len(expected)) * PERIOD
        for taken, pixels, target in zip(timeline, found.observations['image'], found.targets):
            assert (pixels == expected.observations['image'][taken.image]).all()
            right_at = taken.answer + aim * PERIOD
            assert target == pytest.approx([
                np.interp(right_at, times, values) for values in zip(*expected.targets)])


def test_the_default_takes_and_answers_every_image_at_once():
    default, departures = collect(COLLECTOR)
    at_once, _ = collect(replace(COLLECTOR, timeline=immediate(PERIOD)))
    assert departures == 0
    assert [len(episode) for episode in default] == [40, 40]
    assert [episode.targets for episode in default] == [episode.targets for episode in at_once]


def test_the_first_drives_are_those_of_the_shipped_policies():
    """Courses, delays and places come from the same random numbers as when these were trained."""
    collector = Collector(SimulationSettings(), COLLECTOR.preprocessing, LIMITS, environments=2,
                          frames=25)
    network = RolloutNetwork(SMALL, sequential_pattern(SMALL))
    first, second = collector.collect(network, True, np.random.default_rng([1, 0, 0]))[0]
    assert [first.targets[i][1] for i in (0, 12, 24)] == pytest.approx(
        [0.3919, 0.2376, 0.0208], abs=1e-4)
    assert [second.targets[i][1] for i in (0, 12, 24)] == pytest.approx(
        [0.1444, 0.0993, 0.0215], abs=1e-4)


def test_a_departure_ends_an_episode_and_nothing_in_flight_lives_on():
    timeline = Timeline((Work(5 * PERIOD, PERIOD),), PERIOD)
    collector = replace(COLLECTOR, frames=120, timeline=timeline, handover=20 * PERIOD)
    episodes, departures = collect(collector, expert_drives=False, yaw_rate=1.0)
    assert departures == len(episodes) - 2 >= 4
    # Every start is the expert's, so no drive is shorter than its part of it.
    assert min(len(episode) for episode in episodes[:departures]) >= 20 - 5


def test_the_network_sees_the_commands_that_were_out_when_it_took_the_image():
    timeline = Timeline((Work(2.5 * PERIOD, PERIOD),), PERIOD)
    rows = CommandRows(count=4)
    (episode, _), _ = collect(replace(COLLECTOR, frames=8, timeline=timeline, command_rows=rows),
                              expert_drives=False, yaw_rate=0.1)
    blocks = [pixels[0, -1, ::4].tolist() for pixels in episode.observations['image']]
    level = round(127.5 + 127.5 * np.tanh(0.1))
    # An answer is out 2.5 periods after its image, so the fourth image is the first to know one.
    assert blocks == [[level] * known + [128] * (4 - known) for known in (0, 0, 0, 1, 2)[
        :len(blocks)]]
    assert len(blocks) == 5


def test_targets_are_interpolated_between_two_images():
    now = DrivingEnvironment(SETTINGS, 1).now
    driver = NetworkDriver(RolloutNetwork(SMALL, sequential_pattern(SMALL)),
                           COLLECTOR.preprocessing, LIMITS, count=1)
    driver.observations, finished = [{'image': np.zeros((1, 2, 2), np.uint8)}], []
    log = EpisodeLog(driver, 0, CommandScale(1.0, 1.0), 0.25, finished)
    # Answers are out at 0 and 1.5, and are meant for a quarter of a second later.
    for time, value, answer in ((0.0, 0.0, 0.0), (1.0, 4.0, 1.5)):
        log.before(replace(now, time=time, reference=Command(value, -value)), answer)
    assert log.episode.targets == [(1.0, -1.0)]
    log.after(replace(now, departed=True), True, False)
    (episode,) = finished
    assert episode.targets == [(1.0, -1.0)]
    # What was in flight as the vehicle left the lane belongs to no drive.
    log.before(replace(now, time=9.0), None)
    assert not len(log.episode)
