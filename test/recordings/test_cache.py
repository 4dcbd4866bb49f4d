"""Decoded frames on disk: mapped, equal, found again, and never half of them."""

import json
import os

import numpy as np
import pytest
from stream_agent.learning.recorded_episodes import cut_recordings
from stream_agent.recordings.alignment import Alignment
from stream_agent.recordings.bag_recording import BagRecording
from stream_agent.recordings.cache import remember
from stream_agent.recordings.recording import BadRecordingError, Reading
from stream_agent.recordings.sources import open_recordings
from support.recordings_files import (
    compressed, drive, MCAP, picture, raw, SQLITE3, START, twist_stamped, write)

HALF = {'rows': 'half'}


def upper_half(image):
    """Prepare pixels: (3, 6, 16)."""
    return np.moveaxis(image[:6], -1, 0)


def cached(path, folder, preparation=HALF, pixels=upper_half, say=print):
    (recording,) = open_recordings([path], Reading())
    return remember(recording, Reading(), folder, preparation,
                    lambda frame: {'image': pixels(frame.values)}, say=say)


def test_frames_are_mapped_and_equal(tmp_path):
    recording = cached(drive(tmp_path / 'bag', count=9), tmp_path / 'cache')
    assert isinstance(recording.pixels, np.memmap) and not recording.pixels.flags.writeable
    np.testing.assert_array_equal(
        recording.pixels, [upper_half(picture(number)) for number in range(9)])
    (span,) = recording.episodes(Alignment())
    np.testing.assert_allclose(span.commands[:, 1], np.arange(9) / 10)
    assert recording.rate == 20


def test_the_second_start_decodes_nothing_and_any_change_does_all(tmp_path):
    path, folder = drive(tmp_path / 'bag'), tmp_path / 'cache'
    first = cached(path, folder)

    def not_again(image):
        raise AssertionError('decoded again')
    again = cached(path, folder, pixels=not_again)
    np.testing.assert_array_equal(again.pixels, first.pixels)
    assert again.summary() == first.summary()
    with pytest.raises(AssertionError):
        cached(path, folder, {'rows': 'other'}, not_again)
    (storage,) = path.glob('*.mcap')
    os.utime(storage, ns=(1, 1))
    with pytest.raises(AssertionError):
        cached(path, folder, pixels=not_again)


@pytest.mark.parametrize('storage, compression', [
    (MCAP, 'none'), (SQLITE3, 'none'), (MCAP, 'file'), (SQLITE3, 'file'), (MCAP, 'message')])
def test_what_is_recorded_anew_under_its_name_is_decoded_anew(tmp_path, storage, compression):
    options = {'storage': storage, 'compression': compression}
    path = drive(tmp_path / 'bag', **options)
    (file,) = path.glob('bag.*')
    for source in (path, file):
        first = cached(source, tmp_path / 'cache')
        assert first.pixels[3, 0, 0, 0] == 30
    times = file.stat()
    path.rename(tmp_path / 'old')
    drive(path, image=lambda stamp, pixels: raw(stamp, pixels + 1), **options)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as rsync may keep it
    for source in (path, file):
        assert cached(source, tmp_path / 'cache').pixels[3, 0, 0, 0] == 31


def test_a_name_made_of_no_file_is_impossible(tmp_path, monkeypatch):
    path = drive(tmp_path / 'bag')
    monkeypatch.setattr(BagRecording, 'files', lambda self: [])
    with pytest.raises(ValueError, match='BagRecording names no files that it was read from'):
        cached(path, tmp_path / 'cache')


def test_what_is_half_written_is_not_used(tmp_path):
    path, folder = drive(tmp_path / 'bag'), tmp_path / 'cache'
    seen = []

    def interrupted(image):
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return upper_half(image)
    with pytest.raises(KeyboardInterrupt):
        cached(path, folder, pixels=interrupted)
    assert list(folder.iterdir()) == []
    assert len(cached(path, folder)) == 8


def older(folder):
    """Make the manifest that of an earlier version, which knew less."""
    manifest = folder / 'manifest.json'
    about = json.loads(manifest.read_text())
    del about['format'], about['left_out']
    manifest.write_text(json.dumps(about))


def newer(folder):
    """Make the manifest that of a version to come."""
    manifest = folder / 'manifest.json'
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), 'format': 99}))


def cut_off(part, length):
    def damage(folder):
        (folder / part).write_bytes((folder / part).read_bytes()[:length])
    return damage


def fewer_stamps(folder):
    stamps = np.load(folder / 'frame_stamps.npy')
    np.save(folder / 'frame_stamps.npy', stamps[1:])


@pytest.mark.parametrize('damage', [
    older, newer, cut_off('input_0.npy', -1), cut_off('manifest.json', 1),
    cut_off('frame_stamps.npy', 0), cut_off('command_values.npy', 40), fewer_stamps,
    lambda folder: (folder / 'command_stamps.npy').unlink(),
    lambda folder: (folder / 'manifest.json').unlink(),
    lambda folder: (folder / 'manifest.json').write_text('[]')])
def test_what_is_of_another_version_or_damaged_is_decoded_anew_and_that_is_said(tmp_path, damage):
    path, folder, said = drive(tmp_path / 'bag'), tmp_path / 'cache', []
    place = cached(path, folder, say=said.append).folder
    assert said == []
    damage(place)
    again = cached(path, folder, say=said.append)
    assert (len(again), again.pixels[7, 0, 0, 0], again.rate) == (8, 70, 20)
    (line,) = said
    assert line.startswith(f"'{place}': decoded by another version, or damaged (")
    cached(path, folder, say=said.append)
    assert len(said) == 1 and list(folder.iterdir()) == [place]


def test_frames_that_cannot_be_decoded_leave_no_hole(tmp_path):
    frames = [(START + i * 10**7, compressed(START + i * 10**7, picture(i))) for i in range(5)]
    frames[2][1].data = frames[2][1].data[:40]
    path = write(tmp_path / 'bag', ('/camera', frames),
                 ('/cmd', [(START, twist_stamped(START, 1.0, 0.0))]))
    recording = cached(path, tmp_path / 'cache')
    assert recording.pixels[:, 0, 0, 0].tolist() == [0, 10, 30, 40]
    assert (np.diff(recording.frame_stamps) // 10**7).tolist() == [1, 2, 1]
    assert len(np.load(recording.folder / 'input_0.npy')) == 4


def test_nothing_left_is_a_fault(tmp_path):
    path = write(tmp_path / 'bag', ('/camera', [(START + i, raw(START + i, picture(i)))
                                                for i in range(3)]),
                 ('/cmd', [(START, twist_stamped(START, 1.0, np.nan))]))
    recording = cached(path, tmp_path / 'cache')
    with pytest.raises(BadRecordingError) as error:
        cut_recordings([recording], Alignment())
    assert str(error.value) == (
        f"'{path}': no episode is left of topic '/camera' (bag: 3 frames at 1000000000.0 Hz "
        '(stamps: header), 1 commands (yaw rate; stamps: header); not used: 3 frames whose '
        'command is NaN or infinite); leave the recording out, or check that both topics were '
        'recorded at the same time (--stamps)')
