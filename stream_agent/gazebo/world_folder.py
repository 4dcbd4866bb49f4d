"""A folder with all that Gazebo, its bridge and the expert need for one course."""

import csv
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from stream_agent.gazebo.meshes import beyond_mesh, ground_mesh, horizon_mesh, plates_mesh
from stream_agent.gazebo.robots import robot_file
from stream_agent.gazebo.world import world_file
from stream_agent.graph_files.located_yaml import read_yaml
from stream_agent.simulation.course import Course
from stream_agent.simulation.environment import make_vehicle
from stream_agent.simulation.settings import SimulationSettings, VEHICLES
from stream_agent.simulation.signs import Signs
from stream_agent.simulation.vehicle import Pose
from stream_agent.simulation.view import Scene
import yaml

# Of each topic: its name in ROS, relative to the robot's namespace except for /clock and /tf, and
# in Gazebo; its type in ROS and in Gazebo; where it goes. The camera's topics have a bridge of
# their own, so that nothing else waits for an image.
BRIDGES = {
    'camera.yaml': [
        ('image', 'image', 'sensor_msgs/msg/Image', 'gz.msgs.Image', 'GZ_TO_ROS'),
        ('camera_info', 'camera_info', 'sensor_msgs/msg/CameraInfo', 'gz.msgs.CameraInfo',
         'GZ_TO_ROS')],
    'bridge.yaml': [
        ('/clock', 'clock', 'rosgraph_msgs/msg/Clock', 'gz.msgs.Clock', 'GZ_TO_ROS'),
        ('cmd_vel', 'cmd_vel', 'geometry_msgs/msg/TwistStamped', 'gz.msgs.Twist', 'ROS_TO_GZ'),
        ('odom', 'odom', 'nav_msgs/msg/Odometry', 'gz.msgs.Odometry', 'GZ_TO_ROS'),
        ('ground_truth', 'ground_truth', 'nav_msgs/msg/Odometry', 'gz.msgs.Odometry',
         'GZ_TO_ROS'),
        ('/tf', 'odom_tf', 'tf2_msgs/msg/TFMessage', 'gz.msgs.Pose_V', 'GZ_TO_ROS')]}
BRIDGE_KEYS = ('ros_topic_name', 'gz_topic_name', 'ros_type_name', 'gz_type_name', 'direction')
COURSE_FILE, SCENE_FILE = 'course.csv', 'scene.yaml'
# In metres and radians.
COLUMNS = ('x', 'y', 'heading', 'curvature')


class World(NamedTuple):
    """A world that was written: settings of its embedded twin and expert, start of the robot."""

    course: Course
    settings: SimulationSettings
    start: Pose
    seed: int

    @property
    def signs(self) -> Signs | None:
        """The plates along the course, those of the first lap in every lap; None without signs."""
        return Signs(self.course, self.seed) if self.settings.signs else None


class WorldError(ValueError):
    """A world folder that cannot be used; the message says which file, and what to do."""


def write_world(settings: SimulationSettings, seed: int, folder: Path) -> None:
    """
    Write the course and the look that follow from a seed, with both robots.

    :param folder: Made if it does not exist; files of the same names are replaced, all or none.
    :raises OSError: If it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(dir=folder) as written:
            write_files(settings, seed, Path(written))
            for file in Path(written).iterdir():
                file.replace(folder / file.name)
    except OSError as error:
        # A full disk does not say which file.
        raise OSError(error.errno, error.strerror, str(folder)) from error


def write_files(settings: SimulationSettings, seed: int, folder: Path) -> None:
    """Write the files of a world, none of which is there yet."""
    scene = Scene(settings, seed, seed)
    ground_mesh(scene.ground).write(folder, 'ground')
    beyond_mesh(scene.ground).write(folder, 'beyond')
    horizon_mesh(scene.panorama, scene.camera.height).write(folder, 'horizon')
    if scene.signs:
        plates_mesh(scene.signs.first_lap()).write(folder, 'plates')
    (folder / 'world.sdf').write_text(world_file(scene.look.sky, settings.signs))
    for name in VEHICLES:
        vehicle = make_vehicle(replace(settings, vehicle=name))
        (folder / f'{name}.sdf').write_text(robot_file(settings.rate, scene.camera, vehicle))
    for name, topics in BRIDGES.items():
        (folder / name).write_text(yaml.safe_dump(
            [dict(zip(BRIDGE_KEYS, topic)) for topic in topics], sort_keys=False))
    course = scene.course
    np.savetxt(folder / COURSE_FILE,
               np.column_stack([course.points, course.headings, course.curvatures]),
               '%.6f', ',', header=','.join(COLUMNS), comments='')
    (folder / SCENE_FILE).write_text(yaml.safe_dump({
        'seed': seed, 'lane_width': course.lane_width, 'length': course.length,
        'start': Pose(*course.pose_at(0.0))._asdict(),
        'camera': asdict(scene.camera), 'settings': asdict(settings)}, sort_keys=False))


def read_world(folder: Path) -> World:
    """
    Read the course of a folder, and the settings of the embedded simulator.

    :raises OSError: If a file cannot be read.
    :raises WorldError: If it is damaged.
    """
    try:
        scene = read_yaml((folder / SCENE_FILE).read_text(), str(folder / SCENE_FILE))
        lane_width, length = float(scene['lane_width']), float(scene['length'])
        start = Pose(**{name: float(value) for name, value in scene['start'].items()})
        settings, seed = SimulationSettings(**scene['settings']), int(scene['seed'])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise WorldError(f"'{folder / SCENE_FILE}' does not say lane_width, length, start, "
                         'settings and seed; write the world again') from error
    try:
        with (folder / COURSE_FILE).open(newline='') as file:
            _, *rows = csv.reader(file)
        x, y, headings, curvatures = np.array(rows, float).T
    except ValueError as error:
        raise WorldError(f"'{folder / COURSE_FILE}' is not a table of {', '.join(COLUMNS)}; write "
                         'the world again') from error
    course = Course(np.stack([x, y], axis=1), headings, curvatures, lane_width, length)
    return World(course, settings, start, seed)
