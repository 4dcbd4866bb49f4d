"""Pictures as cameras send them: YUV, mosaics and depth, against pixels computed by hand."""

from types import SimpleNamespace

import cv2
from hypothesis import given, strategies as st
import numpy as np
import pytest
from stream_agent.contract.image_files import ImageError
from stream_agent.images import (
    CHANNELS, DEPTH, depth_to_array, image_to_array, MADE_RGB, SerializedImage)
from support.strategies import examples


def message(encoding, rows, width, height, padding=0, **changes):
    """Return an image message of rows of bytes, each filled up by some more."""
    rows = np.asarray(rows, np.uint8)
    filled = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return SimpleNamespace(**{'encoding': encoding, 'width': width, 'height': height,
                              'step': filled.shape[1], 'is_bigendian': 0,
                              'data': memoryview(filled.tobytes())} | changes)


def rgb_of(y, u, v):
    """Return the colour of limited range, BT.601, as the standard has it; below 16 is black."""
    y, u, v = 255 / 219 * max(y - 16, 0), 255 / 224 * (u - 128), 255 / 224 * (v - 128)
    return np.clip([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], 0, 255)


# Brightness of 2 x 4 pixels, from below black to above white, and a U and V for each two columns.
Y = np.array([[16, 235, 81, 145], [41, 0, 255, 128]])
U, V = np.array([90, 240]), np.array([240, 110])


def yuv(encoding):
    """Return the rows of the pixels above, and what each of them is."""
    colours = np.stack([rgb_of(Y[i, j], U[j // 2], V[j // 2]) for i in range(2)
                        for j in range(4)]).reshape(2, 4, 3)
    if encoding in ('nv12', 'nv21'):
        pairs = np.stack([U, V] if encoding == 'nv12' else [V, U], 1).reshape(1, 4)
        return np.vstack([Y, pairs]), colours
    if encoding == 'nv24':
        each = np.stack([U.repeat(2), V.repeat(2)], 1).reshape(1, 8)
        return np.vstack([Y, each.reshape(2, 4), each.reshape(2, 4)]), colours
    chroma = np.stack([U, V], 1).reshape(1, 4).repeat(2, 0)
    pair = [Y, chroma] if encoding in ('yuyv', 'yuv422_yuy2') else [chroma, Y]
    return np.stack(pair, 2).reshape(2, 8), colours


YUV = ('yuyv', 'yuv422_yuy2', 'uyvy', 'yuv422', 'nv12', 'nv21', 'nv24')


@pytest.mark.parametrize('padding', [0, 1, 6])
@pytest.mark.parametrize('encoding', YUV)
def test_yuv_is_of_limited_range(encoding, padding):
    rows, expected = yuv(encoding)
    found = image_to_array(message(encoding, rows, 4, 2, padding))
    assert found.dtype == np.uint8 and found.shape == (2, 4, 3) and found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, atol=1.01)


@pytest.mark.parametrize('encoding', YUV)
def test_black_is_black_and_white_is_white(encoding):
    height = {'nv12': 3, 'nv21': 3, 'nv24': 6}.get(encoding, 2)
    width = 2 if height > 2 else 4
    for y, grey in ((16, 0), (235, 255), (0, 0), (255, 255), (126, 128)):
        rows = np.full((height, width), 128)
        if height > 2:
            rows[:2] = y
        else:
            rows[:, int(encoding in ('uyvy', 'yuv422'))::2] = y
        np.testing.assert_array_equal(image_to_array(message(encoding, rows, 2, 2)), grey)


@given(encoding=st.sampled_from(['nv12', 'nv21', 'yuyv', 'uyvy']), height=st.integers(1, 12),
       width=st.integers(1, 12), padding=st.integers(0, 5), seed=st.integers(0, 9))
@examples(100)
def test_yuv_is_what_opencv_makes_of_it(encoding, height, width, padding, seed):
    height, width = 2 * height, 2 * width
    generator = np.random.default_rng(seed)
    if encoding[:2] == 'nv':
        rows = generator.integers(0, 256, (height * 3 // 2, width), np.uint8)
        stored = rows
    else:
        rows = generator.integers(0, 256, (height, 2 * width), np.uint8)
        stored = rows.reshape(height, width, 2)
    code = {'nv12': cv2.COLOR_YUV2RGB_NV12, 'nv21': cv2.COLOR_YUV2RGB_NV21,
            'yuyv': cv2.COLOR_YUV2RGB_YUY2, 'uyvy': cv2.COLOR_YUV2RGB_UYVY}[encoding]
    found = image_to_array(message(encoding, rows, width, height, padding))
    np.testing.assert_array_equal(found, cv2.cvtColor(stored, code))


@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 9))
@examples(60)
def test_nv24_has_a_colour_for_each_pixel(height, width, seed):
    y, u, v = np.random.default_rng(seed).integers(0, 256, (3, height, width))
    rows = np.vstack([y, np.stack([u, v], 2).reshape(2 * height, width)])
    found = image_to_array(message('nv24', rows, width, height))
    for at in np.ndindex(height, width):
        np.testing.assert_allclose(found[at], rgb_of(y[at], u[at], v[at]), atol=1.01)


MOSAICS = {'rggb': 'RGGB', 'bggr': 'BGGR', 'gbrg': 'GBRG', 'grbg': 'GRBG'}


def mosaic(pattern, colour, height=6, width=8):
    """Return what a sensor under a mosaic sees of one colour."""
    value = dict(zip('RGB', colour))
    block = np.array([value[letter] for letter in pattern]).reshape(2, 2)
    return np.tile(block, (height // 2, width // 2))


@pytest.mark.parametrize('colour', [(200, 30, 90), (0, 255, 1), (7, 7, 7)])
@pytest.mark.parametrize('name', MOSAICS)
def test_one_colour_under_any_mosaic_is_that_colour(name, colour):
    rows = mosaic(MOSAICS[name], colour)
    for padding in (0, 3):
        found = image_to_array(message(f'bayer_{name}8', rows, 8, 6, padding))
        np.testing.assert_array_equal(found, np.full((6, 8, 3), colour))
    for big, order in ((0, '<u2'), (1, '>u2')):
        wide = (rows * 256 + 255).astype(order).view(np.uint8)
        found = image_to_array(message(f'bayer_{name}16', wide, 8, 6, 2, is_bigendian=big))
        np.testing.assert_array_equal(found, np.full((6, 8, 3), colour))


def test_a_mosaic_is_filled_by_the_mean_of_its_neighbours():
    rows = np.zeros((6, 6))
    rows[2, 2] = 100  # red, whose neighbours get half or a quarter of it
    red = image_to_array(message('bayer_rggb8', rows, 6, 6))[..., 0]
    np.testing.assert_array_equal(red[1:4, 1:4], [[25, 50, 25], [50, 100, 50], [25, 50, 25]])
    assert not image_to_array(message('bayer_rggb8', rows, 6, 6))[..., 1:].any()


@pytest.mark.parametrize('encoding, values', [
    ('16UC1', np.array([[0, 1, 513], [65535, 2000, 7]], np.uint16)),
    ('32FC1', np.array([[0, 1.5, np.inf], [np.nan, -np.inf, 7]], np.float32))])
def test_depth_is_a_view_of_the_message_in_its_own_numbers(encoding, values):
    size = values.itemsize
    for padding in (0, 1, size):
        msg = message(encoding, values.view(np.uint8), 3, 2, padding)
        found = depth_to_array(msg)
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)
        assert np.shares_memory(found, np.asarray(msg.data)) == (padding != 1)
        swapped = values.astype(values.dtype.newbyteorder('>')).view(np.uint8)
        found = depth_to_array(message(encoding, swapped, 3, 2, padding, is_bigendian=1))
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)


def test_depth_and_pictures_are_told_apart():
    for encoding in DEPTH:
        with pytest.raises(ImageError, match="which is depth; in the robot's contract give its inp"
                           r'ut units: \[m\] and high: \[5.0\] or so, or take a topic of picture'):
            image_to_array(message(encoding, np.zeros((2, 8)), 2, 2))
    for encoding in (*CHANNELS, *MADE_RGB, 'nv24', 'mono16'):
        with pytest.raises(ImageError, match='which is not depth; take a topic of 16UC1 or 32FC1, '
                           'or leave units, low and high out'):
            depth_to_array(message(encoding, np.zeros((2, 8)), 2, 2))


@pytest.mark.parametrize('encoding, shape, width, height, said', [
    ('yuyv', (4, 6), 3, 4, 'image is 3 x 4 pixels of yuyv, whose width is even; let the driver'),
    ('uyvy', (3, 4), 2, 3, None), ('nv21', (4, 4), 4, 3, 'width and height are even'),
    ('nv12', (6, 3), 3, 4, 'image is 3 x 4 pixels of nv12, whose width and height are even; let '),
    ('nv12', (4, 4), 4, 4, 'image data has 16 bytes; step x height x 1.5 is 24'),
    ('nv24', (4, 4), 4, 4, 'image data has 16 bytes; step x height x 3 is 48'),
    ('nv24', (9, 3), 3, 3, None),
    ('yuyv', (4, 7), 4, 4, 'image step is 7 bytes for 4 pixels of yuyv; at least 8 are needed'),
    ('bayer_rggb8', (5, 6), 6, 5, 'pixels of bayer_rggb8, whose width and height are even, 4 at'),
    ('bayer_rggb8', (2, 8), 8, 2, 'image is 8 x 2 pixels of bayer_rggb8'),
    ('bayer_grbg16', (4, 4), 4, 4, 'image step is 4 bytes for 4 pixels of bayer_grbg16; at least'),
    ('16UC1', (4, 4), 4, 4, 'which is depth'), ('nv12', (6, 5000), 5000, 4, 'sides of 1 to 4096')])
def test_sizes_that_cannot_be_are_refused(encoding, shape, width, height, said):
    msg = message(encoding, np.zeros(shape), width, height)
    if said is None:
        assert image_to_array(msg).shape == (height, width, 3)
        return
    with pytest.raises(ImageError) as fault:
        image_to_array(msg)
    assert said in str(fault.value)


def test_depth_of_wrong_sizes_is_refused():
    for shape, said in (((2, 3), 'image step is 3 bytes for 2 pixels of 16UC1; at least 4'),
                        ((3, 4), 'image data has 12 bytes; step x height is 8')):
        with pytest.raises(ImageError) as fault:
            depth_to_array(message('16UC1', np.zeros(shape), 2, 2))
        assert said in str(fault.value)
    with pytest.raises(ImageError, match='sides of 1 to 4096'):
        depth_to_array(message('16UC1', np.zeros((2, 4)), 0, 2))


def test_a_serialized_message_is_read_alike():
    rows, expected = yuv('nv12')
    found = image_to_array(SerializedImage(0, '', 2, 4, 'nv12', 0, 4, memoryview(
        rows.astype(np.uint8).tobytes())))
    np.testing.assert_allclose(found, expected, atol=1.01)
