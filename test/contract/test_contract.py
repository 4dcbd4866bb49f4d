"""The contract in a robot's file: read with its places, or refused before anything moves."""

from dataclasses import replace
import math
from pathlib import Path
import re

import pytest
from stream_agent.bounded_settings import settings_fields, SettingsError
from stream_agent.contract.contract import Contract, ContractError, MEANT_FOR, OF_BASES
from stream_agent.contract.conversions import (
    AgeInput, CommandsInput, DepthInput, OutputScale, ScanInput, VectorInput)
from stream_agent.contract.settings import (
    BASE_TYPES, COMPRESSED, IMAGE, IMU, InputSettings, JOINT_STATE, KNOWN_TYPES, ODOMETRY,
    OutputSettings, SCAN, VECTOR_TYPES)
from stream_agent.share import ParameterFiles
from support.ros_parameters import ask_ros, shown

CAR = """\
/**:
  ros__parameters:
    inputs:
      image:
        type: sensor_msgs/msg/CompressedImage
        topic: camera/image_raw/compressed
        trigger: true
      odometry: {type: nav_msgs/Odometry, topic: odom, units: [m/s, rad/s], low: [-2.0, -6.0],
                 fields: [twist.twist.linear.x, twist.twist.angular.z], high: [2.0, 6.0],
                 align: hold, oldest: 0.2, rate: 50}
      scan: {type: sensor_msgs/msg/LaserScan, rays: 60, angle_min: -2.0, angle_max: 2.0, high: 6.0}
      depth: {type: sensor_msgs/msg/Image, topic: depth/image, units: [m], low: [0.3], high: [5.0]}
      last: {type: own/commands, count: 4}
      age: {type: own/age, high: [0.5]}
    output: {type: ackermann, topic: drive}
"""
ARM = """\
/**:
  ros__parameters:
    inputs:
      joints: {type: sensor_msgs/msg/JointState, topic: joint_states, units: [rad],
               fields: [position.6, position.7], low: [-3.0], high: [3.0, 2.0]}
    output:
      type: float64_multi_array
      topic: arm/commands
      names: [6, 7]
      units: [rad/s]
      lowest: [-1.0]
      highest: [1.0, 0.5]
      max_rate: [2.0]
"""


@pytest.fixture
def contract_in(tmp_path):
    """Write files, and read the contract of a process."""
    def read(*texts, process='/agent', arguments=()):
        words = ['--ros-args']
        for i, text in enumerate(texts):
            (tmp_path / f'{i}.yaml').write_text(text)
            words += '--params-file', str(tmp_path / f'{i}.yaml')
        return ParameterFiles.of_arguments([*words, *arguments]).contract_of(process)
    return read


def test_a_car_s_file_says_what_feeds_its_network(contract_in, tmp_path):
    contract = contract_in(CAR)
    assert contract.given and contract.trigger == 'image'
    assert contract.inputs['image'] == InputSettings(
        type=COMPRESSED, topic='camera/image_raw/compressed', trigger=True)
    assert contract.inputs['odometry'] == InputSettings(
        type=ODOMETRY, topic='odom', fields=('twist.twist.linear.x', 'twist.twist.angular.z'),
        units=('m/s', 'rad/s'), low=(-2.0, -6.0), high=(2.0, 6.0), align='hold', oldest=0.2,
        rate=50.0)
    # Without a topic it is the input's name.
    assert contract.inputs['scan'].topic == 'scan' and contract.inputs['last'].topic == ''
    assert contract.output == OutputSettings(type='ackermann', topic='drive')
    assert contract.output.size == 2 and contract.output.stop == 'zero'
    assert contract.place('inputs.odometry.rate') == f'{tmp_path}/0.yaml:10: '
    assert contract.place('inputs.odometry.stamp') == ''


def test_conversions_follow_from_it(contract_in):
    contract = contract_in(CAR)
    for name, shape, expected in (
            ('odometry', (2,), VectorInput(('twist.twist.linear.x', 'twist.twist.angular.z'),
                                           ('m/s', 'rad/s'), (-2.0, -6.0), (2.0, 6.0))),
            ('scan', (1, 60), ScanInput(60, -2.0, 2.0, 6.0, 6.0)),
            ('depth', (1, 30, 40), DepthInput((1, 30, 40), 0.3, 5.0, 5.0)),
            ('last', (8,), CommandsInput(4, 2)), ('age', [1], AgeInput(0.5))):
        assert contract.conversion(name, shape) == expected
    arm = contract_in(ARM)
    assert arm.conversion('joints', (2,)) == VectorInput(
        ('position.6', 'position.7'), ('rad', 'rad'), (-3.0, -3.0), (3.0, 2.0))
    assert arm.output_scale() == OutputScale(
        ('6', '7'), ('rad/s', 'rad/s'), (-1.0, -1.0), (1.0, 0.5))
    assert arm.output.size == 2 and arm.trigger == 'joints'


def test_a_scan_without_a_number_of_rays_has_as_many_as_the_node(contract_in):
    contract = contract_in(CAR.replace('rays: 60, ', ''))
    assert contract.conversion('scan', (36,)).rays == 36
    inputs = {'scan': replace(contract.inputs['scan'], invalid=0.0)}
    assert replace(contract, inputs=inputs).conversion('scan', (36,)).invalid == 0


@pytest.mark.parametrize('name, shape, said', [
    ('odometry', (3,), ".yaml:9: the input 'odometry' has 2 values by its fields, but the input "
     'node of the network has 3 [3]; give both the same'),
    ('scan', (61,), "the input 'scan' has 60 values by its rays, but the input node"),
    ('last', (4,), "the input 'last' has 8 values by its count"),
    ('age', (2,), "the input 'age' has 1 values by its type"),
    ('depth', (3, 4, 4), "the input 'depth': the input node has the shape [3, 4, 4]; a depth"),
    ('image', (1, 4, 4), "the input 'image' is a camera's image, which network.preprocessing"),
    ('odometri', (2,), "the contract has no input 'odometri'; did you mean 'odometry'?"),
    ('imu', (2,), "the contract has no input 'imu'; there are image, odometry, scan, depth, la")])
def test_an_input_node_of_another_size_is_refused(contract_in, name, shape, said):
    with pytest.raises(ContractError) as fault:
        contract_in(CAR).conversion(name, shape)
    assert said in str(fault.value)


def test_a_base_has_no_scale_of_its_own(contract_in):
    with pytest.raises(ContractError, match='0.yaml:15: output.type is ackermann, whose scale is '
                       'the greatest speed'):
        contract_in(CAR).output_scale()


FAULTS = [
    (CAR, 'fields: [t', 'filds: [t', "9: inputs.odometry has no field 'filds'; did you mean 'fie"),
    (CAR, 'type: ackermann', 'typ: ackermann', "15: output has no field 'typ'; did you mean 'typ"),
    (CAR, 'inputs:', 'input:', "5: there is no section 'input'; did you mean 'inputs'?"),
    (CAR, 'output:', 'outputs:', "15: there is no section 'outputs'; did you mean 'output'?"),
    (CAR, 'rays: 60', 'trigger: true', '11: inputs.image and inputs.scan are both the trigger'),
    (CAR, '    output: {type: ackermann, topic: drive}\n', '', '5: the contract has inputs, but '
     'no output; write `output: {type: twist_stamped, topic: cmd_vel}` beside them'),
    (CAR, 'low: [-2.0, -6.0]', 'low: [2.0, -6.0]', "8: inputs.odometry.low is 2 of 'twist.twist."
     "linear.x', and so is high; what becomes -1 and what becomes 1 must differ"),
    (CAR, 'units: [m/s, rad/s]', 'units: [m, m, m]', '8: inputs.odometry.units has 3 values for 2 '
     'fields; write one for each, or one for all'),
    (CAR, 'high: [2.0, 6.0],', '', '8: inputs.odometry.high has 0 values for 2 fields'),
    (CAR, 'fields: [twist.twist.linear.x, twist.twist.angular.z], ', '', '8: inputs.odometry.field'
     's is empty, but a nav_msgs/msg/Odometry has many numbers; name those'),
    (CAR, 'twist.twist.angular.z]', 'twist.twist.linear.x]', "9: inputs.odometry.fields has 'twist"
     ".twist.linear.x' twice; name each once"),
    (CAR, '-6.0]', '.nan]', '8: inputs.odometry.low is (-2.0, nan); set it to a list of numbers,'),
    (CAR, '[-2.0, -6.0]', '[slow, fast]', "8: inputs.odometry.low is ('slow', 'fast'); set it to"),
    (CAR, 'align: hold', 'align: interpolated', "10: inputs.odometry.align is 'interpolated'; set "
     'it to newest or hold or interpolate'),
    (CAR, 'rays: 60', 'align: interpolate', '11: inputs.scan.align is interpolate, but nothing '
     'lies between two messages of sensor_msgs/msg/LaserScan; write newest or hold'),
    (CAR, 'oldest: 0.2', 'oldest: -1', '10: inputs.odometry.oldest is -1.0; set it to a number f'),
    (CAR, 'trigger: true', 'trigger: 1', '7: inputs.image.trigger is 1; set it to true or false'),
    (CAR, 'nav_msgs/Odometry', 'Odometry', "8: inputs.odometry.type is 'Odometry', which is not a "
     'type of messages'),
    (CAR, 'nav_msgs/Odometry', 'own/comands', "8: inputs.odometry.type is 'own/comands', which is "
     "not a type of messages; did you mean 'own/commands'?"),
    (CAR, 'msg/LaserScan', 'msg/LazerScan', '11: inputs.scan.fields is empty, but a sensor_msgs/ms'
     'g/LazerScan has many numbers; name those that the network sees, such as twist.twist.linear.x'
     ', or is sensor_msgs/msg/LaserScan meant?'),
    (CAR, 'topic: odom', 'topic: my odom', "8: inputs.odometry.topic is 'my odom'; write letters"),
    (CAR, 'rays: 60', 'fields: [ranges.0]', '11: inputs.scan.fields means nothing for sensor_msgs/'
     'msg/LaserScan; leave it out'),
    (CAR, 'count: 4', 'oldest: 1.0', '13: inputs.last.oldest means nothing for own/commands'),
    (CAR, 'count: 4', 'topic: x', "13: inputs.last.topic is 'x', but own/commands is what the ag"),
    (CAR, 'count: 4', 'trigger: true', '13: inputs.last.trigger is true, but no message of own/com'
     'mands comes; let an input with a topic be the trigger'),
    (CAR, 'own/age, high: [0.5]', 'own/age', '14: inputs.age.high is []; write the age in s that'),
    (CAR, 'own/age,', 'own/age, units: [ms],', "14: inputs.age.units is ['ms']; ages are in s"),
    (CAR, ', high: 6.0', '', '11: inputs.scan.high is []; write the range in m that becomes 1'),
    (CAR, 'rays: 60', 'topic: odom', '11: inputs.scan takes sensor_msgs/msg/LaserScan from the top'
     'ic odom, and inputs.odometry takes nav_msgs/msg/Odometry; a topic has one type'),
    (CAR, 'angle_max: 2.0', 'angle_max: -3.0', '11: inputs.scan.angle_max is -3 and angle_min -2'),
    (CAR, 'high: 6.0', 'high: 6.0, units: [mm]', "inputs.scan.units is ['mm']; ranges are in m"),
    (CAR, 'units: [m], low: [0.3]', 'units: [mm]', "12: inputs.depth.units is ['mm']; depth is in "
     'm, so write [m] or leave it out'),
    (CAR, 'low: [0.3]', 'low: [6.0]', '12: inputs.depth.low is [6.0]; write one number, from 0 to '
     'below high (5)'),
    (CAR, ', high: [5.0]', '', '12: inputs.depth.high is []; write the depth in m that becomes 1'),
    (CAR, 'trigger: true', 'high: [5.0]', '5: inputs.image.type is sensor_msgs/msg/CompressedImage'
     ', which is not read as depth; take a topic of sensor_msgs/msg/Image'),
    (CAR, 'count: 4}', 'count: 4}\n      gps: 3', '14: inputs.gps is a value, where fields are '
     'expected; write gps: {type: TYPE, topic: TOPIC}'),
    (CAR, 'type: ackermann', 'type: akerman', "15: output.type is 'akerman'; set it to twist_sta"),
    (CAR, 'topic: drive', 'topic: drive, names: [a]', '15: output.names means nothing for ackerma'
     'nn; leave it out; the limits of a base are those of the gate, such as max_speed'),
    (CAR, 'topic: drive', "topic: 'drive!'", "15: output.topic is 'drive!'; write letters, digit"),
    (CAR, 'trigger: true', 'trigger: true\n        stamp: now', "8: inputs.image.stamp is 'now'"),
    (ARM, 'position.7', 'pos.7', "5: inputs.joints.fields has 'pos.7'; of a JointState write"),
    (ARM, '      names: [6, 7]\n', '', '7: output.names is empty, but a float64_multi_array comm'),
    (ARM, 'names: [6, 7]', 'names: [a, a]', "9: output.names has 'a' twice; name each once"),
    (ARM, 'names: [6, 7]', "names: [a, '']", "9: output.names has '' among them; name each once"),
    (ARM, 'lowest: [-1.0]', 'lowest: [-1.0, 0.0, 0.0]', '11: output.lowest has 3 values for 2 na'),
    (ARM, '      max_rate: [2.0]\n', '', '7: output.max_rate has 0 values for 2 names'),
    (ARM, 'max_rate: [2.0]', 'max_rate: [0.0]', '13: output.max_rate is [0.0]; each is greater t'),
    (ARM, 'max_rate: [2.0]', 'max_rate: [2.0]\n      max_acceleration: [1.0, 0.0]',
     '14: output.max_acceleration is [1.0, 0.0]; each is greater than 0'),
    (ARM, 'max_rate: [2.0]', 'max_rate: [2.0]\n      max_acceleration: [1.0, 1.0, 1.0]',
     '14: output.max_acceleration has 3 values for 2 names'),
    (ARM, 'highest: [1.0, 0.5]', 'highest: [1.0, -1.0]', "11: output.lowest is -1 of '7' and highe"
     'st -1; let it be less'),
    (ARM, 'lowest: [-1.0]', 'lowest: [0.1]', "11: output.lowest is 0.1 of '6' and highest 1, but a"
     ' stop is velocity 0; let them include 0'),
    (ARM, 'type: float64_multi_array', 'type: joint_trajectory\n      quantity: effort',
     '8: output.quantity is effort, which joint_trajectory_controller does not follow'),
    (ARM, 'highest: [1.0, 0.5]', 'highest: [.inf]', '12: output.highest is (inf,); set it to a l')]


@pytest.mark.parametrize('text, before, after, said', FAULTS,
                         ids=[re.sub(r'\W+', '-', said)[:40] for *_, said in FAULTS])
def test_what_cannot_hold_is_refused_with_its_line(contract_in, tmp_path, text, before, after,
                                                   said):
    assert before in text
    with pytest.raises(ContractError) as fault:
        contract_in(text.replace(before, after, 1))
    place, fault = str(fault.value).split(': ', 1)
    line, _, sentence = said.partition(': ')
    if not line.isdecimal():
        line, sentence = place.rpartition(':')[2], said
    assert place == f'{tmp_path}/0.yaml:{line}'
    assert fault.startswith(sentence)


def test_a_position_may_be_held_beside_zero(contract_in):
    contract = contract_in(ARM.replace('lowest: [-1.0]',
                                       'lowest: [0.1]\n      quantity: position'))
    assert contract.output.stop == 'hold' and contract.output.lowest == (0.1,)


def test_nobody_knows_the_trigger_of_two_scans(contract_in):
    text = CAR.replace('depth: {type: sensor_msgs/msg/Image, topic: depth/image, units: [m], low: '
                       '[0.3], high: [5.0]}', 'rear: {type: sensor_msgs/msg/LaserScan, high: 5.0}')
    start, end = text.index('      image:'), text.index('      odometry')
    with pytest.raises(ContractError, match='the contract has the inputs odometry, scan, rear, and'
                       ' none says that its messages make the network step; write `trigger: '):
        contract_in(text[:start] + text[end:])
    assert contract_in(text).trigger == 'image'
    assert contract_in(text.replace('trigger: true', 'trigger: false')).trigger == 'image'
    assert contract_in((text[:start] + text[end:]).replace(
        'LaserScan, high', 'LaserScan, trigger: true, high')).trigger == 'rear'


def test_what_the_agent_knows_makes_nothing_step(contract_in):
    with pytest.raises(ContractError, match='0.yaml:1: the contract has no input with a topic'):
        contract_in('/**: {ros__parameters: {inputs: {age: {type: own/age, high: [0.5]}}, output: '
                    '{topic: drive}}}')


def test_single_fields_are_overridden(contract_in):
    contract = contract_in(CAR, '/**/agent: {ros__parameters: {inputs: {scan: {rays: 30}}}}',
                           arguments=['-p', 'agent:inputs.image.type:=sensor_msgs/msg/Image', '-p',
                                      'output.type:=twist_stamped'])
    assert contract.inputs['scan'].rays == 30 and contract.inputs['image'].type == IMAGE
    assert contract.output.type == 'twist_stamped' and contract.output.topic == 'drive'
    assert contract.inputs['odometry'].rate == 50
    assert contract.place('inputs.image.type') == (
        '-p agent:inputs.image.type:=sensor_msgs/msg/Image: ')


@pytest.mark.child_process
def test_ros_gives_a_process_what_is_read_here(tmp_path):
    texts = [CAR, '/**: {ros__parameters: {inputs: {scan: {rays: 45}}, output.topic: other}}',
             '/**/agent: {ros__parameters: {inputs: {scan: {angle_max: 1.0}, age: {high: []}}}}']
    words = ['-p', 'inputs.last.count:=7']
    for i, text in enumerate(texts):
        (tmp_path / f'{i}.yaml').write_text(text)
        words = ['--params-file', str(tmp_path / f'{i}.yaml'), *words]
    asked = [(words, process) for process in ('/agent', '/one/gate')]
    for (_, process), found in zip(asked, ask_ros(asked)):
        ours = ParameterFiles.of_arguments(['--ros-args', *words]).of(process)
        assert {name: shown(value) for name, value in ours.items()} == found


BEFORE = """\
/**/robot: {ros__parameters: {image_topic: camera/image_raw, cmd_vel_topic: drive}}
/**/agent: {ros__parameters: {image_transport: compressed}}
/**/gate: {ros__parameters: {command_type: ackermann, wheel_base: 0.3}}
"""


def test_files_of_before_mean_what_they_meant(contract_in):
    contract = contract_in(BEFORE)
    assert not contract.given and contract.trigger == 'image'
    assert contract.inputs == {'image': InputSettings(
        type=COMPRESSED, topic='camera/image_raw/compressed', trigger=True)}
    assert contract.output == OutputSettings(type='ackermann', topic='drive')
    assert contract_in('') == Contract({'image': InputSettings(topic='image', trigger=True)},
                                       OutputSettings(), given=False)
    # What is no word of these is said by whoever uses it.
    assert Contract.of_values({'image_transport': 'theora', 'command_type': 'thought'}
                              ) == contract_in('')


def topics_in(text, tmp_path):
    (tmp_path / 'robot.yaml').write_text(text)
    return ParameterFiles([tmp_path / 'robot.yaml']).topics()


def test_the_launch_file_s_topics_are_those_of_the_contract(tmp_path):
    expected = {'image_topic': 'camera/image_raw', 'cmd_vel_topic': 'drive'}
    assert topics_in(BEFORE, tmp_path) == topics_in(CAR, tmp_path) == expected
    assert topics_in(CAR + BEFORE.splitlines()[0], tmp_path) == expected
    assert topics_in(ARM, tmp_path) == {'image_topic': 'image', 'cmd_vel_topic': 'arm/commands'}
    # One half of it may be as before.
    assert topics_in(BEFORE + '/**: {ros__parameters: {output: {type: ackermann}}}', tmp_path
                     ) == expected


@pytest.mark.parametrize('line, said', [
    ('/**/robot: {ros__parameters: {image_topic: front}}', 'image_topic is front, but the contract'
     ' says camera/image_raw; leave image_topic out'),
    ('/**/robot: {ros__parameters: {cmd_vel_topic: x}}', 'cmd_vel_topic is x, but the contract '
     'says drive; leave cmd_vel_topic out'),
    ('/**/agent: {ros__parameters: {image_transport: raw}}', 'image_transport is raw, but the '
     'contract says sensor_msgs/msg/CompressedImage; leave image_transport out'),
    ('/**/gate: {ros__parameters: {command_type: twist}}', 'command_type is twist, but the '
     'contract says ackermann; leave command_type out'),
    ("/**/robot: {ros__parameters: {image_topic: 'a b'}}", 'image_topic is a b, but the contrac')])
def test_two_lines_that_contradict_are_refused(contract_in, tmp_path, line, said):
    with pytest.raises(ContractError) as fault:
        contract_in(CAR + line)
    assert str(fault.value).startswith(f'{tmp_path}/0.yaml:16: {said}')


def test_an_old_topic_that_is_none_is_refused_with_its_line(contract_in, tmp_path):
    with pytest.raises(ContractError, match=re.escape(
            f"{tmp_path}/0.yaml:1: inputs.image.topic is 'a b'; write letters, digits and _")):
        contract_in(BEFORE.replace('camera/image_raw', "'a b'"))


def test_shipped_robots_have_a_contract_of_either_kind():
    for path in sorted((Path(__file__).parents[2] / 'config' / 'robots').glob('*.yaml')):
        contract = ParameterFiles([path]).contract_of()
        assert contract.trigger in contract.inputs


def test_settings_are_refused_where_they_are_made():
    for kind, values, said in ((InputSettings, {'type': IMU}, 'fields is empty'),
                               (InputSettings, {'type': 'x'}, 'type is'),
                               (OutputSettings, {'type': 'joint_state'}, 'names is empty'),
                               (OutputSettings, {'horizon': math.nan}, 'horizon is nan')):
        with pytest.raises(SettingsError, match=f'^{said}'):
            kind(**values)


def test_every_field_means_something_for_some_type():
    known = {name for names in MEANT_FOR.values() for name in names}
    assert known == {item.name for item in settings_fields(InputSettings)}
    assert set(OF_BASES) < {item.name for item in settings_fields(OutputSettings)}
    assert len({*BASE_TYPES, *VECTOR_TYPES}) == 7
    assert InputSettings(type=SCAN, high=(1.0,)).kind == 'scan'
    assert InputSettings(type=JOINT_STATE, fields=('position.a',), units=('rad',), low=(0.0,),
                         high=(1.0,)).kind == 'vector'


def rows_of(kind):
    """Return the page's table of a settings dataclass, as it follows from the settings."""
    for item in settings_fields(kind):
        unit = f" [{item.metadata['unit']}]" if item.metadata.get('unit') else ''
        among = item.metadata.get('among', ())
        words = f": `{'`, `'.join(among)}`" if among else ''
        usual = str(item.default).lower() if isinstance(item.default, bool) else item.default
        yield (f'| `{item.name}` | {"" if usual in ((), "") else f"`{usual}`"} | '
               f"{item.metadata['meaning']}{unit}{words} |")


def test_the_page_has_every_field_as_the_settings_declare_it():
    page = (Path(__file__).parents[2] / 'docs' / 'contract.md').read_text()
    for kind in (InputSettings, OutputSettings):
        assert '\n'.join(rows_of(kind)) + '\n\n' in page
    for name in (*KNOWN_TYPES, *BASE_TYPES, *VECTOR_TYPES):
        assert name.removeprefix('sensor_msgs/msg/') in page


def test_the_page_s_example_is_read(contract_in):
    page = (Path(__file__).parents[2] / 'docs' / 'contract.md').read_text()
    contract = contract_in(page.split('```yaml\n')[1].split('```')[0])
    assert list(contract.inputs) == ['image', 'odometry', 'scan', 'last', 'age']
    assert contract.conversion('scan', (60,)).rays == 60
