"""Pictures of a drive in Gazebo: the path from above, and what both simulators' cameras see."""

from collections.abc import Sequence
from pathlib import Path

import cv2
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np
from stream_agent.drawing.plot_style import BLUE, FAINT, INK, PICTURE_STYLE, save
from stream_agent.gazebo.world_folder import World
from stream_agent.simulation.vehicle import Pose
from stream_agent.simulation.view import Scene

# Frames that are shown, evenly over the drive, and how much larger.
SHOWN, ZOOM, MARGIN = 4, 2, 8
MOST_POINTS = 4000


def draw_path(world: World, path: Sequence[tuple[float, float]], file: Path) -> None:
    """Draw where the robot was, between the borders of its lane."""
    course, driven = world.course, np.array(path)[::max(1, len(path) // MOST_POINTS)]
    closed = np.concatenate([course.points, course.points[:1]])
    with rc_context({**PICTURE_STYLE, 'axes.grid': False}):
        figure = Figure(figsize=(6.4, 5.0), layout='constrained')
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for side in (-0.5, 0.5):
            border = course.border(side * course.lane_width)
            axes.plot(*np.concatenate([border, border[:1]]).T, color=INK, linewidth=1.5)
        axes.plot(*closed.T, color=FAINT, linewidth=0.8, linestyle=(0, (6, 6)))
        axes.plot(*driven.T, color=BLUE, linewidth=0.9, alpha=0.8)
        axes.plot(world.start.x, world.start.y, marker='o', color=BLUE, markersize=5)
        axes.annotate('start', (world.start.x, world.start.y), (5, 5),
                      textcoords='offset points', color=BLUE)
        axes.set(aspect='equal', xlabel='x [m]', ylabel='y [m]')
        figure.set_label('Path of the robot in Gazebo, from above')
    save(figure, file)


def draw_frames(world: World, frames: Sequence[tuple[Pose, np.ndarray]], file: Path) -> None:
    """Draw images of Gazebo's camera, and below each what the embedded simulator shows there."""
    scene = Scene(world.settings, world.seed, world.seed)
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, SHOWN + 2).round().astype(int)
              [1:-1]]
    columns = [np.concatenate([framed(image), framed(scene.view.render(pose))])
               for pose, image in chosen]
    cv2.imwrite(str(file), np.concatenate(columns, axis=1))


def framed(image: np.ndarray) -> np.ndarray:
    """Enlarge an image and put a margin around it; returns (H, W, 3), BGR."""
    channels = image[:, :, ::-1] if image.ndim == 3 else image[:, :, None]
    large = cv2.resize(np.repeat(channels, 3 // channels.shape[2], axis=2), None, fx=ZOOM,
                       fy=ZOOM, interpolation=cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(large, *[MARGIN // 2] * 4, cv2.BORDER_CONSTANT, value=[255] * 3)
