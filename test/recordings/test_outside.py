"""Recordings from elsewhere: their names and links lead nowhere, and nothing odd is printed."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from stream_agent.cli.arguments import run_tool
from stream_agent.cli.convert import main as convert
from stream_agent.doctor.findings import error, table
from stream_agent.engine.frame_filter import FrameFilter, FrameFilterSettings
from stream_agent.measurement.report import REPORT_FILE, write_report
from stream_agent.recordings.recording import BadRecordingError, Reading
from stream_agent.recordings.sources import open_recordings
from stream_agent.recordings.writing import new_folder
from support.recordings_files import drive, jpeg, picture, raw, tub, write

ESCAPE = 'evil\x1b[2J\n\u202ename'
SHOWN = r'evil\x1b[2J\n\u202ename'


def fault_of(path, **reading):
    with pytest.raises(BadRecordingError) as error:
        open_recordings([path], Reading(**reading))
    return str(error.value)


def moved(file, folder):
    """Move a file elsewhere, and leave a link to it."""
    folder.mkdir(exist_ok=True)
    os.rename(file, folder / file.name)
    file.symlink_to(folder / file.name)
    return file


@pytest.mark.parametrize('name', ['manifest.json', 'catalog_0.catalog', 'images'])
def test_a_tub_of_links_is_refused(tmp_path, name):
    path = tub(tmp_path / 'tub')
    moved(path / name, tmp_path / 'elsewhere')
    assert fault_of(path) == (f"'{path / name}' leads out of its folder; give the path of what is "
                              'there itself, or copy it')


def test_a_tub_of_version_1_of_links_is_refused(tmp_path):
    path = tmp_path / 'tub'
    path.mkdir()
    (path / 'record_0.json').symlink_to('/etc/hostname')
    assert "record_0.json' leads out of its folder" in fault_of(path)


def test_an_image_that_is_a_link_is_neither_read_nor_converted(tmp_path, capsys):
    path = tub(tmp_path / 'tub')
    file = moved(path / 'images' / '1_cam_image_array_.jpg', tmp_path / 'elsewhere')
    (recording,) = open_recordings([path], Reading())
    assert [index for index, _ in recording.images()] == [0, 2, 3, 4, 5]
    assert recording.first_fault.startswith(f"frame 1: '{file}' leads out of its folder")
    assert convert([str(path), '--output', str(tmp_path / 'bags')]) == 0
    said = capsys.readouterr().out
    assert 'with 5 of 6 frames' in said and 'leads out of its folder' in said
    (converted,) = open_recordings([tmp_path / 'bags'], Reading())
    assert len(converted) == 5
    # Within the folder a link is what it leads to.
    file.unlink()
    file.symlink_to('0_cam_image_array_.jpg')
    assert len(list(recording.images())) == 6


@pytest.mark.parametrize('name', ['../../secret.jpg', '/etc/passwd', 'a/b.jpg', ESCAPE + '/'])
def test_an_image_that_is_elsewhere_is_left_out(tmp_path, name):
    (recording,) = open_recordings(
        [tub(tmp_path / 'tub', **{'cam/image_array': name})], Reading())
    said = '; '.join((recording.summary(), *recording.notes))
    assert len(recording) == 5 and '1 records without a usable value' in said
    assert 'record 2 has ' in said and said.endswith("for 'cam/image_array'")
    assert said.isprintable()


@pytest.mark.parametrize('name', ['metadata.yaml', 'bag.mcap'])
def test_a_bag_of_links_is_refused(tmp_path, name):
    path = drive(tmp_path / 'bag')
    moved(path / name, tmp_path / 'elsewhere')
    assert f"'{path / name}' leads out of its folder" in fault_of(path)


def test_recordings_behind_links_are_those_that_were_named(tmp_path):
    path = drive(tmp_path / 'elsewhere' / 'bag')
    link = tmp_path / 'all' / 'link'
    link.parent.mkdir()
    link.symlink_to(path)
    assert f"'{link}' leads out of its folder; give the path" in fault_of(link.parent)
    (recording,) = open_recordings([link], Reading())
    assert recording.name == 'bag'


def test_topics_of_a_bag_are_printed_without_control_characters(tmp_path):
    path = write(tmp_path / 'bag', ('/' + ESCAPE, [(1, raw(1, picture(0)))]),
                 ('/' + 'x' * 900, [(1, raw(1, picture(0)))]))
    said = fault_of(path)
    assert f'/{SHOWN} (sensor_msgs/msg/Image)' in said
    assert said.isprintable() and len(said) < 900


@pytest.mark.parametrize('name, shown', [
    ('../out', '../out_000'), ('/tmp/out', '/tmp/out_000'), ('a/b', 'a/b_000'),
    (ESCAPE, SHOWN + '_000'), ('x' * 250, 'x' * 197 + '...')])
def test_no_run_of_an_archive_is_written_elsewhere(tmp_path, capsys, name, shown):
    files = [jpeg(picture(0), '.jpg').tobytes()]
    np.savez(tmp_path / 'a.npz', jpeg=np.frombuffer(files[0], np.uint8), steering=[0.0],
             offsets=[0, len(files[0])], throttle=[0.5], timestamp_ms=[1], seq_id=[0],
             run_id=[0], run_names=[name])
    output = tmp_path / 'here' / 'bags'
    assert convert([str(tmp_path / 'a.npz'), '--output', str(output)]) == 1
    assert capsys.readouterr().err == (
        f"convert: '{shown}' cannot be the name of a folder in '{output}'; give it another one, "
        'of one word\n')
    assert not list(output.iterdir()) and not (tmp_path / 'here' / 'out_000').exists()


@pytest.mark.parametrize('name', ['', '.', '..', 'a/..', '/'])
def test_names_of_no_folder(tmp_path, name):
    with pytest.raises(BadRecordingError):
        new_folder(tmp_path, name)


def test_a_report_replaces_a_link_and_not_what_it_leads_to(tmp_path, monkeypatch):
    monkeypatch.setattr('stream_agent.measurement.report.html', lambda _: 'the report')
    target = tmp_path / 'target'
    target.write_text('precious')
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / REPORT_FILE).symlink_to(target)
    path = write_report(SimpleNamespace(), folder)
    assert path.read_text() == 'the report' and target.read_text() == 'precious'


def test_what_a_tool_says_has_no_control_characters(capsys):
    def fail():
        raise ValueError(f'{ESCAPE}\nsecond line')

    assert run_tool('tool', fail) == 1
    assert capsys.readouterr().err == (
        'tool: evil\\x1b[2J\n\\u202ename\nsecond line\n')


def test_findings_and_frames_of_cameras_have_none_either():
    lines = table([error('image', f"'{ESCAPE}' is not right", ESCAPE)])
    assert '\\x1b[2J' in lines and all(line.isprintable() for line in lines.splitlines())
    frames = FrameFilter(FrameFilterSettings(camera_frame='left'))
    assert frames.refuse(10**9, 10**9, ESCAPE) == 'other camera'
    assert f"camera '{SHOWN}' are left out" in frames.reasons['other camera']
    frames = FrameFilter(FrameFilterSettings())
    for number in range(6):
        frames.refuse(10**9, 10**9, (ESCAPE, 'x' * 900)[number % 2])
    assert SHOWN in frames.reasons['two cameras']
    assert frames.reasons['two cameras'].isprintable()
    assert len(frames.reasons['two cameras']) < 500


def test_a_record_that_is_not_text_is_cut(tmp_path):
    path = tub(tmp_path / 'tub', **{'user/angle': json.dumps(['x' * 10**5])})
    (recording,) = open_recordings([path], Reading())
    assert len(recording) == 5 and len('; '.join(recording.notes)) < 400
