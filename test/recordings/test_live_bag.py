"""Recordings that are written while the messages come."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from stream_agent.recordings.recording import BadRecordingError, Reading
from stream_agent.recordings.sources import open_recordings
from stream_agent.recordings.writing import (
    COMPRESSED, LiveBag, serialized_command, serialized_image)
from support.recordings_files import jpeg, picture

TOPICS = {'/image/compressed': COMPRESSED, '/cmd_vel': 'geometry_msgs/msg/TwistStamped'}
START = 1_700_000_000 * 10**9


def messages(count):
    for i in range(count):
        stamp = START + i * 50_000_000
        yield '/image/compressed', stamp, serialized_image(
            jpeg(picture(i), '.jpg').tobytes(), stamp)
        yield '/cmd_vel', stamp + 1000, serialized_command(0.5, 0.1 * i, stamp + 1000)


def test_what_is_put_in_comes_out(tmp_path):
    bag = LiveBag(tmp_path / 'drive', TOPICS)
    for message in messages(6):
        bag.put(*message)
    assert bag.close(10.0)
    assert bag.counts == {'/image/compressed': 6, '/cmd_vel': 6}
    (recording,) = open_recordings([tmp_path / 'drive'], Reading())
    assert (recording.frame_stamps - START).tolist() == [i * 50_000_000 for i in range(6)]
    np.testing.assert_allclose(recording.commands.values[:, 1], 0.1 * np.arange(6))
    assert [path.name for path in tmp_path.iterdir()] == ['drive']


def test_what_the_disk_cannot_take_is_dropped_and_counted(tmp_path):
    first, *others = messages(3)
    bag = LiveBag(tmp_path / 'drive', TOPICS, most_waiting=len(first[2]) - 1)
    bag.put(*first)
    assert bag.dropped == 1
    bag.put(*others[0])
    assert bag.close(10.0)
    assert bag.counts == {'/image/compressed': 0, '/cmd_vel': 1}


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / 'drive').mkdir()
    bag = LiveBag(tmp_path / 'drive', TOPICS)
    for message in messages(2):
        bag.put(*message)
    assert not bag.close(10.0)
    assert isinstance(bag.error, BadRecordingError)
    assert 'already exists' in str(bag.error)
    assert list((tmp_path / 'drive').iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error_and_nobody_waits(tmp_path):
    (tmp_path / 'file').touch()
    bag = LiveBag(tmp_path / 'file' / 'drive', TOPICS)
    for message in messages(2):
        bag.put(*message)
    assert not bag.close(10.0)
    assert isinstance(bag.error, OSError)
    before = bag.dropped
    bag.put(*next(messages(1)))
    assert bag.dropped == before + 1


@pytest.mark.parametrize('count', [0, 1])
def test_a_recording_without_a_topic_s_messages_says_so_when_it_is_read(tmp_path, count):
    bag = LiveBag(tmp_path / 'drive', TOPICS)
    for message in list(messages(1))[:count]:
        bag.put(*message)
    assert bag.close(10.0)
    with pytest.raises(BadRecordingError, match='message'):
        open_recordings([tmp_path / 'drive'], Reading())


def test_a_recording_ends_before_the_disk_is_full(tmp_path, monkeypatch):
    frames = list(messages(40))
    used = iter([0, 0])
    monkeypatch.setattr('stream_agent.recordings.writing.CHECKED_EVERY', 4000)
    monkeypatch.setattr('shutil.disk_usage', lambda path: SimpleNamespace(
        free=10**9 if next(used, None) == 0 else 10**6))
    bag = LiveBag(tmp_path / 'drive', TOPICS)
    for message in frames:
        bag.put(*message)
    assert not bag.close(10.0)
    assert str(bag.error) == (
        '[Errno 28] the disk is almost full, so the recording ends here; it is complete so far: '
        f"'{tmp_path / 'drive'}'")
    assert 0 < bag.counts['/image/compressed'] < 40
    (recording,) = open_recordings([tmp_path / 'drive'], Reading())
    assert len(recording) == bag.counts['/image/compressed']
    assert [path.name for path in tmp_path.iterdir()] == ['drive']


PROGRAM = """
import pathlib, resource, sys
from stream_agent.recordings.writing import COMPRESSED, LiveBag
resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 2**20, resource.RLIM_INFINITY))
bag = LiveBag(pathlib.Path(sys.argv[1]), {'/image': COMPRESSED})
for stamp in range(1, 60):
    bag.put('/image', stamp, bytes(10**5))
print(bag.close(60.0), bag.error)
"""


@pytest.mark.child_process
def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path):
    said = subprocess.run([sys.executable, '-c', PROGRAM, tmp_path / 'drive'], text=True,
                          capture_output=True, timeout=120)
    assert said.stdout == f"False [Errno 27] File too large: '{tmp_path / 'drive'}'\n"
    assert (said.returncode, said.stderr, list(tmp_path.iterdir())) == (0, '', [])


def test_what_a_process_of_the_same_number_left_is_no_hindrance(tmp_path):
    (tmp_path / f'drive.{os.getpid()}.part' / 'drive').mkdir(parents=True)
    bag = LiveBag(tmp_path / 'drive', TOPICS)
    for message in messages(2):
        bag.put(*message)
    assert bag.close(10.0)
    assert [path.name for path in tmp_path.iterdir()] == ['drive']
