"""Light and noise are as strong as the look says."""

from dataclasses import replace

import numpy as np
import pytest
from stream_agent.simulation.texture import Appearance
from stream_agent.simulation.view import FLICKER_PERIOD, Sensor

CLEAN = replace(Appearance(), vignette=0.0, noise=0.0)


def take(sensor, image, time, quiet=False):
    return sensor.develop(image, sensor.next_image(time, quiet))


def grey(shape=(120, 160)):
    return np.full(shape, 100, np.uint8)


@pytest.mark.parametrize('shape', [(120, 160), (48, 64, 3)])
def test_a_clean_sensor_changes_nothing(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(take(Sensor(shape, CLEAN, 0), image, 0.0), image)


@pytest.mark.parametrize('shape', [(120, 160), (48, 64, 3)])
def test_noise_has_the_given_deviation_and_no_offset(shape):
    sensor = Sensor(shape, replace(CLEAN, noise=5.0), 0)
    images = np.stack([take(sensor, grey(shape), 0.0) for _ in range(20)]).astype(float)
    assert images.mean() == pytest.approx(100.0, abs=0.2)
    assert images.std() == pytest.approx(5.0, rel=0.05)
    assert not np.array_equal(images[0], images[1])


def test_noise_is_cut_off_at_black_and_white():
    sensor = Sensor((40, 40), replace(CLEAN, noise=20.0), 0)
    assert take(sensor, np.full((40, 40), 255, np.uint8), 0.0).min() > 150
    assert take(sensor, np.zeros((40, 40), np.uint8), 0.0).max() < 105


def test_light_varies_over_the_image_as_given():
    sensor = Sensor((120, 160), replace(CLEAN, gain=1.2, slope=0.2), 0)
    image = take(sensor, grey(), 0.0)
    assert image[:, 0] == pytest.approx(np.full(120, 1.2 * 80.0), abs=1.5)
    assert image[:, -1] == pytest.approx(np.full(120, 1.2 * 120.0), abs=1.5)
    corner = take(Sensor((120, 160), replace(CLEAN, vignette=0.3), 0), grey(), 0.0)[0, 0]
    assert corner == pytest.approx(70.0, abs=1.5)


def test_light_flickers_slowly_and_not_while_quiet():
    sensor = Sensor((24, 32), replace(CLEAN, flicker=0.2), 0)
    times = np.linspace(0.0, FLICKER_PERIOD, 50)
    levels = [take(sensor, grey((24, 32)), time).mean() for time in times]
    assert min(levels) == pytest.approx(80.0, abs=1.5)
    assert max(levels) == pytest.approx(120.0, abs=1.5)
    assert {take(sensor, grey((24, 32)), time, quiet=True).mean() for time in times} == {100.0}


def test_restart_repeats_the_noise():
    sensor = Sensor((24, 32), replace(CLEAN, noise=5.0, flicker=0.2), 3)
    first = [take(sensor, grey((24, 32)), 0.1 * i) for i in range(5)]
    sensor.restart()
    assert np.array_equal(first, [take(sensor, grey((24, 32)), 0.1 * i) for i in range(5)])
