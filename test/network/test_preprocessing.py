"""Pixels to network input."""

import numpy as np
import pytest
from stream_agent.network.preprocessing import Preprocessing


def test_grey_of_the_right_size_is_only_scaled():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    frame = Preprocessing((1, 3, 4))(pixels)
    assert frame.dtype == np.float32
    np.testing.assert_allclose(frame, pixels[None] / 255 - 0.5, atol=1e-6)


def test_rows_are_cut_off_before_anything_else():
    pixels = np.zeros((10, 4), np.uint8)
    pixels[:5] = 255
    pixels[9] = 255
    frame = Preprocessing((1, 4, 4), crop_top=0.5, crop_bottom=0.1)(pixels)
    np.testing.assert_array_equal(frame, np.full((1, 4, 4), -0.5, np.float32))


def test_a_larger_image_is_averaged():
    pixels = np.kron(np.array([[0, 200], [100, 40]], np.uint8), np.ones((3, 3), np.uint8))
    pixels[0, 0] = 90
    frame = Preprocessing((1, 2, 2))(pixels)
    np.testing.assert_allclose((frame[0] + 0.5) * 255, [[10, 200], [100, 40]], atol=1e-3)


def test_colour_stays_in_rgb_order_and_becomes_channels():
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[..., 0] = 255
    frame = Preprocessing((3, 2, 2))(pixels)
    np.testing.assert_array_equal(frame[:, 0, 0], np.float32([0.5, -0.5, -0.5]))
    assert frame.flags.c_contiguous


def test_a_grey_camera_serves_a_colour_network_and_the_reverse():
    grey = np.full((4, 4), 51, np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(Preprocessing((3, 2, 2))(grey),
                                  Preprocessing((3, 2, 2))(colour))
    np.testing.assert_array_equal(Preprocessing((1, 2, 2))(colour),
                                  Preprocessing((1, 2, 2))(grey))


@pytest.mark.parametrize('arguments, sentence', [
    (((2, 8, 8),), 'preprocessing: the input node has the shape [2, 8, 8]; an image is '
                   '[1, height, width] or [3, height, width]'),
    (((1, 8, 8), 0.6, 0.4), 'preprocessing: crop_top 0.6 and crop_bottom 0.4 leave no row; '
                            'both are shares of the height'),
    (((1, 8, 8), float('nan')), 'preprocessing: crop_top nan and crop_bottom 0.0 leave no row; '
                                'both are shares of the height')])
def test_what_cannot_be_an_image(arguments, sentence):
    with pytest.raises(ValueError) as error:
        Preprocessing(*arguments)
    assert str(error.value) == sentence
