"""Settings outside their ranges are refused by name."""

import pytest

from stream_agent.simulation.settings import Settings, SettingsError


@pytest.mark.parametrize('setting, message', [
    ({'rate': 500.0}, 'rate is 500.0 Hz; it must be a number from 10 to 120 Hz'),
    ({'rate': float('nan')}, 'rate is nan Hz; it must be a number from 10 to 120 Hz'),
    ({'rate': True}, 'rate is True Hz; it must be a number from 10 to 120 Hz'),
    ({'width_px': 1000}, 'width_px is 1000; it must be a whole number from 32 to 640'),
    ({'height_px': 100.0}, 'height_px is 100.0; it must be a whole number from 24 to 480'),
    ({'camera_delay': -0.1}, 'camera_delay is -0.1 s; it must be a number from 0 to 1 s'),
    ({'actuator_delay': '20'}, "actuator_delay is '20' s; it must be a number from 0 to 1 s"),
    ({'coloured': 'yes'}, "coloured is 'yes'; it must be true or false"),
    ({'vehicle': 'boat'}, "vehicle is 'boat'; it must be differential or bicycle"),
])
def test_a_wrong_setting_is_named(setting, message):
    with pytest.raises(SettingsError) as caught:
        Settings(**setting)
    assert str(caught.value) == message


def test_the_greatest_and_the_least_settings_are_allowed():
    assert Settings(rate=120.0, width_px=640, height_px=480).period == 1.0 / 120.0
    assert Settings(rate=10, width_px=32, height_px=24).camera.width_px == 32
