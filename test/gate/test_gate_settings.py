"""Settings: their defaults, ranges and contradictions."""

from dataclasses import fields, FrozenInstanceError, replace
import math

import pytest
from stream_agent.bounded_settings import SettingsError
from stream_agent.gate.settings import BaseSettings, GateSettings

NUMBERS = [item for item in fields(GateSettings) if 'unit' in item.metadata]


def test_the_defaults_are_those_of_the_safety_rules():
    settings = GateSettings()
    assert (settings.max_speed, settings.max_yaw_rate) == (0.5, 2.0)
    assert (settings.max_acceleration, settings.max_yaw_acceleration) == (2.5, 3.2)
    assert (settings.command_timeout, settings.max_age, settings.max_lead) == (0.25, 0.25, 0.1)
    assert (settings.stop_period, settings.stop_duration) == (0.1, 2.0)
    assert settings.release_after_stop is False
    assert settings.stop_deceleration == 2.5


@pytest.mark.parametrize('camera_period, patience', [
    (0.01, 0.25), (1 / 30, 0.25), (0.05, 0.25), (0.1, 0.5), (0.5, 2.5)])
def test_timeout_and_age_grow_with_a_slow_camera(camera_period, patience):
    settings = GateSettings(camera_period=camera_period)
    assert settings.command_timeout == settings.max_age == patience


def test_a_timeout_or_age_that_was_given_stays():
    settings = GateSettings(camera_period=0.1, command_timeout=0.3, max_age=0.4)
    assert (settings.command_timeout, settings.max_age) == (0.3, 0.4)


def test_settings_cannot_be_changed_behind_the_check():
    with pytest.raises(FrozenInstanceError):
        GateSettings().max_speed = 99.0


@pytest.mark.parametrize('item', NUMBERS, ids=lambda item: item.name)
def test_both_ends_of_a_range_are_allowed_and_nothing_beyond(item):
    low, high = item.metadata['low'], item.metadata['high']
    # The slowest repetition needs a stop that is as long; the others stand alone.
    roomy = GateSettings(stop_duration=60.0, camera_period=0.001)
    for value in (low, high):
        patient = {'command_timeout': 10.0} if item.name == 'camera_period' else {}
        assert replace(roomy, **{**patient, item.name: value})
    for value in (math.nextafter(low, -math.inf), math.nextafter(high, math.inf),
                  math.inf, -math.inf, math.nan, '1.0', None, True):
        with pytest.raises(SettingsError) as caught:
            replace(roomy, **{item.name: value})
        assert str(caught.value) == (
            f'{item.name} is {value!r}; set it to a number from {low:g} to {high:g} '
            f"{item.metadata['unit']} ({item.metadata['meaning']})")


def test_a_number_outside_its_range_is_refused_in_a_sentence():
    with pytest.raises(SettingsError) as caught:
        GateSettings(max_speed=25.0)
    assert str(caught.value) == ('max_speed is 25.0; set it to a number from 0 to 20 m/s '
                                 '(greatest speed passed on, forward and backward)')


@pytest.mark.parametrize('value', [1, 'true', None])
def test_a_switch_is_true_or_false(value):
    with pytest.raises(SettingsError) as caught:
        GateSettings(release_after_stop=value)
    assert str(caught.value) == f'release_after_stop is {value!r}; set it to true or false'


def test_a_timeout_must_outlast_two_frames():
    assert GateSettings(camera_period=0.1, command_timeout=0.2)
    with pytest.raises(SettingsError) as caught:
        GateSettings(camera_period=0.1, command_timeout=0.19)
    assert str(caught.value) == ('command_timeout is 0.19 s with a camera_period of 0.1 s; '
                                 'set it to at least two periods, 0.2 s')


def test_a_stop_must_outlast_one_repetition():
    assert GateSettings(stop_duration=0.5, stop_period=0.5)
    with pytest.raises(SettingsError) as caught:
        GateSettings(stop_duration=0.4, stop_period=0.5)
    assert str(caught.value) == ('stop_duration is 0.4 s with a stop_period of 0.5 s; '
                                 'set it to at least one period')


def test_what_the_base_takes_is_one_of_three_messages():
    assert BaseSettings(command_type='ackermann', wheel_base=0.3, max_steering_angle=0.4)
    with pytest.raises(SettingsError) as caught:
        BaseSettings(command_type='joystick')
    assert str(caught.value) == (
        "command_type is 'joystick'; set it to twist_stamped or twist or ackermann")
