"""
Start the embedded simulator and all that drives in it; ends when the simulated time is over.

    ros2 launch stream_agent simulation.launch.py duration:=45.0

This is agent.launch.py with the simulator for a camera and a robot. Its arguments hold here too.
"""

import signal

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument, IncludeLaunchDescription, RegisterEventHandler, Shutdown)
from launch.event_handlers import OnProcessExit
from launch.substitutions import (
    EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution, PythonExpression)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('stream_agent')
PROFILES = 'FASTRTPS_DEFAULT_PROFILES_FILE'
# What differs from agent.launch.py.
OVERRIDES = [
    DeclareLaunchArgument(
        'baseline', description="Policy to compare the one that drives with, or 'none'",
        default_value=PathJoinSubstitution(
            [SHARE, 'config', 'policies', 'lane_sequential.safetensors'])),
    DeclareLaunchArgument(
        'params_file', default_value=PathJoinSubstitution([SHARE, 'config', 'simulation.yaml']),
        description='Parameters of the simulator, and those that override config/robot.yaml'),
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
        'allow_foreign_listeners', default_value='false',
        description='Drive although nodes that are not ours listen to the commands, such as the '
                    'base of a real robot'),
]
# Agent, baseline and recorder, as far as they are wanted: they are to see the first frame.
WATCHERS = PythonExpression([
    '1 + ("', LaunchConfiguration('baseline'), '" != "none") + ("',
    LaunchConfiguration('record'), '".lower() in ("true", "1"))'])


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
            LaunchConfiguration('params_file'),
            {'duration': LaunchConfiguration('duration'),
             'course_seed': LaunchConfiguration('course_seed'),
             'allow_foreign_listeners': ParameterValue(
                 LaunchConfiguration('allow_foreign_listeners'), value_type=bool),
             'start_subscribers': WATCHERS},
        ],
        remappings=[
            ('image', LaunchConfiguration('image_topic')),
            ('cmd_vel', LaunchConfiguration('cmd_vel_topic')),
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
        # Before the simulator, so that agent.launch.py has set its arguments.
        agent,
        simulation,
        RegisterEventHandler(OnProcessExit(target_action=simulation, on_exit=end)),
    ])
