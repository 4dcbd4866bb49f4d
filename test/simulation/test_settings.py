"""Settings outside their ranges are refused by name."""

import pytest
from stream_agent.bounded_settings import SettingsError
from stream_agent.simulation.settings import SimulationSettings


@pytest.mark.parametrize('setting, message', [
    ({'rate': 500.0}, 'rate is 500.0; set it to a number from 10 to 120 Hz (images per second)'),
    ({'rate': float('nan')},
     'rate is nan; set it to a number from 10 to 120 Hz (images per second)'),
    ({'rate': True}, 'rate is True; set it to a number from 10 to 120 Hz (images per second)'),
    ({'width_px': 1000},
     'width_px is 1000; set it to a whole number from 32 to 640 (columns of an image)'),
    ({'height_px': 100.0},
     'height_px is 100.0; set it to a whole number from 24 to 480 (rows of an image)'),
    ({'camera_delay': -0.1},
     'camera_delay is -0.1; set it to a number from 0 to 1 s (from the capture of an image '
     'until it is handed out)'),
    ({'actuator_delay': '20'},
     "actuator_delay is '20'; set it to a number from 0 to 1 s (from a command until it acts, "
     "before the actuators' lag)"),
    ({'coloured': 'yes'}, "coloured is 'yes'; set it to true or false"),
    ({'vehicle': 'boat'}, "vehicle is 'boat'; set it to differential or bicycle"),
])
def test_a_wrong_setting_is_named(setting, message):
    with pytest.raises(SettingsError) as caught:
        SimulationSettings(**setting)
    assert str(caught.value) == message


def test_the_greatest_and_the_least_settings_are_allowed():
    assert SimulationSettings(rate=120.0, width_px=640, height_px=480).period == 1.0 / 120.0
    assert SimulationSettings(rate=10, width_px=32, height_px=24).camera.width_px == 32
