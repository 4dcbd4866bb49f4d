"""A policy is held against the robot's contract before anything moves."""

from dataclasses import replace
from pathlib import Path

import pytest
from stream_agent.contract.agreement import disagreements, line_for, sources
from stream_agent.contract.contract import Contract
from stream_agent.contract.conversions import (
    AgeInput, CommandsInput, DepthInput, OutputScale, ScanInput, VectorInput)
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.share import ParameterFiles

ROBOTS = Path(__file__).parents[2] / 'config' / 'robots'
IMAGE = Preprocessing((1, 60, 120))
SCAN = ScanInput(60, -2.0, 2.0, 6.0, 6.0)
ODOMETRY = VectorInput(('twist.twist.linear.x', 'twist.twist.angular.z'), ('m/s', 'rad/s'),
                       (-2.0, -6.0), (2.0, 6.0))
LAST, AGE = CommandsInput(8, 2), AgeInput(0.2)
BASE = CommandScale(1.0, 2.0)
JOINTS = tuple(f'joint_{i}' for i in range(1, 7))
ARM = OutputScale(JOINTS, ('rad/s',) * 6, (-0.8,) * 6, (0.8,) * 6)


def contract_of(robot):
    return ParameterFiles([ROBOTS / f'{robot}.yaml']).contract_of('/agent')


CAR, OLD = contract_of('scan_car'), Contract.of_values({})


def faults(contract, conversions, limits=BASE, trigger=None):
    return [*disagreements(contract, trigger or next(iter(conversions)), conversions, limits)]


@pytest.mark.parametrize('conversions', [
    {'image': IMAGE}, {'scan': SCAN}, {'image': IMAGE, 'odometry': ODOMETRY},
    {'image': IMAGE, 'scan': SCAN}, {'image': IMAGE, 'last': LAST, 'age': AGE}])
def test_policies_of_the_car_fit_it(conversions):
    assert faults(CAR, conversions) == []


@pytest.mark.parametrize('contract', [CAR, OLD, contract_of('turtlebot3')])
def test_a_policy_of_one_image_takes_the_camera_whatever_it_calls_it(contract):
    assert faults(contract, {'x': IMAGE}) == []
    assert sources(contract, 'x', {'x': IMAGE}) == {'x': 'image'}
    assert sources(CAR, 'image', {'image': IMAGE, 'scan': SCAN}) == {
        'image': 'image', 'scan': 'scan'}


def test_what_the_contract_lacks_is_a_line_to_add():
    (said,) = faults(OLD, {'image': IMAGE, 'scan': SCAN})
    assert said == ("input 'scan': the policy reads it, and the robot's contract has image; add "
                    'to inputs, in the section /** of its file: scan: {type: '
                    'sensor_msgs/msg/LaserScan, topic: TOPIC, rays: 60, angle_min: -2.0, '
                    'angle_max: 2.0, high: [6.0], invalid: 6.0}')
    (said,) = faults(CAR, {'image': IMAGE, 'odometri': ODOMETRY})
    assert "; rename 'odometry' there if that is it, or add to inputs" in said


@pytest.mark.parametrize('name, conversion', [
    ('scan', SCAN), ('odometry', ODOMETRY), ('last', LAST), ('age', AGE),
    ('depth', DepthInput((1, 6, 8), 0.1, 5.0, 5.0))])
def test_the_line_to_add_is_what_the_policy_needs(name, conversion, tmp_path):
    line = line_for(name, conversion).replace('TYPE', 'nav_msgs/msg/Odometry').replace(
        'TOPIC', 'somewhere')
    (tmp_path / 'mine.yaml').write_text(
        '/**:\n  ros__parameters:\n    inputs:\n'
        '      image: {type: sensor_msgs/msg/Image, topic: image, trigger: true}\n'
        f'      {line}\n    output: {{type: twist, topic: cmd_vel}}\n')
    contract = ParameterFiles([tmp_path / 'mine.yaml']).contract_of('/agent')
    assert faults(contract, {'image': IMAGE, name: conversion}) == []


@pytest.mark.parametrize('conversion, said', [
    (replace(SCAN, angle_min=-1.5), "angle_min is -2.0 in the robot's contract, and the policy "
     'was trained with -1.5; set inputs.scan.angle_min to -1.5, or train with this contract'),
    (replace(SCAN, range_max=5.0), "high is 6.0 in the robot's contract, and the policy was "
     'trained with 5.0; set inputs.scan.high to 5.0, or'),
    (replace(SCAN, rays=90), 'has 60 values by its rays'),
    (ODOMETRY, "the policy reads numbers of messages, and the robot's contract has "
     'sensor_msgs/msg/LaserScan; set inputs.scan.type to a message with numbers')])
def test_other_numbers_than_in_training_are_refused_with_both(conversion, said):
    (found,) = faults(CAR, {'scan': conversion})
    assert said in found
    assert 'scan_car.yaml:' in found


def test_units_count():
    (said,) = faults(CAR, {'image': IMAGE, 'odometry': replace(ODOMETRY, units=('m/s', 'deg/s'))})
    assert 'units is [m/s, rad/s]' in said and 'with [m/s, deg/s]' in said


def test_the_trigger_of_the_contract_is_that_of_the_policy():
    (said,) = faults(CAR, {'image': IMAGE, 'scan': SCAN}, trigger='scan')
    assert said.endswith("input 'image' is the trigger of the robot's contract, and the policy "
                         "was trained to step with 'scan'; set inputs.scan.trigger to true and "
                         'inputs.image.trigger to false')
    # Where that one is not read, another one may be.
    assert faults(CAR, {'scan': SCAN, 'odometry': ODOMETRY}, trigger='scan') == []


def test_what_obeys_is_what_is_commanded():
    arm = contract_of('six_joint_arm')
    joints = {'joints': arm.conversion('joints', (12,))}
    assert faults(arm, joints, ARM) == []
    # By name, in whatever order.
    assert faults(arm, joints, replace(ARM, names=JOINTS[::-1])) == []
    (said,) = faults(arm, joints, BASE)
    assert 'the policy commands speed and yaw rate of a base, and the robot takes ' in said
    (said,) = faults(CAR, {'image': IMAGE}, ARM)
    assert 'the robot takes twist_stamped; set output.type to float64_multi_array or' in said
    (said,) = faults(arm, joints, replace(ARM, names=('a', *JOINTS[1:])))
    assert 'commands a, joint_2' in said and 'set output.names to those of the policy' in said
    (said, *_) = faults(arm, joints, replace(ARM, units=('deg/s', *ARM.units[1:])))
    assert "'joint_1' is commanded in deg/s by the policy, and in rad/s by" in said


def test_an_image_is_no_depth():
    values = {'inputs.image.type': 'sensor_msgs/msg/Image', 'inputs.image.high': [5.0],
              'output.type': 'twist', 'inputs.image.trigger': True}
    (said,) = faults(Contract.of_values(values), {'image': IMAGE})
    assert "reads an image of a camera, and the robot's contract has depth" in said
