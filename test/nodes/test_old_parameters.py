"""Names of the release before, as ROS knows them: each is taken, with one warning."""

import pytest
from stream_agent.doctor.node import Setup
from stream_agent.doctor.options import parse
from stream_agent.nodes.agent_node import AgentNode
from stream_agent.nodes.record_bag_node import RecordNode

pytestmark = [pytest.mark.real_time, pytest.mark.any_time]

WARNING = ("the parameter 'executor' is called 'backend' now; rename it, as the next release "
           'refuses the old name')


@pytest.fixture
def agent(ros, monkeypatch):
    """Make an agent of command-line arguments; its warnings are in ``agent.said``."""
    made, said = [], []

    class Logger:

        def warning(self, sentence):
            said.append(sentence)

    monkeypatch.setattr(AgentNode, 'get_logger', lambda self: Logger())

    def make(*arguments):
        made.append(AgentNode(cli_args=['--ros-args', *arguments]))
        made[-1].said = said
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()


def test_a_parameter_by_its_old_name_is_taken_with_one_warning(agent):
    node = agent('-p', 'executor:=packed')
    assert node.get_parameter('backend').value == 'packed'
    assert not node.has_parameter('executor')
    assert node.said == [WARNING]


def test_a_parameter_file_with_the_old_name(agent, tmp_path):
    path = tmp_path / 'robot.yaml'
    path.write_text('/**: {ros__parameters: {executor: eager}}')
    node = agent('--params-file', str(path))
    assert node.get_parameter('backend').value == 'eager'
    assert node.said == [WARNING]


def test_the_new_name_counts_if_both_are_given(agent):
    assert agent('-p', 'executor:=packed', '-p', 'backend:=eager').get_parameter(
        'backend').value == 'eager'


def test_the_new_name_warns_of_nothing(agent):
    assert not agent('-p', 'backend:=eager').said


def test_an_old_name_is_unknown_where_nothing_was_called_so(ros):
    with pytest.raises(ValueError, match="there is no parameter 'executor'; the nearest is "):
        RecordNode(cli_args=['--ros-args', '-p', 'executor:=packed'])


def test_a_wrong_value_by_the_old_name_is_refused(ros):
    with pytest.raises(ValueError, match=r'backend is \[5\]; set it to a text'):
        AgentNode(cli_args=['--ros-args', '-p', 'executor:=[5]'])


def test_the_recorder_of_bags_has_the_name_of_its_command(ros, tmp_path):
    node = RecordNode(cli_args=['--ros-args', '-p', f'output:={tmp_path}'])
    assert node.get_name() == 'record_bag'
    node.destroy_node()


def test_the_doctor_reads_the_old_name_and_says_the_new_one(tmp_path):
    path = tmp_path / 'robot.yaml'
    path.write_text('/**/agent: {ros__parameters: {executor: packed}}')
    setup = Setup(parse(['--params-file', str(path)]))
    assert setup.engine.backend == 'packed'
    (finding,) = [one for one in setup.findings if 'executor' in one.said]
    assert finding.level.value == 'WARN'
    assert finding.said == "agent: 'executor' is called 'backend' now"
