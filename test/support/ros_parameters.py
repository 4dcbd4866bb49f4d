"""
What ROS itself makes of parameter files: rcl's parser, asked in a process of its own.

``ask_ros`` starts this file, as what stops the parser stops its process, too.
"""

from collections.abc import Sequence
import json
import math
import os
from pathlib import Path
import subprocess
import sys


def ask_ros(questions: Sequence[tuple[list[str], str]]) -> list[dict[str, str] | str]:
    """
    Return what ROS gives to processes.

    :param questions: ROS arguments and the process's name with its namespace, of each.
    :returns: The values by the parameters' names, as ``shown``; or why ROS refuses the arguments.
    """
    answer = subprocess.run(
        [sys.executable, __file__], input='\n'.join(map(json.dumps, questions)) + '\n',
        capture_output=True, text=True, check=True,
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1])})
    return [json.loads(line) for line in answer.stdout.splitlines()]


def shown(value: object) -> str:
    """Return a value such that equal texts mean equal values of one type."""
    if isinstance(value, float):
        return 'nan' if math.isnan(value) else repr(value)
    return repr(list(value)) if isinstance(value, (list, tuple)) or hasattr(
        value, 'tolist') else repr(value)


def main() -> None:
    """Answer a question a line."""
    import rclpy
    from rclpy.impl.implementation_singleton import rclpy_implementation
    from rclpy.parameter import Parameter
    # ROS's own complaints go where nobody reads them.
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    rclpy.init(args=['ask_ros'])
    for line in sys.stdin:
        arguments, process = json.loads(line)
        space, _, name = process.rpartition('/')
        try:
            node = rclpy_implementation.Node(
                name, space or '/', rclpy.get_default_context().handle,
                ['--ros-args', *arguments], False, False)
        except Exception as error:
            found = f'refused: {error}'
        else:
            found = {name: shown(parameter.value)
                     for name, parameter in node.get_parameters(Parameter).items()}
            node.destroy_when_not_in_use()
        print(json.dumps(found), file=answers, flush=True)
    rclpy.shutdown()


if __name__ == '__main__':
    main()
