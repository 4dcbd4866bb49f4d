"""
Start Gazebo with a course and a robot, its bridge, and all that drives there.

    ros2 launch stream_agent gazebo.launch.py headless:=true world:=worlds/seed_7 vehicle:=bicycle

This is agent.launch.py with Gazebo for a camera and a robot. Its arguments hold here too. A world
of your own is written by `ros2 run stream_agent world --seed 7 --output worlds/seed_7`.
"""

from pathlib import Path
import shutil
import signal

from ament_index_python.packages import get_package_share_directory, PackageNotFoundError
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction,
    RegisterEventHandler, SetLaunchConfiguration, Shutdown, TimerAction)
from launch.event_handlers import OnProcessExit
from launch.logging import get_logger
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from stream_agent.gazebo.world_folder import read_world

SHARE = FindPackageShare('stream_agent')
PROFILES = 'FASTRTPS_DEFAULT_PROFILES_FILE'
VEHICLES = ('differential', 'bicycle')
# As ours do by themselves: what is left behind by `ros2 launch` ends.
END_WITH_PARENT = ['setpriv', '--pdeathsig', 'INT'] if shutil.which('setpriv') else []
# `create` waits for Gazebo for ever, and says nothing [s].
PATIENCE = 10.0
REMEDY = 'sudo apt install ros-${ROS_DISTRO}-ros-gz'
# What differs from agent.launch.py.
OVERRIDES = [
    DeclareLaunchArgument(
        'baseline', description="Policy to compare the one that drives with, or 'none'",
        default_value=PathJoinSubstitution(
            [SHARE, 'config', 'policies', 'lane_sequential.safetensors'])),
    DeclareLaunchArgument(
        'params_file', default_value=PathJoinSubstitution([SHARE, 'config', 'simulation.yaml']),
        description='Parameters that override those of config/robot.yaml'),
    DeclareLaunchArgument(
        'use_sim_time', default_value='true', description='Take the time from /clock'),
    DeclareLaunchArgument(
        'respawn', default_value='false',
        description='Start a process again that ended; false: a crash ends the simulation'),
]
ARGUMENTS = [
    DeclareLaunchArgument(
        'world', default_value=PathJoinSubstitution([SHARE, 'config', 'gazebo', 'course']),
        description='Folder that `ros2 run stream_agent world` wrote'),
    DeclareLaunchArgument(
        'vehicle', default_value=VEHICLES[0], choices=VEHICLES,
        description='Which of the two robots of the world: two driven wheels, or a car'),
    DeclareLaunchArgument(
        'headless', default_value='false', choices=('true', 'false'),
        description='true: no window, and images are rendered without a display'),
]


def check_installed():
    """Refuse to start without what Gazebo's side needs."""
    missing = [] if shutil.which('gz') else ["the command 'gz'"]
    for package in ('ros_gz_sim', 'ros_gz_bridge'):
        try:
            get_package_share_directory(package)
        except PackageNotFoundError:
            missing.append(f"the package '{package}'")
    if missing:
        raise RuntimeError(f'Gazebo is not installed: {", ".join(missing)} cannot be found; '
                           f'install it by `{REMEDY}` and source ROS again')


def check_world(folder):
    """Refuse a folder that is no world."""
    for name in ('world.sdf', 'bridge.yaml', 'camera.yaml', 'scene.yaml'):
        if not (folder / name).is_file():
            raise RuntimeError(f"world: '{folder}' has no file '{name}'; write one by "
                               '`ros2 run stream_agent world --output DIR`')


def gazebo(context):
    """Start server or window, put the robot onto the course, and bridge the topics."""
    check_installed()
    folder = Path(LaunchConfiguration('world').perform(context)).expanduser().resolve()
    check_world(folder)
    start = read_world(folder).start._asdict()
    headless = LaunchConfiguration('headless').perform(context) == 'true'
    # Without a shell, and with a second signal: its server now and then sleeps through the first.
    server = ExecuteProcess(
        cmd=[*END_WITH_PARENT, 'gz', 'sim', '-r', '-v', '3',
             *(['-s', '--headless-rendering'] if headless else []), str(folder / 'world.sdf')],
        name='gazebo', output='screen', sigterm_timeout='5', sigkill_timeout='5')
    vehicle = LaunchConfiguration('vehicle').perform(context)
    spawn = Node(
        package='ros_gz_sim', executable='create', output='screen',
        arguments=['-name', 'robot', '-file', str(folder / f'{vehicle}.sdf'),
                   *(word for flag, name in (('-x', 'x'), ('-y', 'y'), ('-Y', 'yaw'))
                     for word in (flag, str(start[name])))])
    return [server, spawn, *bridges(folder),
            TimerAction(period=PATIENCE, actions=[
                OpaqueFunction(function=warn_of_waiting, args=[spawn])]),
            RegisterEventHandler(OnProcessExit(target_action=server, on_exit=end))]


def warn_of_waiting(context, spawn):
    """Say that the robot is not on the course yet, and what may be the reason."""
    if spawn.return_code is None:
        get_logger('gazebo').warning(
            f'the robot is not on the course after {PATIENCE:g} s, as `create` waits for Gazebo: '
            "see above whether 'gazebo' has loaded the world; if it has, the two do not hear each "
            'other: start again with GZ_IP=127.0.0.1 set, and without another Gazebo '
            "(`pgrep -a -f 'gz sim'` lists them)")


def end(event, context):
    """End the launch with Gazebo, with an error if it crashed."""
    if event.returncode not in (0, -signal.SIGINT):
        raise RuntimeError(f'Gazebo ended with exit code {event.returncode}')
    return None if context.is_shutdown else Shutdown(reason='Gazebo ended')


def bridges(folder):
    """Start a bridge for images, and one for all else, which then waits for no image."""
    files = {'bridge': 'bridge.yaml', 'camera_bridge': 'camera.yaml'}
    return [
        Node(package='ros_gz_bridge', executable='parameter_bridge', name=name, output='screen',
             namespace=LaunchConfiguration('namespace'), prefix=' '.join(END_WITH_PARENT),
             parameters=[{'config_file': str(folder / file), 'use_sim_time': True}],
             remappings=[('image', LaunchConfiguration('image_topic')),
                         ('cmd_vel', LaunchConfiguration('cmd_vel_topic')),
                         ('odom', LaunchConfiguration('odom_topic'))],
             # So that large images come through, too.
             additional_env={PROFILES: EnvironmentVariable(
                 PROFILES, default_value=PathJoinSubstitution([SHARE, 'config', 'fastdds.xml']))})
        for name, file in files.items()]


def generate_launch_description():
    """Describe Gazebo, its bridge, the expert, and what agent.launch.py starts."""
    agent = IncludeLaunchDescription(
        PathJoinSubstitution([SHARE, 'launch', 'agent.launch.py']),
        launch_arguments=[(argument.name, LaunchConfiguration(argument.name))
                          for argument in OVERRIDES])
    expert = Node(
        package='stream_agent', executable='expert', name='expert', output='screen',
        namespace=LaunchConfiguration('namespace'),
        parameters=[{'world': ParameterValue(LaunchConfiguration('world'), value_type=str),
                     'use_sim_time': True}])
    return LaunchDescription([
        *OVERRIDES,
        *ARGUMENTS,
        SetLaunchConfiguration('simulated', 'true'),
        # First, so that agent.launch.py has set its arguments.
        agent,
        OpaqueFunction(function=gazebo),
        expert,
    ])
