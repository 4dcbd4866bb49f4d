"""Pixels to network input."""

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from stream_agent.network.preprocessing import as_stored, Preprocessing, scale
import torch

RGB_OF = {'RGB': np.s_[:], 'BGR': np.s_[::-1], 'RGBA': np.s_[:3], 'BGRA': np.s_[2::-1]}


def picture(rows, columns, seed=0):
    """Return noise over edges, RGB."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 226, (rows // 8 + 1, columns // 8 + 1, 3), dtype=np.uint8)
    pixels = np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:rows, :columns]
    return pixels + generator.integers(0, 30, pixels.shape, dtype=np.uint8)


def stored(pixels, order, padding=0):
    """Return an RGB view of a picture that lies in another order, in rows with padding."""
    rows, columns = pixels.shape[:2]
    memory = np.full((rows, columns * len(order) + padding), 77, np.uint8)
    whole = memory[:, :columns * len(order)].reshape(rows, columns, len(order))
    view = whole[..., RGB_OF[order]]
    view[:] = pixels
    return view


def bounds(array):
    """Return the addresses of an array's first byte and of the one after its last."""
    reach = [(n - 1) * stride for n, stride in zip(array.shape, array.strides)]
    start = array.__array_interface__['data'][0]
    return start + sum(min(0, r) for r in reach), start + sum(max(0, r) for r in reach) + 1


def shares(size, wanted):
    """Return how much of each pixel of a row lies in each of fewer, larger ones: (W, columns)."""
    edges = np.linspace(0, size, wanted + 1)
    begin, end = np.arange(size), np.arange(1, size + 1)
    overlap = np.minimum(end, edges[1:, None]) - np.maximum(begin, edges[:-1, None])
    return np.maximum(overlap, 0) * wanted / size


def neighbours(size, wanted):
    """Return the bilinear weights between the two pixels next to each new pixel's middle."""
    at = (np.arange(wanted) + 0.5) * size / wanted - 0.5
    distance = np.abs(np.arange(size) - np.clip(at, 0, size - 1)[:, None])
    return np.maximum(1 - distance, 0)


def reference(image, shape, crop_top, crop_bottom, weights):
    """Write the same out in NumPy: grey levels, (C, H, W), not rounded after the last resize."""
    rows = len(image)
    image = image[int(rows * crop_top):rows - int(rows * crop_bottom)].astype(int)
    while (shape[0] * image.shape[0] * image.shape[1] > 20_000
           and image.shape[0] >= 2 * shape[1] and image.shape[1] >= 2 * shape[2]):
        image = image[:len(image) // 2 * 2, :image.shape[1] // 2 * 2]
        image = (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]
                 + 2) // 4
    if image.ndim == 3 and shape[0] == 1:
        image = (image @ [9798, 19235, 3735] + 2**14) >> 15
    if image.ndim == 2:
        image = image[..., None].repeat(shape[0], axis=2)
    vertical = weights(image.shape[0], shape[1])
    horizontal = weights(image.shape[1], shape[2])
    return np.stack([vertical @ image[..., c] @ horizontal.T for c in range(shape[0])])


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


@pytest.mark.parametrize('shape, crop, sizes', [
    ((1, 60, 120), (0.25, 0.0), [(120, 160), (240, 320), (480, 640), (161, 243)]),
    ((1, 24, 40), (0.1, 0.3), [(120, 160), (97, 81), (40, 300)]),
    ((3, 12, 16), (0.0, 0.0), [(12, 16), (48, 64), (20, 31), (51, 67)]),
    ((3, 30, 40), (0.27, 0.11), [(120, 160), (50, 41)]),
    ((3, 20, 160), (0.0, 0.0), [(130, 200)])])
def test_the_pixels_are_those_of_plain_arithmetic(shape, crop, sizes):
    for size in sizes:
        for image in (picture(*size), picture(*size)[..., 0]):
            expected = reference(image, shape, *crop, shares)
            pixels = Preprocessing(shape, *crop).pixels(image)
            assert pixels.dtype == np.uint8
            np.testing.assert_allclose(pixels, expected, atol=0.501)


@pytest.mark.parametrize('shape, crop, size', [
    ((3, 120, 160), (0.25, 0.0), (480, 640)), ((3, 96, 96), (0.0, 0.0), (120, 160)),
    ((1, 120, 160), (0.0, 0.25), (480, 640))])
def test_little_shrinking_of_much_is_bilinear(shape, crop, size):
    expected = reference(picture(*size), shape, *crop, neighbours)
    pixels = Preprocessing(shape, *crop).pixels(picture(*size))
    np.testing.assert_allclose(pixels, expected, atol=1.0)


@pytest.mark.parametrize('shape, crop, size', [
    ((3, 20, 26), (0.0, 0.0), (10, 13)), ((1, 20, 26), (0.0, 0.1), (17, 26)),
    ((3, 120, 160), (0.25, 0.0), (120, 160))])
def test_a_smaller_image_is_enlarged_by_areas_too(shape, crop, size):
    expected = reference(picture(*size), shape, *crop, shares)
    pixels = Preprocessing(shape, *crop).pixels(picture(*size))
    np.testing.assert_allclose(pixels, expected, atol=1.0)


@pytest.mark.parametrize('shape', [(1, 60, 120), (3, 96, 96), (3, 120, 160), (3, 100, 100)])
@pytest.mark.parametrize('factor', [2, 4])
def test_a_large_camera_gives_the_pixels_of_a_small_one(shape, factor):
    preprocessing = Preprocessing(shape, crop_top=0.25)
    small = picture(160, 200)
    large = np.kron(small, np.ones((factor, factor, 1), np.uint8))
    np.testing.assert_array_equal(preprocessing.pixels(large), preprocessing.pixels(small))


def test_the_shipped_policies_see_what_they_were_trained_with():
    """Grey first and area averages after, with nothing before: 160x120 to 60 rows of 120."""
    image = picture(120, 160)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    for camera in (image, grey):
        np.testing.assert_array_equal(
            Preprocessing((1, 60, 120), crop_top=0.25).pixels(camera)[0],
            cv2.resize(grey[30:], (120, 60), interpolation=cv2.INTER_AREA))


@given(rows=st.integers(1, 150), columns=st.integers(1, 200), padding=st.integers(0, 9),
       shape=st.tuples(st.sampled_from([1, 3]), st.integers(1, 90), st.integers(1, 90)),
       crop=st.floats(0, 0.4), seed=st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_the_order_in_memory_makes_no_difference(rows, columns, padding, shape, crop, seed):
    image = picture(rows, columns, seed)
    preprocessing = Preprocessing(shape, crop, crop)
    expected = preprocessing(image)
    for order in RGB_OF:
        np.testing.assert_array_equal(preprocessing(stored(image, order, padding)), expected)


@pytest.mark.parametrize('order', RGB_OF)
def test_the_memory_behind_a_view_is_found_and_not_copied(order):
    view = stored(picture(9, 7), order, padding=5)[2:]
    memory, found = as_stored(view)
    assert found == order
    assert memory.shape == (7, 7, len(order)) and np.shares_memory(memory, view)
    np.testing.assert_array_equal(memory[..., RGB_OF[order]], view)


@pytest.mark.parametrize('cut', [
    np.s_[..., 1:], np.s_[:, 1::2, :3], np.s_[::-1, :, :3], np.s_[:, ::-1, 2::-1],
    np.s_[::2, :, :3], np.s_[::-1, :, 1:]])
def test_other_views_are_read_right_and_nothing_beyond_them(cut):
    view = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)[cut]
    memory, order = as_stored(view)
    np.testing.assert_array_equal(memory[..., RGB_OF[order]], view)
    (start, end), (first, last) = bounds(memory), bounds(view.base)
    assert first <= start and end <= last
    preprocessing = Preprocessing((3, 12, 17))
    np.testing.assert_array_equal(preprocessing(view), preprocessing(view.copy()))


def test_arrays_and_tensors_are_scaled_alike():
    levels = np.arange(256, dtype=np.uint8)
    frame = scale(levels)
    assert frame.dtype == np.float32 and (frame[0], frame[255]) == (-0.5, 0.5)
    np.testing.assert_array_equal(frame, scale(torch.from_numpy(levels)).numpy())
    np.testing.assert_array_equal(levels, np.arange(256))


@pytest.mark.parametrize('shape', [(1, 6, 8), (3, 6, 8), (1, 3, 4)])
def test_a_frame_outlives_the_image(shape):
    image = picture(6, 8)
    for camera in (image, image[..., 0].copy()):
        frame = Preprocessing(shape)(camera)
        before = frame.copy()
        camera[:] = 0
        np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize('arguments, sentence', [
    (((2, 8, 8),), 'preprocessing: the input node has the shape [2, 8, 8]; an image is '
                   '[1, height, width] or [3, height, width], of at most 8192 pixels a side'),
    (((1, 8, 8), 0.6, 0.4), 'preprocessing: crop_top 0.6 and crop_bottom 0.4 leave no '
                            'picture; both are shares of the height, together at most 0.99'),
    (((1, 8, 8), float('nan')), 'preprocessing: crop_top NaN and crop_bottom 0.0 leave '
                                'no picture; both are shares of the height, together at most '
                                '0.99')])
def test_what_cannot_be_an_image(arguments, sentence):
    with pytest.raises(ValueError) as error:
        Preprocessing(*arguments)
    assert str(error.value) == sentence
