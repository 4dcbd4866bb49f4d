"""A folder with all that Gazebo, its bridge and the expert need of one course."""

import csv
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from stream_agent.gazebo.bridge import bridge_file
from stream_agent.gazebo.meshes import ground_mesh, horizon_mesh
from stream_agent.gazebo.robots import robot_file
from stream_agent.gazebo.world import world_file
from stream_agent.simulation.course import Course
from stream_agent.simulation.environment import make_vehicle
from stream_agent.simulation.scene import Scene
from stream_agent.simulation.settings import Settings, VEHICLES
import yaml

WORLD_FILE, BRIDGE_FILE, COURSE_FILE, SCENE_FILE = (
    'world.sdf', 'bridge.yaml', 'course.csv', 'scene.yaml')
COLUMNS = ('x', 'y', 'heading', 'curvature')


class WorldError(ValueError):
    """A world folder that cannot be used; the message says which file, and what to do."""


def write_world(settings: Settings, seed: int, folder: Path) -> None:
    """
    Write the course and the look that a seed stands for, with both robots.

    :param folder: Made where there is none; files of the same names are replaced.
    :raises OSError: If it cannot be written.
    """
    scene = Scene(settings, seed, seed)
    folder.mkdir(parents=True, exist_ok=True)
    ground_mesh(scene.ground).write(folder, 'ground')
    horizon_mesh(scene.panorama, scene.camera.height).write(folder, 'horizon')
    (folder / WORLD_FILE).write_text(world_file(scene.look.ground, scene.look.sky))
    for name in VEHICLES:
        vehicle = make_vehicle(replace(settings, vehicle=name))
        (folder / f'{name}.sdf').write_text(robot_file(settings.rate, scene.camera, vehicle))
    (folder / BRIDGE_FILE).write_text(bridge_file())
    write_course(scene.course, folder / COURSE_FILE)
    (folder / SCENE_FILE).write_text(yaml.safe_dump({
        'seed': seed, 'lane_width': scene.course.lane_width, 'length': scene.course.length,
        'start': dict(zip(('x', 'y', 'yaw'), scene.course.pose_at(0.0))),
        'camera': asdict(scene.camera), 'settings': asdict(settings)}, sort_keys=False))


def write_course(course: Course, path: Path) -> None:
    """Write the centre line, a point a row, in metres and radians."""
    with path.open('w', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(COLUMNS)
        for (x, y), *rest in zip(course.points, course.headings, course.curvatures):
            writer.writerow(f'{value:.6f}' for value in (x, y, *rest))


def read_course(folder: Path) -> Course:
    """
    Read the course of a world folder.

    :raises OSError: If a file cannot be read.
    :raises WorldError: If it is damaged.
    """
    try:
        scene = yaml.safe_load((folder / SCENE_FILE).read_text())
        lane_width, length = float(scene['lane_width']), float(scene['length'])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise WorldError(f"'{folder / SCENE_FILE}' does not say lane_width and length of the "
                         'course; write the world again') from error
    try:
        with (folder / COURSE_FILE).open(newline='') as file:
            _, *rows = csv.reader(file)
        x, y, headings, curvatures = np.array(rows, float).T
    except ValueError as error:
        raise WorldError(f"'{folder / COURSE_FILE}' is no table of {', '.join(COLUMNS)}; write "
                         'the world again') from error
    return Course(np.stack([x, y], axis=1), headings, curvatures, lane_width, length)
