"""
The README's moving picture: three policies on the same drive and the same slow computer.

Run ``python -m studies.drive_picture``; it takes less than a minute. The policies drive in
lockstep on an emulated core on which a pass through all layers takes 6.4 camera periods. The
course is the first held-out one, and where the shown stretch begins was fixed before a drive was
seen; its length is what fits the file. The large score counts from the start of the drive, the
small one is that of the whole minute.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from itertools import pairwise
import math
from pathlib import Path
import sys
from typing import Any, NamedTuple

import cv2
from matplotlib.colors import to_rgb
from matplotlib.font_manager import findfont, FontProperties
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from stream_agent.drawing.plot_style import BLUE, FAINT, INK, VERMILION
from stream_agent.driving.compute_model import ComputeModel, HANDOVER, TimingFigures
from stream_agent.driving.drivers import NetworkDriver
from stream_agent.driving.drives import drive_trial, Trial
from stream_agent.driving.evaluation import timed
from stream_agent.network.checkpoint import load_driving_policy
from stream_agent.share import share_folder, write_file
from stream_agent.simulation.course import Course, FIRST_HELD_OUT_SEED, random_course
from stream_agent.simulation.drive_log import LANE_BAND, RoadTask, SPEED_BAND
from stream_agent.simulation.environment import Moment
from stream_agent.simulation.settings import read_settings, SimulationSettings
from stream_agent.simulation.signs import glyph_mask, GLYPHS, Signs, SPEEDS

POLICIES = {'planned': 'a glance at every image, deep layers in turn',
            'sequential': 'all layers before every command',
            'smaller': 'only the layers that fit a camera period'}
PASS_PERIODS, PUSHES = 6.4, 1.5
# Seconds of the drive; where the shown stretch begins, and how long it is.
DRIVE, BEGIN, SHOWN = 60.0, 8.0, 10.0
PICTURES_A_SECOND = 10
LEGEND = ((BLUE, 'in the lane at the commanded speed'), (VERMILION, 'not so, or put back'),
          (FAINT, 'not judged: shortly after a change of the command'))
# Shots over which the path is drawn.
TRAIL = 120
# In pixels: widths, the parts of a column from above, and a metre of the map.
WIDTH, GAP, COLUMN, CAMERA = 840, 24, 256, 192
CAMERA_TOP, MAP_TOP, MAP_HEIGHT, METRE = 62, 214, 190, 75
SPEED_TOP, SCORE_TOP, LEGEND_TOP, HEIGHT = 410, 452, 506, 544
FASTEST = 2.4
GRASS, LANE, BAND, BORDER = '#e3e8dd', '#ffffff', '#cfe3f2', '#8a8a8a'
# As many greys are drawn as fit a file of so many bytes, which is mostly the camera's noise.
LARGEST_FILE, GREYS = 1_950_000, range(8, 3, -1)


class Shot(NamedTuple):
    """
    What is shown of one instant.

    :param pixels: The network's input from which the command in force was computed, (C, H, W).
    :param age: Since that image came [s].
    :param right: Whether the vehicle is in both bands; None if that is not judged here.
    :param score: Since the start of the drive.
    """

    now: Moment
    pixels: np.ndarray
    age: float
    right: bool | None
    score: float
    by_expert: bool


class Film(RoadTask):
    """A drive past signs that keeps a shot of every instant at which an image comes."""

    def __init__(self, lane_width: float, driver: NetworkDriver) -> None:
        super().__init__(lane_width)
        self.shots: list[Shot] = []
        self._driver = driver
        self._taken: deque[tuple[float, float, np.ndarray]] = deque()

    def before(self, now: Moment, answer: float | None) -> None:
        if answer is not None:
            self._taken.append((answer, now.time, self._driver.observations[0]['image']))

    def after(self, now: Moment, answered: bool, by_expert: bool) -> None:
        judged = len(self.right)
        super().after(now, answered, by_expert)
        while len(self._taken) > 1 and self._taken[1][0] <= now.time:
            self._taken.popleft()
        _, taken, pixels = self._taken[0]
        right = self.right[-1] if len(self.right) > judged else None
        self.shots.append(Shot(now, pixels, now.time - taken, right, self.score, by_expert))


def films(settings: SimulationSettings, seconds: float) -> dict[str, tuple[TimingFigures, Film]]:
    """Let every policy drive, so long without the expert's start; say how old its knowledge is."""
    config = share_folder() / 'config'
    computer = ComputeModel(costs=config / 'graphs' / 'reflex_costs.yaml',
                            pass_periods=PASS_PERIODS)
    paths = [str(config / 'policies' / f'reflex_{name}.safetensors') for name in POLICIES]
    trial = Trial(settings, (FIRST_HELD_OUT_SEED,), seconds + HANDOVER, PUSHES, HANDOVER)
    found = {}
    for name, one in zip(POLICIES, timed(paths, computer, settings.period)):
        policy = load_driving_policy(one.name)
        driver = NetworkDriver(policy.network, policy.preprocessing, policy.limits, 1,
                               policy.updates_per_frame)
        film = Film(settings.lane_width, driver)
        drive_trial(driver, one.timeline, trial, log=lambda _: film)
        found[name] = one.figures, film
    return found


def rgb(colour: str) -> tuple[int, int, int]:
    """Return a colour's red, green and blue, 0 to 255."""
    red, green, blue = (round(255 * part) for part in to_rgb(colour))
    return red, green, blue


def colour_of(right: bool | None) -> str:
    """Return in which colour a judgement is drawn."""
    return FAINT if right is None else BLUE if right else VERMILION


def percent(score: float) -> str:
    """Write a share; a dash if nothing was judged."""
    return '–' if math.isnan(score) else f'{100 * score:.0f} %'


class Map:
    """The course from above: where the course leads is up, and the lane's middle is centred."""

    def __init__(self, course: Course, signs: Signs) -> None:
        self._course, self._signs = course, signs

    def draw(self, shots: list[Shot]) -> Image.Image:
        """Draw the last of some shots, with the path so far."""
        now = shots[-1].now
        x, y, heading = self._course.pose_at(now.along % self._course.length)
        turn = np.array([[math.sin(heading), -math.cos(heading)],
                         [-math.cos(heading), -math.sin(heading)]]) * METRE
        image = np.full((MAP_HEIGHT, COLUMN, 3), rgb(GRASS), np.uint8)

        def pixels(points: Any) -> np.ndarray:
            seen = (np.asarray(points) - (x, y)) @ turn.T + (COLUMN / 2, 0.62 * MAP_HEIGHT)
            return np.rint(seen).astype(np.int32)

        middle = pixels(self._course.points)
        lane = round(self._course.lane_width * METRE)
        for colour, thickness in ((BORDER, lane + 3), (LANE, lane),
                                  (BAND, round(2 * LANE_BAND * METRE))):
            cv2.polylines(image, [middle], True, rgb(colour), thickness)
        path = pixels([shot.now.pose[:2] for shot in shots])
        for shot, (begin, end) in zip(shots[1:], pairwise(path)):
            # Where the vehicle was put back, there is a gap.
            if np.abs(end - begin).max() < 0.1 * METRE:
                cv2.line(image, begin.tolist(), end.tolist(), rgb(colour_of(shot.right)), 3)
        self._draw_vehicle(image, path[-1], now.pose.yaw - heading)
        picture = Image.fromarray(image)
        self._draw_plates(picture, pixels, now.along)
        return picture

    @staticmethod
    def _draw_vehicle(image: np.ndarray, place: np.ndarray, yaw: float) -> None:
        outline = METRE * np.array([(0.16, 0.0), (-0.08, 0.08), (-0.08, -0.08)])
        ahead, left = outline.T
        corners = place + np.stack([-ahead * math.sin(yaw) - left * math.cos(yaw),
                                    -ahead * math.cos(yaw) + left * math.sin(yaw)], axis=1)
        cv2.fillConvexPoly(image, np.rint(corners).astype(np.int32), rgb(INK), cv2.LINE_AA)

    def _draw_plates(self, picture: Image.Image, pixels: Any, along: float) -> None:
        draw = ImageDraw.Draw(picture)
        for index in range(max(1, math.floor(along - 1)), math.floor(along + 3)):
            for plate in self._signs.plates_at(index):
                column, row = pixels(plate.corners[:, :2].mean(axis=0)).tolist()
                side, means = 26, plate.glyph in GLYPHS
                box = (column - side // 2, row - side // 2)
                ink = Image.fromarray(glyph_mask(plate.glyph)).resize(
                    (side, side), Image.Resampling.NEAREST)
                picture.paste(rgb(LANE), (*box, box[0] + side, box[1] + side))
                picture.paste(rgb(INK if means else FAINT), box, ink)
                draw.rectangle((*box, box[0] + side, box[1] + side),
                               outline=INK if means else FAINT)
                if means:
                    speed = SPEEDS[GLYPHS.index(plate.glyph) // 2]
                    draw.text((column, row + side // 2 + 1), f'{speed:g}', INK, font(11), 'ma')


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the pictures' font in a size [px]."""
    return ImageFont.truetype(findfont(FontProperties(
        family='DejaVu Sans', weight='bold' if bold else 'normal')), size)


class Column:
    """
    One policy's part of the pictures.

    :param left: Where it begins [px].
    """

    def __init__(self, left: int, name: str, figures: TimingFigures, film: Film, view: Map
                 ) -> None:
        self._left, self._name, self._figures = left, name, figures
        self._film, self._view = film, view

    def draw_still(self, picture: Image.Image) -> None:
        """Draw what does not move."""
        draw, left = ImageDraw.Draw(picture), self._left
        newest, deep = (f'{1000 * age:.0f} ms' for age in (
            self._figures.newest, self._figures.deep))
        draw.text((left, 4), self._name, INK, font(17, True))
        draw.text((left, 27), POLICIES[self._name], INK, font(11))
        draw.text((left, 42), f'acts on a lane {newest} old and signs {deep} old'
                  if newest != deep else f'acts on what is {newest} old', INK, font(11))
        draw.multiline_text((left + CAMERA + 6, CAMERA_TOP + 30), 'image the\ncommand\nanswers:',
                            INK, font(11), spacing=3)
        draw.multiline_text(
            (left + 84, SCORE_TOP), 'of the time so far in the lane\nat the commanded speed;\n'
            f'all {DRIVE:.0f} s: {percent(self._film.score)}, {self._film.departures} departures',
            INK, font(11), spacing=3)

    def draw_moment(self, picture: Image.Image, number: int) -> None:
        """Draw what moves, at one of the film's shots."""
        draw, left = ImageDraw.Draw(picture), self._left
        shots = self._film.shots[max(0, number - TRAIL):number + 1]
        shot = shots[-1]
        camera = Image.fromarray(shot.pixels[0])
        picture.paste(camera.resize((CAMERA, CAMERA * camera.height // camera.width),
                                    Image.Resampling.NEAREST), (left, CAMERA_TOP))
        beside = left + CAMERA + 6
        draw.text((beside, CAMERA_TOP + 76), f'{1000 * shot.age:.0f} ms', INK, font(14, True))
        if shot.by_expert:
            draw.multiline_text((beside, CAMERA_TOP + 102), 'left the\nlane, was\nput back',
                                VERMILION, font(11), spacing=3)
        picture.paste(self._view.draw(shots), (left, MAP_TOP))
        self._draw_speed(draw, shot)
        draw.text((left, SCORE_TOP + 2), percent(shot.score), INK, font(28, True))

    def _draw_speed(self, draw: ImageDraw.ImageDraw, shot: Shot) -> None:
        wanted, driven = shot.now.reference.speed, shot.now.speed
        left, bottom = self._left, SPEED_TOP + 30

        def place(speed: float) -> float:
            return left + (COLUMN - 1) * min(max(speed / FASTEST, 0.0), 1.0)

        # In the colour of the speed alone: the lane is judged in the map.
        right = not shot.by_expert and abs(driven - wanted) < SPEED_BAND
        colour = colour_of(None if shot.right is None else right)
        draw.text((left, SPEED_TOP), f'commanded {wanted:.1f} m/s, driven {driven:.1f} m/s', INK,
                  font(11))
        draw.rectangle((left, bottom - 12, place(FASTEST), bottom), GRASS)
        draw.rectangle((place(wanted - SPEED_BAND), bottom - 12, place(wanted + SPEED_BAND),
                        bottom), BAND)
        draw.rectangle((left, bottom - 9, place(driven), bottom - 3), colour)
        draw.line((place(wanted), bottom - 14, place(wanted), bottom + 2), INK, 2)


def draw_legend(picture: Image.Image) -> None:
    """Say below all columns what colours mean, and what was driven."""
    draw, column = ImageDraw.Draw(picture), GAP // 2
    for colour, meaning in LEGEND:
        draw.line((column, LEGEND_TOP + 7, column + 18, LEGEND_TOP + 7), colour, 4)
        draw.text((column + 24, LEGEND_TOP), meaning, INK, font(11))
        column += 44 + round(font(11).getlength(meaning))
    draw.text((GAP // 2, LEGEND_TOP + 18), 'Emulated core on which a pass through all layers '
              f'takes {PASS_PERIODS:g} periods of the camera (60 Hz). The same held-out course, '
              'signs and pushes.', INK, font(11))


def pictures(settings: SimulationSettings, found: Mapping[str, tuple[TimingFigures, Film]],
             numbers: Iterable[int]) -> list[Image.Image]:
    """Draw the shots of some numbers of all films side by side."""
    course = random_course(FIRST_HELD_OUT_SEED, settings.lane_width)
    view = Map(course, Signs(course, FIRST_HELD_OUT_SEED))
    still = Image.new('RGB', (WIDTH, HEIGHT), 'white')
    draw_legend(still)
    columns = [Column(GAP // 2 + i * (COLUMN + GAP), name, figures, film, view)
               for i, (name, (figures, film)) in enumerate(found.items())]
    for column in columns:
        column.draw_still(still)
    drawn = []
    for number in numbers:
        drawn.append(still.copy())
        for column in columns:
            column.draw_moment(drawn[-1], number)
    return drawn


def quantized(images: Sequence[Image.Image], greys: int) -> list[Image.Image]:
    """Return pictures in few colours, of which so many are greys."""
    shades = [255 - part * (255 - np.array(rgb(colour)))
              for colour in (BLUE, VERMILION) for part in (1.0, 0.6)]
    colours = np.concatenate([np.linspace(rgb(INK), 255, greys), shades,
                              [rgb(GRASS), rgb(BAND)]])
    palette = Image.new('P', (1, 1))
    palette.putpalette(np.rint(colours).astype(int).ravel().tolist())
    return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]


def written(images: Sequence[Image.Image]) -> bytes:
    """Return a moving picture as a file that is small enough."""
    for greys in GREYS:
        first, *others = quantized(images, greys)
        file = BytesIO()
        first.save(file, 'GIF', save_all=True, append_images=others, loop=0, optimize=True,
                   duration=1000 // PICTURES_A_SECOND)
        if file.tell() <= LARGEST_FILE:
            break
    return file.getvalue()


def main(path: Path) -> None:
    """Write the picture, and print what the whole drives came to."""
    settings = read_settings(share_folder() / 'config' / 'robots' / 'reflex.yaml')
    found = films(settings, DRIVE)
    first = round((HANDOVER + BEGIN) * settings.rate)
    last = first + round(SHOWN * settings.rate)
    images = pictures(settings, found, range(first, last,
                                             round(settings.rate / PICTURES_A_SECOND)))
    write_file(path, written(images))
    for name, (_, film) in found.items():
        print(f'{name}: {percent(film.score)} of {DRIVE:.0f} s, {film.departures} departures')
    print(f'{path}: {path.stat().st_size / 1e6:.2f} MB')


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else 'docs/images/drive.gif'))
