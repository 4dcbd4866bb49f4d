"""Compiled code gives the pixels that OpenCV gives."""

from dataclasses import replace
import importlib
from pathlib import Path
import sys

import numpy as np
import pytest
from stream_agent.learning.settings import ImitationSchedule
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings

ROAD = SimulationSettings(width_px=64, height_px=48, rate=60.0, camera_pitch=0.15, signs=True,
                          look_ahead=0.4, max_yaw_rate=5.0, clutter=4.0, noise=4.0)


def images_of(settings, seed, compiled, frames=80):
    environment = DrivingEnvironment(settings, seed, compiled)
    assert compiled == (environment.scene.compiled_view is not None)
    frame = environment.reset()
    for _ in range(frames):
        frame = environment.step(frame.reference)
        yield frame.image


@pytest.mark.parametrize('settings', [
    SimulationSettings(), SimulationSettings(coloured=True), ROAD,
    replace(ROAD, coloured=True, exposure=0.0), replace(ROAD, width_px=96, height_px=77),
    SimulationSettings(camera_pitch=1.0, camera_height=1.0), SimulationSettings(randomized=False)])
@pytest.mark.parametrize('seed', [0, 5])
def test_drives_look_the_same(settings, seed):
    pytest.importorskip('numba')
    for image, expected in zip(images_of(settings, seed, True), images_of(settings, seed, False)):
        assert np.array_equal(image, expected)


@pytest.mark.parametrize('place', [{'lateral': 3.0}, {'lateral': -9.0, 'heading': 2.0},
                                   {'lateral': 40.0}])
def test_so_do_places_beside_the_map(place):
    pytest.importorskip('numba')
    images = []
    for compiled in (True, False):
        environment = DrivingEnvironment(SimulationSettings(), 1, compiled)
        environment.place(**place)
        images.append(environment.look().image)
    assert np.array_equal(*images)


def test_without_numba_opencv_draws(monkeypatch):
    expected = [*images_of(ROAD, 2, False, 5)]
    monkeypatch.setitem(sys.modules, 'stream_agent.simulation.compiled', None)
    environment = DrivingEnvironment(ROAD, 2, compiled=True)
    assert environment.scene.compiled_view is None
    frame = environment.reset()
    for image in expected:
        frame = environment.step(frame.reference)
        assert np.array_equal(frame.image, image)


def test_opencv_draws_where_its_last_columns_are_rounded_otherwise():
    settings = replace(ROAD, width_px=100)
    assert DrivingEnvironment(settings, 0, compiled=True).scene.compiled_view is None


def test_where_pixels_differ_opencv_draws(monkeypatch):
    compiled = pytest.importorskip('stream_agent.simulation.compiled')
    monkeypatch.setattr(compiled, 'expose', lambda *arguments: arguments[-1].fill(0))
    compiled.equals_opencv.cache_clear()
    assert DrivingEnvironment(ROAD, 0, compiled=True).scene.compiled_view is None
    compiled.equals_opencv.cache_clear()


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / 'benchmark')
    return importlib.import_module('training')


def test_the_benchmark_digests_what_is_drawn(benchmark, monkeypatch):
    pytest.importorskip('numba')
    digests = {name: benchmark.pixels(settings, 5) for name, settings in benchmark.LOOKS.items()}
    assert len({*digests.values()}) == len(digests)
    monkeypatch.setattr(benchmark, 'environment_of', DrivingEnvironment)
    for name, settings in benchmark.LOOKS.items():
        assert benchmark.pixels(settings, 5) == digests[name]


def test_the_benchmark_times_drives_and_gradient_steps(benchmark, monkeypatch):
    schedule = ImitationSchedule(rounds=3, environments=1, frames=40, updates=5, last_updates=2,
                                 batch=1)
    monkeypatch.setattr(benchmark, 'ImitationSchedule', lambda: schedule)
    found = benchmark.training('sequential', 2)
    assert min(found.values()) > 0
    assert found['train_seconds'] == pytest.approx(3 * found['drive'] + 17 * found['step'])


def test_the_benchmark_takes_the_best_of_each_side(benchmark):
    def figures(rate, seconds, digest='a'):
        return {**{f'frames_per_second.{size}': rate for size in benchmark.SIZES},
                **{f'{pattern}.train_seconds': seconds for pattern in benchmark.PATTERNS},
                **{f'pixels.{look}': digest for look in benchmark.LOOKS}}

    there = [figures(1000.0, 90.0), figures(800.0, 120.0)]
    found = benchmark.conclude(there, [figures(2000.0, 50.0), figures(3000.0, 30.0)])
    assert set(found['frames_per_second_ratio'].values()) == {3.0}
    assert found['train_time_ratio'] == pytest.approx(
        {'streaming': 1 / 3, 'sequential': 1 / 3})
    assert found['same_pixels']
    assert not benchmark.conclude(there, [figures(2000.0, 50.0, 'b')])['same_pixels']
    assert 'driving_ratio' not in found
    drives = [{**figures(1000.0, 90.0), **{f'driving.{pattern}.lateral_rms': rms
                                           for pattern in benchmark.PATTERNS}}
              for rms in (0.02, 0.03)]
    found = benchmark.conclude(drives[1:], drives[:1])
    assert found['driving_ratio'] == pytest.approx({'streaming': 2 / 3, 'sequential': 2 / 3})
