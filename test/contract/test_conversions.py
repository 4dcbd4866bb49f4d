"""Measured values become the numbers of an input node as the contract says, or are refused."""

import math

import cv2
from hypothesis import given, strategies as st
import numpy as np
import pytest
from stream_agent.contract.conversions import (
    AgeInput, CommandsInput, ConversionError, CONVERSIONS, DepthInput, OutputScale, Scan,
    ScanInput, VectorInput)
from support.strategies import examples

SPEEDS = VectorInput(('twist.twist.linear.x', 'twist.twist.angular.z'), ('m/s', 'rad/s'),
                     (-2.0, 6.0), (2.0, -6.0))
SIX = ScanInput(6, -1.0, 1.0, 8.0, 2.0)
DEPTH = DepthInput((1, 2, 3), 0.5, 4.5, 4.5)
NAN, INF = math.nan, math.inf


def scan(ranges, first=-1.0, increment=0.4, least=0.12, most=10.0):
    return Scan(np.array(ranges, np.float32), first, increment, least, most)


def test_low_becomes_minus_one_high_one_and_beyond_is_cut_off():
    # The yaw rate is turned round: its low is above its high.
    for values, expected in (((-2, 6), (-1, -1)), ((2, -6), (1, 1)), ((0, 3), (0, -0.5)),
                             ((9, -9), (1, 1)), ((-9, 9), (-1, -1))):
        found = SPEEDS(np.array(values))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_many_vectors_are_scaled_as_each():
    values = np.random.default_rng(0).normal(0, 4, (50, 2))
    np.testing.assert_array_equal(SPEEDS(values), [SPEEDS(one) for one in values])


@pytest.mark.parametrize('values, said', [
    ((1.0,), '1 values for 2 fields (twist.twist.linear.x, twist.twist.angular.z)'),
    ((1.0, 2.0, 3.0), '3 values for 2 fields'), (1.0, '1 values for 2 fields'),
    ((0.0, NAN), 'twist.twist.angular.z is not a finite number'),
    ((INF, 0.0), 'twist.twist.linear.x is not a finite number'),
    ([(0.0, 0.0), (0.0, -INF)], 'twist.twist.angular.z is not a finite number')])
def test_values_that_do_not_fit_are_refused(values, said):
    with pytest.raises(ConversionError) as fault:
        SPEEDS(np.array(values))
    assert said in str(fault.value)


def test_ranges_are_scaled_and_each_fault_is_what_the_contract_says():
    # 0 m is -1, 8 m is 1, faulty ones are 2 m; the scanner measures from 0.12 to 10 m.
    found = SIX(scan([4, 9, INF, -INF, NAN, 0]))
    np.testing.assert_allclose(found, [0, 1, 1, 0.12 / 4 - 1, -0.5, -0.5], atol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_allclose(SIX(scan([0.1, 10.1, -1, 0.13, 10, 8])),
                               [-0.5, -0.5, -0.5, 0.13 / 4 - 1, 1, 1], atol=1e-6)


def test_the_ends_of_what_a_scanner_measures_are_compared_as_they_are_sent():
    least = float(np.float32(0.12))
    assert least < 0.12  # as a message has it
    for said in (0.12, least):
        np.testing.assert_allclose(SIX(scan([least] * 6, least=said)), 0.12 / 4 - 1, atol=1e-6)
    np.testing.assert_allclose(SIX(scan([0.1] * 6, most=float(np.float32(0.1)), least=0.0)),
                               0.1 / 4 - 1, atol=1e-6)


def test_zero_is_no_return_also_where_the_scanner_measures_from_zero():
    np.testing.assert_allclose(SIX(scan([0.0] * 6, least=0.0)), -0.5)


def test_an_endless_scanner_sees_nothing_at_infinity():
    np.testing.assert_allclose(SIX(scan([INF, 1, 2, 3, 4, NAN], most=INF)),
                               [1, -0.75, -0.5, -0.25, 0, -0.5])
    np.testing.assert_allclose(SIX(scan([INF, 1, 2, 3, 4, 9], most=INF)),
                               [1, -0.75, -0.5, -0.25, 0, 1])


def test_a_scan_is_left_as_it_is():
    measured = scan([INF, NAN, 1, 2, 3, 4])
    before = measured.ranges.copy()
    SIX(measured)
    np.testing.assert_array_equal(measured.ranges, before)


def nearest_by_angle(wanted, count, first, increment):
    """Return the nearest ray to an angle, and how many rays away it is."""
    angles = first + increment * np.arange(count)
    away = np.abs((angles - wanted + math.pi) % (2 * math.pi) - math.pi)
    return int(away.argmin()), away.min() / abs(increment)


@given(rays=st.integers(1, 30), start=st.floats(-3.1, 2.5), width=st.floats(0.1, 6.2),
       count=st.integers(3, 400), first=st.floats(-6.3, 6.3), share=st.floats(0.1, 1),
       turns_right=st.booleans())
@examples(300)
def test_every_angle_takes_the_nearest_ray_or_the_scan_is_refused(rays, start, width, count,
                                                                  first, share, turns_right):
    increment = share * 2 * math.pi / count * (-1 if turns_right else 1)
    conversion = ScanInput(rays, start, start + width, 1000.0, 0.0)
    ranges = np.arange(1, count + 1)
    found = [nearest_by_angle(angle, count, first, increment)
             for angle in np.linspace(start, start + width, rays)]
    allowed = max(0.5, min(1.5, 0.05 / abs(increment)))
    furthest = max(away for _, away in found)
    if abs(furthest - allowed) < 0.01:
        return  # either is right
    measured = scan(ranges, first, increment, most=1000.0)
    if furthest > allowed:
        with pytest.raises(ConversionError, match='the network sees'):
            conversion(measured)
        return
    taken = np.rint((conversion(measured) + 1) * 500).astype(int) - 1
    for (index, away), given_index, angle in zip(
            found, taken, np.linspace(start, start + width, rays)):
        own = abs((first + increment * given_index - angle + math.pi) % (2 * math.pi) - math.pi)
        # Of two that are as near either is right.
        assert given_index == index or own / abs(increment) == pytest.approx(away, abs=1e-6)


def test_a_ray_more_or_less_changes_nothing_else():
    whole = np.linspace(1, 5, 361)
    conversion = ScanInput(60, -1.57, 1.57, 6.0, 6.0)
    increment = 3.14 / 360
    expected = conversion(scan(whole, -1.57, increment))
    np.testing.assert_array_equal(conversion(scan(whole[:-1], -1.57, increment))[:-1],
                                  expected[:-1])
    np.testing.assert_array_equal(conversion(scan([*whole, 5.5], -1.57, increment)), expected)
    with pytest.raises(ConversionError, match=r'a scan goes from -1\.57 to 1\.535 rad, and the '
                       r'network sees 1\.57 rad, too; write angle_min and angle_max within'):
        conversion(scan(whole[:-4], -1.57, increment))


@pytest.mark.parametrize('changed, said', [
    ({'increment': 0.0}, 'a scan has 6 ranges, angle_min -1 and angle_increment 0'),
    ({'increment': NAN}, 'which are no rays'), ({'first': INF}, 'which are no rays'),
    ({'ranges': []}, 'a scan has 0 ranges'),
    ({'most': 0.0}, 'a scan measures from 0.12 to 0 m by range_min and range_max; let its driver'),
    ({'most': NAN}, 'by range_min and range_max'), ({'least': -1.0}, 'a scan measures from -1'),
    ({'ranges': [1.0] * 3}, 'a scan goes from -1 to -0.2 rad, and the network sees 0.2 rad')])
def test_scans_that_cannot_be_are_refused(changed, said):
    with pytest.raises(ConversionError) as fault:
        SIX(scan(**{'ranges': [1.0] * 6} | changed))
    assert said in str(fault.value)


def test_depth_of_both_encodings_is_scaled_alike():
    # 0.5 m is -1 and 4.5 m is 1.
    millimetres = np.array([[500, 2500, 4500], [100, 9000, 0]], np.uint16)
    np.testing.assert_allclose(DEPTH(millimetres), [[[-1, 0, 1], [-1, 1, 1]]], atol=1e-6)
    metres = np.array([[0.5, 2.5, -INF], [INF, NAN, 0]], np.float32)
    before = metres.copy()
    found = DepthInput((1, 2, 3), 0.5, 4.5, 2.5)(metres)
    np.testing.assert_allclose(found, [[[-1, 0, -1], [1, 0, 0]]], atol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(metres, before)


@given(across=st.integers(1, 4), height=st.integers(1, 30), width=st.integers(1, 30),
       seed=st.integers(0, 9))
@examples(60)
def test_depth_is_resized_by_the_nearest_pixel_as_by_opencv(across, height, width, seed):
    pixels = np.random.default_rng(seed).integers(
        1, 60_000, (across * height, 2 * across * width), np.uint16)
    expected = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)
    found = DepthInput((1, height, width), 0.0, 65.535, 0.0)(pixels)
    np.testing.assert_allclose((found[0] + 1) / 2 * 65535, expected, atol=0.02)


def test_depth_of_any_size_is_resized():
    pixels = np.arange(1, 15, dtype=np.uint16)[np.newaxis] * 1000
    np.testing.assert_allclose(DepthInput((1, 2, 4), 0.0, 14.0, 0.0)(pixels),
                               np.tile(np.array([1, 4, 8, 11]) / 7 - 1, (1, 2, 1)), atol=1e-6)


def test_the_invalid_mixes_into_no_neighbour():
    found = DepthInput((1, 1, 1), 0.0, 4.0, 4.0)(np.array([[2000, 0], [0, 0]], np.uint16))
    np.testing.assert_allclose(found, 0)


def test_what_is_not_depth_is_refused():
    for values in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4))):
        with pytest.raises(ConversionError, match='is not depth; take one of encoding 16UC1 or'):
            DEPTH(values)


def test_own_commands_are_the_newest_first_and_cut_off():
    conversion = CommandsInput(3, 2)
    for values, expected in (([], [0] * 6), ([(0.5, -2)], [0.5, -1, 0, 0, 0, 0]),
                             ([(1, 2), (3, 4), (-5, 0.25), (7, 8)], [1, 1, 1, 1, -1, 0.25])):
        np.testing.assert_array_equal(conversion(values), expected)
        np.testing.assert_array_equal(conversion([np.array(one) for one in values]), expected)
    np.testing.assert_array_equal(conversion(np.ones((1, 2))), [1, 1, 0, 0, 0, 0])


def test_an_age_is_from_nothing_to_most():
    for age, expected in ((0, -1), (0.25, 0), (0.5, 1), (3, 1), (-1, -1)):
        np.testing.assert_allclose(AgeInput(0.5)(age), [expected])
    with pytest.raises(ConversionError, match='an age is nan s'):
        AgeInput(0.5)(NAN)


def test_outputs_and_commands_are_each_other_s_opposites():
    scale = OutputScale(('pan', 'tilt'), ('rad', 'rad'), (-1.0, 0.0), (1.0, 0.5))
    assert scale.command(np.array([0, -1], np.float32)) == (0, 0)
    assert scale.command((1, 1)) == (1, 0.5)
    for output in ((-1, 1), (0.25, -0.5)):
        assert scale.output(scale.command(output)) == pytest.approx(output)


def test_a_policy_s_file_knows_each_kind_by_its_name():
    assert set(CONVERSIONS) == {'vector', 'scan', 'depth', 'commands', 'age'}
    for kind, made in (('vector', SPEEDS), ('scan', SIX), ('depth', DEPTH),
                       ('commands', CommandsInput(3, 2)), ('age', AgeInput(1))):
        assert CONVERSIONS[kind] is type(made) and made.kind == kind
    assert [one.size for one in (SPEEDS, SIX, DEPTH, CommandsInput(3, 2), AgeInput(1))] == [
        2, 6, 6, 6, 1]


@pytest.mark.parametrize('kind, values, said', [
    (VectorInput, ((), (), (), ()), 'fields are (); give at least one'),
    (VectorInput, (('a', 'a'), ('m', 'm'), (0, 0), (1, 1)), 'each once'),
    (VectorInput, (('a', 'b'), ('m',), (0, 0), (1, 1)), 'there are 2 fields and 1 units'),
    (VectorInput, (('a', 'b'), ('m', 'm'), (0, 0), (1,)), 'there are 2 fields and 1 high'),
    (VectorInput, (('a',), (3,), (0,), (1,)), 'units are (3,); each is a text'),
    (VectorInput, (('a',), ('m',), (1,), (1,)), 'a goes from 1 (low) to 1 (high); give two diff'),
    (VectorInput, (('a',), ('m',), (NAN,), (1,)), 'a goes from nan (low)'),
    (VectorInput, (('a',), ('m',), ('0',), (1,)), "a goes from '0' (low)"),
    (VectorInput, (('a',), ('m',), (0,), (1e300,)), 'a goes from 0 (low) to 1e+300'),
    (OutputScale, (('j', 'j'), ('m', 'm'), (0, 0), (1, 1)), "names are ('j', 'j'); give at least"),
    (OutputScale, (('j',), ('m',), (0,), (0,)), 'j goes from 0 (low) to 0 (high)'),
    (ScanInput, (0, -1.0, 1.0, 6.0, 6.0), 'rays is 0; let it be a whole number from 1'),
    (ScanInput, (10**9, -1.0, 1.0, 6.0, 6.0), 'rays is 1000000000'),
    (ScanInput, (2.0, -1.0, 1.0, 6.0, 6.0), 'rays is 2.0'),
    (ScanInput, (2, 1.0, -1.0, 6.0, 6.0), 'angle_max is -1 and angle_min 1; let it be greater'),
    (ScanInput, (2, -4.0, 4.0, 6.0, 6.0), 'by a full turn'),
    (ScanInput, (2, NAN, 4.0, 6.0, 6.0), 'angle_min is nan'),
    (ScanInput, (2, -1.0, 1.0, 0.0, 6.0), 'range_max is 0 and invalid 6'),
    (ScanInput, (2, -1.0, 1.0, 6.0, -1.0), 'range_max is 6 and invalid -1'),
    (DepthInput, ((3, 4, 4), 0.0, 5.0, 5.0), 'a depth image is [1, height, width]'),
    (DepthInput, ((1, 4), 0.0, 5.0, 5.0), 'a depth image is'),
    (DepthInput, ((1, 4, 0), 0.0, 5.0, 5.0), 'a depth image is'),
    (DepthInput, ((1, 4, 4), 5.0, 5.0, 5.0), 'low is 5, high 5 and invalid 5 m'),
    (DepthInput, ((1, 4, 4), 0.0, INF, 5.0), 'high is inf'),
    (CommandsInput, (0, 2), 'count is 0'), (CommandsInput, (1, True), 'outputs is True'),
    (AgeInput, (0.0,), 'most is 0 s'), (AgeInput, ('1',), "most is '1'")])
def test_conversions_that_cannot_be_are_refused(kind, values, said):
    with pytest.raises(ConversionError) as fault:
        kind(*values)
    assert said in str(fault.value)
