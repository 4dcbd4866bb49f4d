"""The contract as parameters of nodes: declared where it is read, and let through everywhere."""

import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter
from stream_agent.bounded_settings import settings_fields
from stream_agent.contract.contract import ContractError
from stream_agent.contract.settings import InputSettings
from stream_agent.nodes import parameters
from stream_agent.nodes.agent_node import AgentNode
from stream_agent.nodes.camera_node import CameraNode
from stream_agent.nodes.expert_node import ExpertNode
from stream_agent.nodes.gate_node import GateNode
from stream_agent.nodes.parameters import declare_contract, refuse_unknown
from stream_agent.nodes.record_bag_node import RecordNode
from stream_agent.nodes.recorder_node import RecorderNode
from stream_agent.nodes.simulation_node import SimulationNode

pytestmark = [pytest.mark.real_time, pytest.mark.any_time]
CONTRACT = """\
/**:
  ros__parameters:
    inputs:
      image: {topic: front, trigger: true}
      scan: {type: sensor_msgs/LaserScan, rays: 60, high: 6, fields: []}
    output: {type: twist_stamped, topic: drive}
"""


class Reader(Node):
    """Has no parameter but those of the contract."""

    def __init__(self, **kwargs):
        super().__init__('reader', **kwargs)
        self.contract = declare_contract(self)
        refuse_unknown(self)


@pytest.fixture
def node(make_node, monkeypatch, tmp_path):
    """Make a node as its process does, which knows its arguments."""
    def make(kind, text=CONTRACT, *words):
        (tmp_path / 'mine.yaml').write_text(text)
        words = ['--params-file', str(tmp_path / 'mine.yaml'), *words]
        monkeypatch.setattr(parameters, 'arguments', ['--ros-args', *words])
        return make_node(kind, *words)
    return make


def test_what_is_given_is_declared_and_only_the_launch_may_set_it(node):
    made = node(Reader, CONTRACT, '-p', 'inputs.scan.rays:=30')
    assert made.contract.inputs == {
        'image': InputSettings(topic='front', trigger=True),
        'scan': InputSettings(type='sensor_msgs/msg/LaserScan', topic='scan', rays=30,
                              high=(6.0,))}
    assert made.contract.output.topic == 'drive' and made.contract.given
    expected = {'inputs.image.topic': 'front', 'inputs.image.trigger': True,
                'inputs.scan.type': 'sensor_msgs/msg/LaserScan', 'inputs.scan.rays': 30,
                'inputs.scan.high': [6.0], 'output.type': 'twist_stamped', 'output.topic': 'drive'}
    found = {name: parameter.value for name, parameter in made._parameters.items()
             if name.startswith(('inputs', 'output'))}
    assert {name: list(value) if hasattr(value, 'tolist') else value
            for name, value in found.items()} == expected
    meaning = next(item for item in settings_fields(InputSettings) if item.name == 'rays')
    assert made.describe_parameter('inputs.scan.rays').description.startswith(
        meaning.metadata['meaning'])
    (result,) = made.set_parameters([Parameter('inputs.scan.rays', value=7)])
    assert not result.successful and 'read-only' in result.reason


def test_without_the_section_nothing_is_declared(node):
    made = node(Reader, '/**: {ros__parameters: {image_transport: compressed}}')
    assert not made.contract.given and made.contract.inputs['image'].topic == 'image/compressed'
    assert not [name for name in made._parameters if name.startswith(('inputs', 'output'))]


OURS = [AgentNode, CameraNode, ExpertNode, GateNode, RecordNode, RecorderNode, SimulationNode]


@pytest.mark.parametrize('kind', OURS)
def test_every_process_of_ours_lets_it_through_and_refuses_a_typo(node, tmp_path, kind, capfd):
    words = ['-p', f'output:={tmp_path}'] if kind in (RecordNode, RecorderNode) else []
    if kind is CameraNode:
        words = ['-p', f'source:={tmp_path}/none.png']
    for text, said in ((CONTRACT.replace('rays', 'ray'), "5: inputs.scan has no field 'ray'; did "
                        "you mean 'rays'?"),
                       (CONTRACT.replace('high: 6', 'trigger: true, high: 6'), '5: inputs.image '
                        'and inputs.scan are both the trigger'),
                       (CONTRACT.partition('    output')[0], '4: the contract has inputs, but no '
                        'output')):
        with pytest.raises(ContractError) as fault:
            node(kind, text, *words)
        assert str(fault.value).startswith(f'{tmp_path}/mine.yaml:{said}')
    if kind in (CameraNode, ExpertNode):
        # These lack another thing only.
        with pytest.raises(ValueError, match='source|world'):
            node(kind, CONTRACT, *words)
    else:
        node(kind, CONTRACT, *words)
    assert 'there is no parameter' not in capfd.readouterr().err
