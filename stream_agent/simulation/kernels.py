"""
Whole camera images by one compiled call each, with the pixels that OpenCV gives.

The arithmetic is that of OpenCV 5 on processors with fused multiply-add: coordinates and
interpolation in float32 for ground and sky, coordinates in steps of 1/32 pixel for plates.
"""

from collections.abc import Callable
import math
from typing import Any

from numba import njit
from numba.extending import intrinsic
import numpy as np
from stream_agent.simulation import vehicle

F, I, U, Q = np.float32, np.int32, np.uint8, np.uint32
# Pixels around a texture in `texels` that have the colour of what is beyond it.
BEYOND_PX = 2
# Steps in a pixel to which OpenCV rounds the coordinates of float images.
STEPS = 32


def compiled(function: Callable) -> Any:
    """Compile a function at its first use; the code is kept on disk where that is possible."""
    options: dict = {'nogil': True, 'error_model': 'numpy'}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep the code in
        return njit(**options)(function)


moved = compiled(vehicle.moved)


def rounded_once(context, a, b, c):
    """Say how numba compiles a * b + c with one rounding."""
    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)
    return a(a, b, c), generate


fma: Any = intrinsic(rounded_once)


@compiled
def fill(line, texture, places, across, down, quads):
    """
    Interpolate a row between 2 x 2 pixels each.

    :param line: Becomes the row, (W,) uint8.
    :param texture: (N,) uint32, as ``compiled.texels`` gives it.
    :param places: Which of them every pixel sees; ``across`` and ``down`` are 0 to 1 in it.
    :param quads: Room, (W,) uint32.
    """
    # Loops of one kind of work each are those that become vector instructions.
    for x in range(len(line)):
        quads[x] = texture[places[x]]
    for x in range(len(line)):
        quad = quads[x]
        a, b = F(quad & Q(255)), F(quad >> Q(8) & Q(255))
        c, d = F(quad >> Q(16) & Q(255)), F(quad >> Q(24))
        upper, lower = fma(across[x], b - a, a), fma(across[x], d - c, c)
        line[x] = U(I(np.rint(fma(down[x], lower - upper, upper))))


@compiled
def matrix_of(near, x, y, yaw, scale, left, top, first, m):
    """Fill m, (3, 3), with the homography from a band's pixels to its texture's."""
    c, s = math.cos(yaw), math.sin(yaw)
    for j in range(3):
        east = fma(x, near[2, j], fma(-s, near[1, j], c * near[0, j]))
        north = fma(y, near[2, j], fma(c, near[1, j], s * near[0, j]))
        m[0, j] = fma(left, near[2, j], scale * east)
        m[1, j] = fma(top, near[2, j], scale * north)
        m[2, j] = near[2, j]
    for i in range(3):
        m[i, 2] = m[i, 1] * first + m[i, 2]


@compiled
def draw_ground(image, pose, near, textures, whole, parts):
    """
    Draw the ground.

    :param image: uint8, (channels, H, W).
    :param near: ``Camera.pixels_to_near_ground``.
    :param textures: uint32, (channels, N): ``compiled.texels`` of all bands one after another.
    :param whole: Of every band: first and last row, offset of its texels, their rows and columns.
    :param parts: Of every band: pixels a metre; column and row of the world's origin.
    """
    width = image.shape[2]
    m = np.empty((3, 3))
    places, quads = np.empty(width, Q), np.empty(width, Q)
    across, down = np.empty(width, F), np.empty(width, F)
    for band in range(len(whole)):
        first, last, offset, rows, columns = whole[band]
        matrix_of(near, pose[0], pose[1], pose[2], parts[band, 0], parts[band, 1], parts[band, 2],
                  first, m)
        mx, my, mw = F(m[0, 0]), F(m[1, 0]), F(m[2, 0])
        lowest, stride = F(-BEYOND_PX), I(columns)
        right, bottom = F(columns - BEYOND_PX - 1), F(rows - BEYOND_PX - 1)
        start = I(offset) + I(BEYOND_PX) * stride + I(BEYOND_PX)
        for y in range(last - first):
            row = F(y)
            x0 = F(m[0, 1]) * row + F(m[0, 2])
            y0 = F(m[1, 1]) * row + F(m[1, 2])
            w0 = F(m[2, 1]) * row + F(m[2, 2])
            for x in range(width):
                column = F(I(x))
                w = fma(mw, column, w0)
                u, v = fma(mx, column, x0) / w, fma(my, column, y0) / w
                left, top = np.floor(u), np.floor(v)
                across[x], down[x] = u - left, v - top
                left, top = min(max(left, lowest), right), min(max(top, lowest), bottom)
                places[x] = Q(start + I(top) * stride + I(left))
            for channel in range(len(image)):
                fill(image[channel, first + y], textures[channel], places, across, down, quads)


@compiled
def draw_sky(image, shift, panorama, columns, starts, down):
    """
    Draw what is above the horizon.

    :param shift: Added to the columns.
    :param panorama: uint32, (channels, N), as ``compiled.texels`` gives it.
    :param columns: Where the pixels of the upper rows look, (S, W) float32.
    :param starts: Index of the panorama's column 0 in the row that each sees; ``down`` in it.
    """
    width = image.shape[2]
    places, quads, across = np.empty(width, Q), np.empty(width, Q), np.empty(width, F)
    for y in range(len(columns)):
        for x in range(width):
            u = columns[y, x] + shift
            left = np.floor(u)
            across[x] = u - left
            places[x] = Q(starts[y, x] + I(left))
        for channel in range(len(image)):
            fill(image[channel, y], panorama[channel], places, across, down[y], quads)


@compiled
def project(corners, pose, axes, mount, matrix, nearest, seen):
    """
    Tell whether a plate shows its front and is not too near.

    :param axes: ``Camera.rotation_in_vehicle``.
    :param mount: How far the camera is ahead of the vehicle, and above the ground [m].
    :param matrix: ``Camera.matrix``.
    :param seen: Becomes the corners in pixels, (4, 2).
    """
    c, s = math.cos(pose[2]), math.sin(pose[2])
    for i in range(4):
        east, north = corners[i, 0] - pose[0], corners[i, 1] - pose[1]
        ahead, left = c * east + s * north - mount[0], c * north - s * east
        up = corners[i, 2] - mount[1]
        depth = ahead * axes[0, 2] + left * axes[1, 2] + up * axes[2, 2]
        if depth <= nearest:
            return False
        for j in range(2):
            side = ahead * axes[0, j] + left * axes[1, j] + up * axes[2, j]
            seen[i, j] = (matrix[j, j] * side + matrix[j, 2] * depth) / depth
    area = 0.0
    for i in range(4):
        a, b = seen[i - 1], seen[i]
        area += F(a[0]) * float(F(b[1])) - F(a[1]) * float(F(b[0]))
    return area > 0.0


@compiled
def to_sprite(seen, edge, m):
    """
    Fill m, (3, 3), with the homography from pixels to a sprite's.

    This is ``cv2.getPerspectiveTransform`` with its rounded products, inverted.

    :param seen: Corners in pixels, (4, 2) float32; in the sprite they are at 0.5 and ``edge``.
    """
    a = np.zeros((8, 9))
    for i in range(4):
        u, v = F(edge if i in (1, 2) else 0.5), F(edge if i > 1 else 0.5)
        for j in range(2):
            row, to = a[i + 4 * j], seen[i, j]
            row[3 * j], row[3 * j + 1], row[3 * j + 2] = u, v, 1.0
            row[6], row[7], row[8] = -u * to, -v * to, to
    for i in range(8):
        best = i
        for j in range(i + 1, 8):
            if abs(a[j, i]) > abs(a[best, i]):
                best = j
        if best != i:
            for k in range(9):
                a[i, k], a[best, k] = a[best, k], a[i, k]
        d = -1.0 / a[i, i]
        for j in range(i + 1, 8):
            alpha = a[j, i] * d
            for k in range(i + 1, 9):
                a[j, k] += alpha * a[i, k]
    for i in range(7, -1, -1):
        for k in range(i + 1, 8):
            a[i, 8] -= a[i, k] * a[k, 8]
        a[i, 8] /= a[i, i]
    p, q, r, s, t, u, v, w = a[:, 8]
    m[0, 0], m[0, 1], m[0, 2] = t - u * w, r * w - q, q * u - r * t
    m[1, 0], m[1, 1], m[1, 2] = u * v - s, p - r * v, r * s - p * u
    m[2, 0], m[2, 1], m[2, 2] = s * w - t * v, q * v - p * w, p * t - q * s


@compiled
def draw_plate(image, seen, sprites, sides):
    """
    Draw one plate.

    :param seen: Its corners in pixels, (4, 2).
    :param sprites: Value times opacity, and opacity, (N, 2): all sprites one after another.
    :param sides: Of the sprites in pixels, largest first.
    """
    left = max(int(math.floor(seen[:, 0].min())) - 1, 0)
    top = max(int(math.floor(seen[:, 1].min())) - 1, 0)
    right = min(int(math.ceil(seen[:, 0].max())) + 2, image.shape[2])
    bottom = min(int(math.ceil(seen[:, 1].max())) + 2, image.shape[1])
    if right <= left or bottom <= top:
        return
    size = math.sqrt((seen[1, 0] - seen[0, 0]) ** 2 + (seen[1, 1] - seen[0, 1]) ** 2)
    # The smallest sprite that is not coarser than the image.
    offset, side, start = 0, sides[0], 0
    for one in sides:
        if one - 2 >= size:
            offset, side = start, one
        start += one * one
    corners, m = np.empty((4, 2), F), np.empty((3, 3))
    for i in range(4):
        corners[i, 0], corners[i, 1] = seen[i, 0] - left, seen[i, 1] - top
    to_sprite(corners, side - 1.5, m)
    for y in range(bottom - top):
        for x in range(right - left):
            w = STEPS / (m[2, 0] * x + m[2, 1] * y + m[2, 2])
            u = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) * w
            v = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) * w
            if not (-STEPS < u < side * STEPS and -STEPS < v < side * STEPS):
                continue
            u, v = int(np.rint(u)), int(np.rint(v))
            column, row = u // STEPS, v // STEPS
            across, down = F(u % STEPS) / F(STEPS), F(v % STEPS) / F(STEPS)
            value, opacity = F(0.0), F(0.0)
            for i in range(4):
                r, c = row + i // 2, column + i % 2
                weight = ((down if i // 2 else F(1.0) - down)
                          * (across if i % 2 else F(1.0) - across))
                if 0 <= r < side and 0 <= c < side:
                    value += sprites[offset + r * side + c, 0] * weight
                    opacity += sprites[offset + r * side + c, 1] * weight
            for channel in range(len(image)):
                under = F(image[channel, top + y, left + x])
                image[channel, top + y, left + x] = U(I(np.rint(
                    under * (F(1.0) - opacity) + value)))


@compiled
def accumulate(images, k):
    """Turn the first of images, (K, channels, H, W), into the mean of 2 or 3, k of them more."""
    mean, more = images[0], images[k]
    for channel in range(mean.shape[0]):
        for y in range(mean.shape[1]):
            a, b = mean[channel, y], more[channel, y]
            for x in range(len(a)):
                if k == 1:
                    total = I(a[x]) + I(b[x])
                    # Halves are rounded to the even neighbour.
                    a[x] = U((total >> I(1)) + (total & total >> I(1) & I(1)))
                else:
                    a[x] = U((I(2) * I(a[x]) + I(b[x]) + I(1)) // I(3))


@compiled
def develop(image, gain, light, noise, row, column, noisy, taken):
    """
    Apply light and noise.

    :param image: uint8, (channels, H, W).
    :param light: uint8, (H, W * channels), which is multiplied by ``gain``.
    :param noise: uint8, of a larger size, cut out from a row and a column on.
    :param taken: Becomes the result, (H, W * channels).
    """
    factor, channels, width = F(gain), len(image), image.shape[2]
    line = np.empty(width * channels, U)
    for y in range(image.shape[1]):
        for channel in range(channels):
            for x in range(width):
                line[x * channels + channel] = image[channel, y, x]
        bright, out = light[y], taken[y]
        grain = noise[row + y, column * channels:(column + width) * channels]
        for x in range(len(line)):
            value = I(min(np.rint(factor * F(line[x]) * F(bright[x])), F(255.0)))
            if noisy:
                value = min(max(value + I(grain[x]) - I(128), I(0)), I(255))
            out[x] = U(value)


@compiled
def expose(motion, images, camera, ground, sky, plates, light, noise, taking, taken):
    """
    Take one image.

    :param motion: x, y, yaw, speed, yaw rate; how long the exposure is, and its pictures.
    :param images: Room for them, uint8, (pictures or more, channels, H, W).
    :param camera: Of ``Camera``: pixels_to_near_ground, rotation_in_vehicle, matrix, mount.
    :param ground: The last three arguments of ``draw_ground``.
    :param sky: The last four arguments of ``draw_sky``, least of the columns, pixels a radian, and
        those all around.
    :param plates: Corners (n, 4, 3), sprites (n, N, 2), their sides, and the least distance [m].
    :param taking: Gain, row and column of the noise, and whether there is any.
    :param taken: Becomes the image, (H, W * channels).
    """
    x, y, yaw, speed, yaw_rate, duration, count = motion
    near, axes, matrix, mount = camera
    textures, whole, parts = ground
    panorama, columns, starts, down, leftmost, scale, around = sky
    corners, sprites, sides, nearest = plates
    seen = np.empty((4, 2))
    for k in range(count):
        image, before = images[k], duration * k / max(1, count - 1)
        pose = moved(x, y, yaw, -before * speed, -before * yaw_rate)
        draw_ground(image, pose, near, textures, whole, parts)
        if len(columns):
            shift = F((leftmost - pose[2] * scale) % around - leftmost)
            draw_sky(image, shift, panorama, columns, starts, down)
        for i in range(len(corners)):
            if project(corners[i], pose, axes, mount, matrix, nearest, seen):
                draw_plate(image, seen, sprites[i], sides)
        if k:
            accumulate(images, k)
    gain, row, column, noisy = taking
    develop(images[0], gain, light, noise, row, column, noisy, taken)
