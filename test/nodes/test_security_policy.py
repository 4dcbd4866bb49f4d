"""The SROS2 policy against the ends of topics and services that real processes have."""

from collections import defaultdict
import os
from pathlib import Path
import time
from xml.etree import ElementTree

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import pytest
from support.videos import write_video

pytestmark = pytest.mark.real_time

CONFIG = Path(__file__).parents[2] / 'config'
POLICY = CONFIG / 'sros2' / 'stream_agent.policy.xml'
CHECKPOINT = str(CONFIG / 'policies' / 'lane_streaming.safetensors')
DOES = ('publish', 'subscribe', 'reply', 'request')
# Used with use_sim_time, image_transport and stop_input only.
SOMETIMES = {('subscribe', '/clock'), ('subscribe', '/image/compressed'), ('subscribe', '/stop')}


@pytest.fixture(autouse=True, scope='module')
def domain_of_its_own():
    """Go where no node of an earlier test, which another process may remember, is seen."""
    before = os.environ['ROS_DOMAIN_ID']
    os.environ['ROS_DOMAIN_ID'] = str(1 + (os.getpid() + 50) % 100)
    yield
    os.environ['ROS_DOMAIN_ID'] = before


def allowed():
    """Return what the profile of every node allows: {node: {(what, name)}}."""
    rules = defaultdict(set)
    for profile in ElementTree.parse(POLICY).iter('profile'):
        node = profile.get('node')
        assert profile.get('ns') == '/'
        for group in profile:
            verbs = [verb for verb in DOES if group.get(verb) == 'ALLOW']
            assert verbs and set(group.attrib) == set(verbs)
            rules[node] |= {(verb, full_name(entry.text, node))
                            for entry in group for verb in verbs}
    return dict(rules)


def full_name(name, node):
    """Resolve a name of the policy as SROS2 does."""
    if name.startswith('~/'):
        return f'/{node}{name[1:]}'
    return name if name.startswith('/') else f'/{name}'


def used(ros_node, name):
    """Return what a node that runs does."""
    ends = {'publish': ros_node.get_publisher_names_and_types_by_node,
            'subscribe': ros_node.get_subscriber_names_and_types_by_node,
            'reply': ros_node.get_service_names_and_types_by_node,
            'request': ros_node.get_client_names_and_types_by_node}
    return {(verb, topic) for verb, find in ends.items() for topic, _ in find(name, '/')}


@pytest.mark.any_time
def test_only_the_gate_commands_and_nobody_sets_parameters():
    rules = allowed()
    assert [node for node, may in rules.items() if ('publish', '/cmd_vel') in may] == ['gate']
    assert [node for node, may in rules.items()
            if ('publish', '/policy_command') in may] == ['agent']
    assert not [rule for may in rules.values() for rule in may
                if rule[0] == 'request' and 'set_parameters' in rule[1]]
    # A pattern could mean more than it says; only the number of a launch is not known before.
    patterns = {(node, *rule) for node, may in rules.items() for rule in may
                if set(rule[1]) & set('*?[]')}
    assert all(rule[:2] == ('operator', 'reply') and rule[2].startswith('/launch_ros_*/')
               for rule in patterns)
    enclaves = [one.get('path') for one in ElementTree.parse(POLICY).iter('enclave')]
    assert enclaves == [f'/stream_agent/{node}' for node in rules]


@pytest.mark.any_time
def test_processes_do_what_they_may_and_may_no_more(start_node, peer, tmp_path):
    rules = allowed()
    del rules['operator']
    start_node('camera', source=write_video(tmp_path / 'one.avi', 64, 48, 1), repeat=True)
    for arguments in ([], ['-r', '__node:=baseline',
                           '-r', 'policy_command:=baseline/policy_command']):
        start_node('agent', *arguments, checkpoint=CHECKPOINT, backend='eager', threads=1)
    start_node('gate')
    start_node('recorder', policies=['agent=policy_command', 'baseline=baseline/policy_command'],
               output=str(tmp_path))
    configure = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    for node in ('agent', 'baseline'):
        assert peer.call(ChangeState, f'{node}/change_state', configure).success

    def wrong():
        """Return what is forbidden and done, and what is allowed without need."""
        found = {}
        for node, may in rules.items():
            does = used(peer.node, node)
            found |= {(node, *rule): 'forbidden' for rule in does - may}
            found |= {(node, *rule): 'not needed' for rule in may - does - SOMETIMES}
        return found

    peer.spin_until(lambda: set(rules) <= set(peer.node.get_node_names()), 20.0)
    end = time.monotonic() + 10.0
    while wrong() and time.monotonic() < end:
        peer.spin(0.1)
    assert wrong() == {}
