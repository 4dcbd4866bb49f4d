"""The command line: ``python -m stream_agent NAME ...`` runs what ``ros2 run`` runs by NAME."""

from importlib import import_module
import os
import signal
import sys

from stream_agent.theory.checks import nearest

COMMANDS = {
    'agent': ('stream_agent.nodes.agent_node', 'steps a policy on every camera frame'),
    'gate': ('stream_agent.nodes.gate_node', 'guards the wheels: limits, watchdog, faults'),
    'record_bag': ('stream_agent.nodes.record_bag_node', 'records a drive, as a rosbag2'),
    'recorder': ('stream_agent.nodes.recorder_node', 'compares policies on the same frames'),
    'simulation': ('stream_agent.nodes.simulation_node', 'publishes the embedded simulator'),
    'camera': ('stream_agent.nodes.camera_node', 'publishes a camera or a video by OpenCV'),
    'expert': ('stream_agent.nodes.expert_node', 'says what to do, from ground truth'),
    'doctor': ('stream_agent.doctor.node', 'says what is wrong before the first drive'),
    'rollouts': ('stream_agent.cli.rollouts', 'tells all about a rollout of a graph'),
    'plan': ('stream_agent.cli.plan', 'finds the rollout to run on a device and camera'),
    'draw': ('stream_agent.cli.draw', 'draws a graph, its windows, and its update steps'),
    'train': ('stream_agent.cli.train', 'trains policies, in the simulator or on recordings'),
    'evaluate': ('stream_agent.cli.evaluate', 'drives policies on held-out courses'),
    'compare': ('stream_agent.cli.compare', 'replays recordings to several policies'),
    'convert': ('stream_agent.cli.convert', 'writes tubs and archives as recordings'),
    'import': ('stream_agent.cli.import_network', 'makes a policy of a network trained elsewhere'),
    'export': ('stream_agent.cli.export', 'writes a policy as ONNX, to run it without torch'),
    'world': ('stream_agent.cli.world', 'writes a course as a world for Gazebo'),
    'run': ('stream_agent.cli.run', 'the main job: all of the above nodes, then the report'),
}
# What the release before called them. Nodes then keep the old name, too, by which parameter files
# and remappings know them.
OLD_COMMANDS = {'record': 'record_bag'}
MOVED = {'experiment': 'the experiments are studies now, beside the package in its repository; '
         'there, run: python -m studies noisy-mnist --data DIR'}
# What runs until it is told to stop.
ROBOT = {COMMANDS[name][0] for name in (
    'agent', 'gate', 'record_bag', 'recorder', 'simulation', 'camera', 'expert')}


def usage() -> str:
    """List the commands, a line each."""
    lines = [f'  {name:<11} {purpose}' for name, (_, purpose) in COMMANDS.items()]
    lines += [f'  {name:<11} says where it is now' for name in MOVED]
    return '\n'.join(['usage: stream_agent COMMAND ...', '', *lines])


def main(arguments: list[str] | None = None) -> int:
    """
    Run a command, given its name and its own arguments, and print what it has to say.

    :returns: The exit code: 2 for a command line that is wrong, 1 after an error, 130 for a tool
        that was stopped, otherwise 0.
    """
    try:
        try:
            return run(sys.argv[1:] if arguments is None else arguments)
        finally:
            # Here, where it can be said; the interpreter ends with a traceback and another code.
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads what is printed has seen enough.
        fault = ''
    except OSError as error:
        if error.filename is not None:
            raise
        fault = f'the output cannot be written: {error.strerror}'
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if fault:
        print(f'stream_agent: {fault}', file=sys.stderr)
    return 1


def run(arguments: list[str]) -> int:
    """Run a command, given its name and its own arguments; return the exit code."""
    if not arguments or arguments[0] in ('-h', '--help'):
        print(usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name in OLD_COMMANDS:
        print(f"stream_agent: '{name}' is called '{OLD_COMMANDS[name]}' now; rename it, as the "
              'next release has no such command', file=sys.stderr)
        rest += ['--ros-args', '-r', f'__node:={name}']
        name = OLD_COMMANDS[name]
    if name not in COMMANDS:
        remedy = nearest(name, COMMANDS, 'commands')
        if not remedy.startswith('did you mean'):
            remedy = f"commands are {', '.join(COMMANDS)}"
        print(f'stream_agent {name}: {MOVED[name]}' if name in MOVED else
              f"stream_agent: no command '{name}'; {remedy}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[name]
    # Imports take seconds. Until a node exists there is nothing to stop, so exit immediately; a
    # tool that exits has not done what it was asked for.
    code = 0 if module in ROBOT else 130
    if os.environ.pop('STREAM_AGENT_END_WITH_PARENT', ''):
        # Set by our launch files, for the processes that they start themselves.
        from stream_agent.cli.process_group import end_with_parent
        end_with_parent(signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(code))
    try:
        return import_module(module).main(rest)
    except ImportError as error:
        if not (error.name == 'cv2' or 'libGL' in str(error)):
            raise
        print(f'stream_agent {name}: OpenCV cannot be imported ({error}); install it by `pip '
              'install opencv-python-headless`, or by apt as python3-opencv', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
