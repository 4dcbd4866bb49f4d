"""The report of drives past signs, of drives whose figures are known."""

import json

import numpy as np
import pytest
from stream_agent.measurement import road_report
from stream_agent.measurement.recording import RecordingError
from stream_agent.measurement.report import main, report
from stream_agent.measurement.road_report import (
    left_the_lane, read_drives, RoadDrive, segments, with_gaps)

RATE = 20.0


def record(speed=1.2, lateral=0.0, judged=True):
    """Return a minute on a circle, commanded 1.2 m/s, with one departure in the middle."""
    count = round(60 * RATE)
    time = np.arange(1, count + 1) / RATE
    along = speed * time
    frames = {
        'time': time, 'x': 3 * np.cos(along / 3), 'y': 3 * np.sin(along / 3), 'yaw': along / 3,
        'speed': np.full(count, speed), 'commanded': np.full(count, 1.2),
        'lateral': np.full(count, lateral), 'along': along, 'sign': along // 5,
        'judged': (along % 5 >= 2.5) * judged, 'right': (along % 5 >= 2.5) * (speed == 1.2),
        'expert': np.zeros(count), 'push': np.zeros(count)}
    frames['lateral'][count // 2] = 0.31
    frames['x'][count // 2] += 1.0
    turns = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    return {
        'course_seed': 5, 'duration': 60.0, 'published': count - 3, 'skipped': 3,
        'commands': count // 4, 'stops': 0, 'departures': 1, 'lateral_rms': 0.0625,
        'score': 0.5 if judged else None, 'speed_rms': 0.25, 'signs_obeyed': 0.75,
        'obeyed': [True, True, False, True], 'seconds_until_obeyed': [0.5, 1.5, 1.0],
        'lane_width': 0.6, 'lane_band': 0.08, 'speed_band': 0.2,
        'course': np.stack([3 * np.cos(turns), 3 * np.sin(turns)], axis=1).tolist(),
        'plates': [{'x': 4.0, 'y': 0.0, 'glyph': 'ring'}],
        'signs': [{'along': 5.0 * number, 'glyph': 'ring', 'speed': 1.2} for number in range(4)],
        'glyphs': {'ring': [[0, 255], [255, 0]]},
        'frames': {name: np.asarray(column).tolist() for name, column in frames.items()}}


@pytest.fixture
def folder(tmp_path):
    """Return the folder of two drives."""
    drives = [{'name': name, 'policy': name, 'pattern': pattern, 'peer': peer, 'pass_periods': 6.4}
              for name, pattern, peer in (('planned', 'multi-rate', None),
                                          ('smaller', 'sequential', 'smaller'))]
    conditions = {
        'date': '2026-11-30 12:00', 'machine': 'mine: a processor', 'versions': {'Python': '3'},
        'seed': 5, 'duration': 60.0, 'pushes': 2.5, 'camera_rate': RATE, 'pass_periods': 6.4,
        'drives': drives}
    (tmp_path / 'run.json').write_text(json.dumps(conditions))
    for name, speed in (('planned', 1.2), ('smaller', 0.8)):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'drive.json').write_text(json.dumps(record(speed)))
    return tmp_path


def test_the_figures_are_those_of_the_drives(folder, capsys):
    page = report(folder)
    said = capsys.readouterr().out
    assert said.splitlines()[1] == ('Emulated computer: one core on which a pass through the '
                                    'network takes 6.4 camera periods, 320 ms at 20 Hz')
    for row in (r'in the lane at the commanded speed    50.0 %    50.0 %',
                r'signs obeyed    3 of 4 (75 %)    3 of 4 (75 %)',
                r'until a sign was obeyed, median [s]    1.00    1.00',
                r'lateral error RMS [mm]    62    62', r'lane left, times a minute    1.0    1.0',
                r'commands per camera frame    0.25    0.25',
                r'image to command, median [ms]    -    -',
                r'frames that the simulator skipped    3    3'):
        assert row.split() in [line.split() for line in said.splitlines()], row
    found = json.loads((folder / 'run.json').read_text())
    assert found['seed'] == 5 and found['pass_periods'] == 6.4
    planned, smaller = found['drives']
    assert (planned['name'], planned['pattern'], planned['peer']) == (
        'planned', 'multi-rate', None)
    assert smaller['peer'] == 'smaller'
    assert (planned['task_score'], planned['signs_obeyed'], planned['lateral_rms'],
            planned['departures_per_minute'], planned['stops']) == (50.0, 75.0, 0.0625, 1.0, 0)
    # Made again, it is the same.
    text, rows = page.read_text(), (folder / 'run.json').read_text()
    assert main([str(folder)]) == 0
    assert (page.read_text(), (folder / 'run.json').read_text()) == (text, rows)


def test_the_page_needs_nothing_else_and_links_the_recorders_reports(folder):
    text = report(folder).read_text()
    assert text.count('<svg') == 2
    assert 'planned (multi-rate): 50.0 %' in text
    assert 'smaller (sequential): 3 of 4 signs obeyed' in text
    assert 'href="planned/report.html"' in text and 'href="smaller/report.html"' in text
    assert 'src="http' not in text and 'xlink:href="http' not in text


def test_a_machine_that_was_too_busy_and_a_gate_that_stopped_are_told(folder, capsys):
    busy = record() | {'skipped': 100, 'published': 1100, 'stops': 2}
    (folder / 'smaller' / 'drive.json').write_text(json.dumps(busy))
    text = report(folder).read_text()
    for said in (text, capsys.readouterr().out):
        assert 'smaller: this machine was too busy to show 8% of the images; do not trust' in said
        assert 'smaller: the gate stopped the vehicle 2 times; log.txt says why.' in said
        assert 'planned: t' not in said


def test_latency_is_that_of_the_recording(folder, monkeypatch):
    monkeypatch.setattr(road_report, 'latency_in', lambda own: {
        'planned': 0.0213, 'smaller': 0.1166}[own.name])
    _, drives = read_drives(folder)
    assert [drive.figures['latency'] for drive in drives] == [0.0213, 0.1166]
    assert [road_report.rows_of(drive)['image to command, median [ms]'] for drive in drives] == [
        '21', '117']


def test_a_drive_without_a_judged_sign_says_so(folder, capsys):
    (folder / 'planned' / 'drive.json').write_text(json.dumps(record(judged=False)))
    report(folder)
    assert 'No sign was judged; let them drive longer, by --duration.' in capsys.readouterr().out
    assert json.loads((folder / 'run.json').read_text())['drives'][0]['task_score'] is None


@pytest.mark.parametrize('break_it, said', [
    (lambda own: own.unlink(), "drive.json': No such file or directory; a drive was not finished"),
    (lambda own: own.write_text('{'), 'not what `python -m stream_agent run` writes'),
    (lambda own: own.write_text('{}'), 'not what `python -m stream_agent run` writes')])
def test_a_drive_that_is_missing_is_named(folder, break_it, said):
    break_it(folder / 'smaller' / 'drive.json')
    with pytest.raises(RecordingError, match=said):
        report(folder)


def test_what_is_drawn_alike_is_what_was_judged_alike():
    drive = RoadDrive({'name': 'x'}, record(speed=0.8), np.nan)
    masks = list(segments(drive.frames).values())
    assert [mask.sum() for mask in masks] == [
        (drive.frames['judged'] == 0).sum(), 0, (drive.frames['judged'] > 0).sum()]
    assert left_the_lane(drive).tolist() == [600]
    # Away and back, so there is a gap before either.
    x, lateral = with_gaps(drive.frames, 'x', 'lateral')
    assert np.flatnonzero(np.isnan(x)).tolist() == [600, 602] and len(lateral) == 1202
