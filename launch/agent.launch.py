"""
Start the agent, the gate and the recorder on a camera that already runs.

    ros2 launch stream_agent agent.launch.py robot:=turtlebot4
    ros2 launch stream_agent agent.launch.py image_topic:=/camera/image_raw cmd_vel_topic:=/cmd_vel

``ros2 launch stream_agent agent.launch.py --show-args`` lists what can be set.
"""

import json
from pathlib import Path
import signal
from tempfile import NamedTemporaryFile

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument, EmitEvent, GroupAction, OpaqueFunction, RegisterEventHandler,
    SetEnvironmentVariable, SetLaunchConfiguration, Shutdown, UnregisterEventHandler)
from launch.conditions import IfCondition, UnlessCondition
from launch.event_handlers import OnProcessExit, OnShutdown
from launch.events import matches_action
from launch.events.process import SignalProcess
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from launch_ros.utilities import make_namespace_absolute, prefix_namespace
from lifecycle_msgs.msg import Transition
from stream_agent.cli.robot_contract import simulated, trigger_of_policy
from stream_agent.gate.settings import GateSettings
from stream_agent.share import find_robot, ParameterFileError, ParameterFiles

CONFIG = PathJoinSubstitution([FindPackageShare('stream_agent'), 'config'])

ARGUMENTS = [
    DeclareLaunchArgument(
        'checkpoint', description='Policy that drives, written by `ros2 run stream_agent train`',
        default_value=PathJoinSubstitution([CONFIG, 'policies', 'lane_streaming.safetensors'])),
    DeclareLaunchArgument(
        'baseline', default_value='none',
        description='Policy to compare it with, which sees the same frames and drives nothing, '
                    "or 'none'"),
    DeclareLaunchArgument(
        'device', default_value='auto', description="Torch device: 'auto', 'cpu', 'cuda:0', ..."),
    DeclareLaunchArgument(
        'ranks', default_value='1',
        description='Processes that compute the network of the policy that drives together, on '
                    'the CPU; 1: one'),
    DeclareLaunchArgument(
        'pass_periods', default_value='0.0',
        description='Camera periods that a pass through all nodes takes on a slow computer that '
                    'the policies emulate, for comparisons, never on a robot; 0: none'),
    DeclareLaunchArgument(
        'costs', default_value='',
        description='Seconds of the nodes on an emulated computer, as `plan --save-costs` writes '
                    'them, or a name in config/graphs; scaled to pass_periods if that is given'),
    DeclareLaunchArgument('namespace', default_value='', description='Namespace of the robot'),
    DeclareLaunchArgument(
        'robot', default_value='none',
        description="One of config/robots, a file like those, or 'none': sets topics, limits and "
                    'the type of commands'),
    DeclareLaunchArgument(
        'image_topic', default_value='',
        description='Frames (sensor_msgs/Image, and compressed ones on .../compressed); empty: '
                    "the robot's, or image"),
    DeclareLaunchArgument(
        'cmd_vel_topic', default_value='',
        description="Commands to the base, or to whoever obeys; empty: the robot's, or cmd_vel"),
    DeclareLaunchArgument(
        'params_file', default_value='',
        description="Parameters that override those of config/robot.yaml and of the robot's "
                    'file; empty: none'),
    DeclareLaunchArgument(
        'use_sim_time', default_value='false', description='Take the time from /clock'),
    DeclareLaunchArgument(
        'autostart', default_value='true', description='Configure and activate the policies'),
    DeclareLaunchArgument(
        'record', default_value='true', description='Start the recorder and report at the end'),
    DeclareLaunchArgument(
        'output', default_value='results', description="Folder of the recorder's reports"),
    DeclareLaunchArgument(
        'respawn', default_value='true',
        description='Start a process again that ended; an agent comes back unconfigured. '
                    'false: the end of one process is the end of all'),
    DeclareLaunchArgument(
        'prefix', default_value='',
        description="Put before the commands of policies and gate: 'nice -n -10', "
                    "'chrt --fifo 50', 'taskset -c 2,3'"),
    DeclareLaunchArgument('log_level', default_value='info', description='Least severity logged'),
]
# From what the files call them; other inputs are named in a parameter file.
TOPICS = [
    (LaunchConfiguration('image_name'), LaunchConfiguration('image_topic')),
    ([LaunchConfiguration('image_name'), '/compressed'],
     [LaunchConfiguration('image_topic'), '/compressed']),
    (LaunchConfiguration('cmd_vel_name'), LaunchConfiguration('cmd_vel_topic')),
]


def ros_node(executable, name, action=Node, parameters=None, remappings=(), **options):
    """
    Start one of our executables in the way that is common to all.

    :param parameters: What overrides the files.
    """
    process = action(
        package='stream_agent',
        executable=executable,
        name=name,
        exec_name=name,
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        parameters=[
            PathJoinSubstitution([CONFIG, 'robot.yaml']),
            LaunchConfiguration('robot_file'),
            LaunchConfiguration('params_file'),
            # What differs where a simulator stands for the robot.
            LaunchConfiguration('simulated_file'),
            {'use_sim_time': ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool),
             **(parameters or {})},
        ],
        remappings=[*TOPICS, *remappings],
        # Enclaves mean something where SROS2 is switched on; that of `ros2 launch` is not theirs.
        ros_arguments=['--log-level', LaunchConfiguration('log_level'),
                       '--enclave', f'/stream_agent/{name}'],
        additional_env={'ROS_SECURITY_ENCLAVE_OVERRIDE': ''},
        respawn=LaunchConfiguration('respawn'),
        respawn_delay=1.0,
        **options)
    # Without respawn the end of one is the end of all.
    end_with_it = RegisterEventHandler(
        OnProcessExit(target_action=process, on_exit=end),
        condition=UnlessCondition(LaunchConfiguration('respawn')))
    return process, end_with_it


def choose_robot(context):
    """Find the robot's file, take from its contract what was not given, and check all files."""
    name = LaunchConfiguration('robot').perform(context)
    config = Path(CONFIG.perform(context))
    file = config / 'robot.yaml' if name == 'none' else find_robot(name, config / 'robots')
    given = LaunchConfiguration('params_file').perform(context)
    files = ParameterFiles([config / 'robot.yaml', file, *([Path(given)] if given else [])])
    check_files(files, context)
    space = namespace(context)
    contract = files.contract_of(f'{space}/agent')
    topics = files.topics(space) if contract.given else ParameterFiles([file]).topics()
    # Files of before call them so; a contract by their topics.
    usual = topics if contract.given else {'image_topic': 'image', 'cmd_vel_topic': 'cmd_vel'}
    checkpoint = LaunchConfiguration('checkpoint').perform(context)
    found = {'robot_file': str(file), 'image_name': usual['image_topic'],
             'cmd_vel_name': usual['cmd_vel_topic'],
             'trigger': trigger_of_policy(checkpoint, contract),
             **simulator_of(context, contract, given or str(file))}
    defaults = {'params_file': str(file), **topics}
    return [*(SetLaunchConfiguration(name, value) for name, value in found.items()), *(
        SetLaunchConfiguration(name, value) for name, value in defaults.items()
        if not LaunchConfiguration(name).perform(context))]


def simulator_of(context, contract, nothing):
    """
    Return the file of what a simulator sends and hears otherwise, and its other topics.

    :param nothing: The last file that is read already.
    """
    if LaunchConfiguration('simulated', default='false').perform(context) != 'true':
        return {'simulated_file': nothing}
    robot = simulated(contract)
    topics = {f'{name}_topic': robot.topics.get(name, name) for name in ('scan', 'odom', 'imu')}
    parameters = robot.seen | robot.heard
    if not (contract.given and parameters):
        return {'simulated_file': nothing, **topics}
    with NamedTemporaryFile('w', prefix='stream_agent_', suffix='.yaml', delete=False) as file:
        json.dump({'/**': {'ros__parameters': nested(parameters)}}, file)
    return {'simulated_file': file.name, **topics}


def nested(parameters):
    """Return parameters as the robot's file writes them; ROS lets others count less."""
    result = {}
    for name, value in parameters.items():
        *maps, last = name.split('.')
        within = result
        for each in maps:
            within = within.setdefault(each, {})
        within[last] = value
    return result


def check_files(files, context):
    """
    Refuse parameters that would silently have no effect, as a limit of the gate must not.

    Sections that are for none of our processes, nor seem to be, are only warned of.
    """
    space = namespace(context)
    for process in ('agent', 'baseline', 'gate', 'recorder'):
        for sentence in files.ignored(f'{space}/{process}'):
            raise ParameterFileError(f'{process}: {sentence}')
    for stray in files.strays(space):
        if stray.meant:
            raise ParameterFileError(str(stray))
        get_logger('stream_agent').warning(str(stray))


def namespace(context):
    """Return the namespace of our processes, without a slash at its end."""
    return make_namespace_absolute(prefix_namespace(
        context.launch_configurations.get('ros_namespace'),
        LaunchConfiguration('namespace').perform(context))).rstrip('/')


def gate(context):
    """Start the gate; it waits for an emulated computer, unless a file says for how long."""
    files = [Path(CONFIG.perform(context)) / 'robot.yaml',
             *(Path(LaunchConfiguration(name).perform(context))
               for name in ('robot_file', 'params_file'))]
    given = ParameterFiles(files).of(f'{namespace(context)}/gate')
    passes = float(LaunchConfiguration('pass_periods').perform(context))
    period = passes * given.get('camera_period', GateSettings.camera_period)
    # As it is with a camera that sees as rarely as this computer answers.
    patience = GateSettings(camera_period=min(period, 1.0)).max_age if passes > 1.0 else 0.0
    return ros_node('gate', 'gate', prefix=LaunchConfiguration('prefix'), parameters={
        name: patience for name in ('command_timeout', 'max_age')
        if patience and not given.get(name)})


def end(event, context):
    """End the launch, with an error if a process crashed."""
    if event.returncode not in (0, -signal.SIGINT):
        raise RuntimeError(f'{event.process_name} ended with exit code {event.returncode}')
    return None if context.is_shutdown else Shutdown(reason=f'{event.process_name} ended')


def pass_sigint_on(event, context):
    """
    Send SIGINT to all processes, if launch leaves that to a terminal.

    A terminal sends Ctrl-C to all of them, systemd and docker to `ros2 launch` alone, which then
    waits for them. A second SIGINT does no harm.
    """
    if not event.due_to_sigint or context.noninteractive:
        return None
    return EmitEvent(event=SignalProcess(
        signal_number=signal.SIGINT,
        process_matcher=lambda action: 'pid' in (action.process_details or {})))


def text(argument):
    """Return an argument as text, which launch would take for a number if it looks like one."""
    return ParameterValue(argument, value_type=str)


def policy(name, checkpoint, remappings=(), **parameters):
    """
    Start an agent process under a name, and bring it up if that is wanted.

    :param parameters: Besides checkpoint, device and the computer to emulate.
    """
    agent, end_with_it = ros_node(
        'agent', name, LifecycleNode, remappings=remappings, prefix=LaunchConfiguration('prefix'),
        parameters={'checkpoint': text(checkpoint), 'device': text(LaunchConfiguration('device')),
                    'pass_periods': ParameterValue(LaunchConfiguration('pass_periods'),
                                                   value_type=float),
                    'costs': text(LaunchConfiguration('costs')), **parameters})
    autostart = IfCondition(LaunchConfiguration('autostart'))
    return [agent, end_with_it, GroupAction(bring_up(agent, name), condition=autostart)]


def bring_up(agent, name):
    """
    Configure and activate an agent, or end the launch if it cannot be configured.

    Only once: an agent that crashed comes back unconfigured and waits for a person.
    """
    def request(transition):
        return EmitEvent(event=ChangeState(
            lifecycle_node_matcher=matches_action(agent), transition_id=transition))

    def fail(context):
        raise RuntimeError(f'{name} was not configured; its error above says why')

    on_failure = OnStateTransition(
        target_lifecycle_node=agent, start_state='configuring', goal_state='unconfigured',
        entities=[OpaqueFunction(function=fail)])
    # 'configuring' because 'inactive' is also where a deactivated agent arrives.
    on_success = OnStateTransition(
        target_lifecycle_node=agent, start_state='configuring', goal_state='inactive',
        handle_once=True, entities=[
            UnregisterEventHandler(on_failure), request(Transition.TRANSITION_ACTIVATE)])
    return [RegisterEventHandler(on_failure), RegisterEventHandler(on_success),
            request(Transition.TRANSITION_CONFIGURE)]


def generate_launch_description():
    """Describe agent, baseline, gate and recorder."""
    baseline = LaunchConfiguration('baseline')
    return LaunchDescription([
        *ARGUMENTS,
        # `ros2 launch` leaves its processes behind when it gets SIGTERM or is killed.
        SetEnvironmentVariable('STREAM_AGENT_END_WITH_PARENT', '1'),
        RegisterEventHandler(OnShutdown(on_shutdown=pass_sigint_on)),
        OpaqueFunction(function=choose_robot),
        *policy('agent', LaunchConfiguration('checkpoint'), ranks=LaunchConfiguration('ranks')),
        GroupAction(
            policy('baseline', baseline, [('policy_command', 'baseline/policy_command')]),
            condition=IfCondition(NotEqualsSubstitution(baseline, 'none'))),
        OpaqueFunction(function=gate),
        # It sees the last commands of the others, and then needs time for its report.
        GroupAction(
            ros_node('recorder', 'recorder', sigterm_timeout='300',
                     parameters={'output': text(LaunchConfiguration('output')),
                                 'trigger': text(LaunchConfiguration('trigger'))}),
            condition=IfCondition(LaunchConfiguration('record'))),
    ])
