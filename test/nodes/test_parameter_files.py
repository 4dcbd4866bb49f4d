"""A parameter file says the same to ROS and to our tools."""

from stream_agent.nodes.gate_node import GateNode
from stream_agent.share import check_parameter_files, ParameterFiles


def test_ros_reads_the_numbers_that_our_tools_read(make_node, tmp_path):
    path = tmp_path / 'gate.yaml'
    path.write_text('/**:\n  gate:\n    ros__parameters: {max_speed: 25e-2, stop_period: 1e-1}\n')
    arguments = ['--params-file', str(path)]
    check_parameter_files(arguments)
    gate = make_node(GateNode, *arguments)
    for name, value in ParameterFiles([path]).of('/gate').items():
        assert gate.get_parameter(name).value == value in (0.25, 0.1)
