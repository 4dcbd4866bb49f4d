"""A scene as textured meshes: the ground, and the surroundings."""

from collections.abc import Sequence
import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from stream_agent.simulation.signs import Plate
from stream_agent.simulation.texture import GroundTexture
from stream_agent.simulation.view import PIXELS_PER_RADIAN, TOP

# Far enough that a lap changes directions by little, near enough for every camera's range.
HORIZON_DISTANCE = 200.0
# Side [m] of the whole ground, and how much lower it is than the course: enough for a renderer to
# tell them apart, too little for a camera to see.
GROUND_SIDE, LOWER = 400.0, 0.002
# Circles are straight edges between this many corners.
AZIMUTHS, ELEVATIONS = 96, 12
# Around what is on a plate in the picture of all, so that neighbours do not mix in the distance.
PLATE_MARGIN_PX = 16


class Mesh(NamedTuple):
    """
    Quadrilaterals with a texture.

    :param vertices: x, y, z [m], (N, 3).
    :param texture: Where in the picture they are, (N, 2): from 0 to 1, to the right and *up*.
    :param faces: Indices of the corners, counterclockwise as seen from the front, (M, 4).
    :param pixels: The picture, uint8, (H, W) or (H, W, 3) in RGB order.
    """

    vertices: np.ndarray
    texture: np.ndarray
    faces: np.ndarray
    pixels: np.ndarray

    def write(self, folder: Path, name: str) -> None:
        """Write ``name.obj``, its material ``name.mtl`` and its picture ``name.png``."""
        # Always in colour: ogre2 makes no smaller copies of grey pictures for what is far away.
        picture = cv2.cvtColor(self.pixels, cv2.COLOR_GRAY2BGR if self.pixels.ndim == 2
                               else cv2.COLOR_RGB2BGR)
        # cv2.imwrite does not say why it fails.
        (folder / f'{name}.png').write_bytes(cv2.imencode('.png', picture)[1].tobytes())
        (folder / f'{name}.mtl').write_text(
            f'newmtl {name}\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nmap_Kd {name}.png\n')
        (folder / f'{name}.obj').write_text('\n'.join([
            f'mtllib {name}.mtl', f'usemtl {name}',
            *(' '.join([kind, *(f'{value:.6f}' for value in row)])
              for kind, rows in (('v', self.vertices), ('vt', self.texture)) for row in rows),
            # One for all, as nothing is lit; without normals, ogre2 draws everything white.
            'vn 0 0 1',
            *('f ' + ' '.join(f'{i}/{i}/1' for i in face) for face in self.faces + 1), '']))


def ground_mesh(ground: GroundTexture) -> Mesh:
    """Return the ground as a rectangle, every pixel where it is in the world."""
    rows, columns = ground.pixels.shape[:2]
    side = ground.resolution
    left, near = (start - 0.5 * side for start in ground.origin)
    return rectangle((left, left + columns * side), (near, near + rows * side), 0.0,
                     ground.pixels)


def beyond_mesh(ground: GroundTexture) -> Mesh:
    """
    Return the ground that has one colour, a little lower than what is drawn of it.

    A material of that colour would be lit differently from a picture.
    """
    flat = np.broadcast_to(np.round(ground.beyond), (4, 4, len(ground.beyond))).astype(np.uint8)
    half = (-0.5 * GROUND_SIDE, 0.5 * GROUND_SIDE)
    return rectangle(half, half, -LOWER, flat.squeeze(2) if len(ground.beyond) == 1 else flat)


def rectangle(x: tuple[float, float], y: tuple[float, float], z: float, pixels: np.ndarray
              ) -> Mesh:
    """Return a level rectangle; the first row of its picture, the upper one, is at the least y."""
    (left, right), (near, far) = x, y
    return Mesh(np.array([[left, near, z], [right, near, z], [right, far, z], [left, far, z]]),
                np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]),
                np.array([[0, 1, 2, 3]]), pixels)


def plates_mesh(plates: Sequence[Plate]) -> Mesh:
    """Return plates, seen from the front only, with a picture that has all of them in a square."""
    across = math.ceil(math.sqrt(len(plates)))
    cells = [np.pad(plate.sprites[0][1:-1, 1:-1, 0], PLATE_MARGIN_PX, 'edge') for plate in plates]
    side = len(cells[0])
    pixels = np.zeros((across * side, across * side), np.uint8)
    texture = []
    for i, cell in enumerate(cells):
        row, column = divmod(i, across)
        pixels[row * side:(row + 1) * side, column * side:(column + 1) * side] = np.rint(cell)
        left, right = column * side + PLATE_MARGIN_PX, (column + 1) * side - PLATE_MARGIN_PX
        top, bottom = row * side + PLATE_MARGIN_PX, (row + 1) * side - PLATE_MARGIN_PX
        texture += [(x / len(pixels), 1.0 - y / len(pixels)) for x, y in (
            (left, top), (right, top), (right, bottom), (left, bottom))]
    # Corners go clockwise as seen from the front.
    faces = np.arange(4 * len(plates)).reshape(-1, 4)[:, ::-1]
    return Mesh(np.concatenate([plate.corners for plate in plates]), np.array(texture), faces,
                pixels)


def horizon_mesh(panorama: np.ndarray, height: float) -> Mesh:
    """Return the surroundings as part of a sphere around a camera at a height [m]."""
    rows, columns = panorama.shape[:2]
    # Centres of the pixels from one seam to the other, to the right, and from top to bottom.
    column = np.linspace(0, columns, AZIMUTHS + 1)
    row = np.linspace(0, rows - 1, ELEVATIONS + 1)
    across, down = np.meshgrid(-column / PIXELS_PER_RADIAN, TOP - row / PIXELS_PER_RADIAN)
    vertices = HORIZON_DISTANCE * np.stack([
        np.cos(down) * np.cos(across), np.cos(down) * np.sin(across), np.sin(down)], axis=-1)
    texture = np.stack(np.meshgrid((column + 0.5) / columns, 1 - (row + 0.5) / rows), axis=-1)
    corner = np.arange(vertices[..., 0].size).reshape(vertices.shape[:2])
    # Columns go to the right as seen from inside, so this order is counterclockwise there.
    faces = np.stack([corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:], corner[:-1, :-1]], axis=-1)
    return Mesh(vertices.reshape(-1, 3) + (0.0, 0.0, height), texture.reshape(-1, 2),
                faces.reshape(-1, 4), panorama)
