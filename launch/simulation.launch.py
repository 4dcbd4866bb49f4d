"""
Start the embedded simulator and all that drives in it; ends when the simulated time is over.

    ros2 launch stream_agent simulation.launch.py duration:=45.0
    ros2 launch stream_agent simulation.launch.py robot:=scan_car checkpoint:=scan baseline:=none
    ros2 launch stream_agent simulation.launch.py robot:=reflex checkpoint:=reflex_planned

To the last one, add what makes it a drive of the main job, on a slow computer:

    baseline:=none pass_periods:=6.4 costs:=reflex_costs pushes:=1.5 handover:=1.0

This is agent.launch.py with the simulator for a camera and a robot. Its arguments hold here too.
"""

import signal

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, RegisterEventHandler,
    SetLaunchConfiguration, Shutdown)
from launch.event_handlers import OnProcessExit
from launch.substitutions import (
    EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution, PythonExpression)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('stream_agent')
SIMULATION = PathJoinSubstitution([SHARE, 'config', 'simulation.yaml'])
PROFILES = 'FASTRTPS_DEFAULT_PROFILES_FILE'
# What differs from agent.launch.py.
OVERRIDES = [
    DeclareLaunchArgument(
        'baseline', description="Policy to compare the one that drives with, or 'none'",
        default_value=PathJoinSubstitution(
            [SHARE, 'config', 'policies', 'lane_sequential.safetensors'])),
    DeclareLaunchArgument(
        'params_file', default_value='',
        description='Parameters of the simulator, and those that override config/robot.yaml and '
                    "the robot's file; empty: config/simulation.yaml, if no robot is named"),
    DeclareLaunchArgument(
        'respawn', default_value='false',
        description='Start a process again that ended; false: a crash ends the simulation'),
]
ARGUMENTS = [
    DeclareLaunchArgument(
        'duration', default_value='0.0', description='Time to drive [s]; 0: until Ctrl-C'),
    DeclareLaunchArgument(
        'course_seed', default_value='1000000',
        description='Another number, another course; from here on, training has seen none'),
    DeclareLaunchArgument(
        'pushes', default_value='0.0',
        description='Largest yaw rate by which the robot is pushed off its way now and then '
                    '[rad/s]; 0: never'),
    DeclareLaunchArgument(
        'handover', default_value='0.0',
        description='Time that the expert drives at the start and after a departure [s]'),
    DeclareLaunchArgument(
        'drive_file', default_value='',
        description='JSON file for path, signs and score of the drive; empty: none'),
    DeclareLaunchArgument(
        'allow_foreign_listeners', default_value='false',
        description='Drive although nodes that are not ours listen to the commands, such as the '
                    'base of a real robot'),
]
# Agent, baseline and recorder, as far as they are wanted: they are to see the first frame.
WATCHERS = PythonExpression([
    '1 + ("', LaunchConfiguration('baseline'), '" != "none") + ("',
    LaunchConfiguration('record'), '".lower() in ("true", "1"))'])


def choose_parameters(context):
    """Take the usual parameters of the simulator, unless a robot or a file brings others."""
    given = LaunchConfiguration('params_file').perform(context)
    robot = LaunchConfiguration('robot', default='none').perform(context)
    usual = [] if given or robot != 'none' else [
        SetLaunchConfiguration('params_file', SIMULATION)]
    return [SetLaunchConfiguration('simulated', 'true'), *usual]


def end(event, context):
    """End the launch with the simulation, with an error if it crashed."""
    if event.returncode not in (0, -signal.SIGINT):
        raise RuntimeError(f'{event.process_name} ended with exit code {event.returncode}')
    return None if context.is_shutdown else Shutdown(reason='the simulation is over')


def generate_launch_description():
    """Describe the simulator, and include what drives."""
    simulation = Node(
        package='stream_agent',
        executable='simulation',
        name='simulation',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        parameters=[
            SIMULATION,
            # With the camera and the vehicle of a robot that is named.
            LaunchConfiguration('robot_file'),
            LaunchConfiguration('params_file'),
            {'duration': LaunchConfiguration('duration'),
             'course_seed': LaunchConfiguration('course_seed'),
             'pushes': ParameterValue(LaunchConfiguration('pushes'), value_type=float),
             'handover': ParameterValue(LaunchConfiguration('handover'), value_type=float),
             'drive_file': ParameterValue(LaunchConfiguration('drive_file'), value_type=str),
             'allow_foreign_listeners': ParameterValue(
                 LaunchConfiguration('allow_foreign_listeners'), value_type=bool),
             'start_subscribers': WATCHERS},
        ],
        remappings=[
            ('image', LaunchConfiguration('image_topic')),
            ('cmd_vel', LaunchConfiguration('cmd_vel_topic')),
            *((name, LaunchConfiguration(f'{name}_topic')) for name in ('scan', 'odom', 'imu')),
        ],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        # So that large images come through, too.
        additional_env={PROFILES: EnvironmentVariable(PROFILES, default_value=PathJoinSubstitution(
            [SHARE, 'config', 'fastdds.xml']))})
    agent = IncludeLaunchDescription(
        PathJoinSubstitution([SHARE, 'launch', 'agent.launch.py']),
        launch_arguments=[(argument.name, LaunchConfiguration(argument.name))
                          for argument in OVERRIDES])
    return LaunchDescription([
        *OVERRIDES,
        *ARGUMENTS,
        OpaqueFunction(function=choose_parameters),
        # Before the simulator, so that agent.launch.py has set its arguments.
        agent,
        simulation,
        RegisterEventHandler(OnProcessExit(target_action=simulation, on_exit=end)),
    ])
