"""Storages: the same messages, whatever a recorder leaves open; nothing is lost unsaid."""

from collections import Counter
from pathlib import Path
import re
import shutil
import sqlite3
import struct
from tempfile import TemporaryDirectory

from backports import zstd
from hypothesis import assume, given, HealthCheck, settings, strategies
import numpy as np
import pytest
from rosbags.rosbag2 import Reader
from stream_agent.recordings.alignment import Alignment, cut
from stream_agent.recordings.bags import opened
from stream_agent.recordings.recording import BadRecordingError, Reading
from stream_agent.recordings.sources import open_recordings
from stream_agent.recordings.storages import logs_of
from support import odd_formats
from support.recordings_files import (
    chunk, drive, MCAP, mcap, picture, raw, record, SQLITE3, stamps, START, streams, twist,
    types, write)


def messages_of(path):
    with opened(path) as bag:
        return [(*stream, time, data) for stream, time, data in bag.messages(bag.counts)]


def check_whole(path, count=8, said=''):
    """Hold pixels and commands against ``drive``, and what is said of the recording."""
    (recording,) = open_recordings([path], Reading())
    for index, pixels in recording.images():
        np.testing.assert_array_equal(pixels, picture(index))
    assert index == count - 1
    assert recording.frame_stamps.tolist() == stamps(count)
    np.testing.assert_allclose(recording.commands.values,
                               [(0.5, i / 10) for i in range(count)], atol=1e-6)
    assert '; '.join(recording.notes) == said
    return recording


def fault_of(path, **reading):
    with pytest.raises(BadRecordingError) as error:
        (recording,) = open_recordings([path], Reading(**reading))
        list(recording.images())
    assert str(error.value).startswith(f"'{path}': ")
    return str(error.value).removeprefix(f"'{path}': ")


@settings(deadline=None, max_examples=40,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(profile=strategies.sampled_from(['ros2', '', 'other']),
       per_chunk=strategies.integers(0, 20), finished=strategies.booleans(),
       compression=strategies.sampled_from(['', 'zstd', 'lz4']),
       summary=strategies.sampled_from(['channels', 'counts', 'none']),
       schema_encoding=strategies.sampled_from(['ros2msg', 'ros2idl', 'jsonschema']),
       packed=strategies.booleans(), order=strategies.permutations(streams()))
def test_what_an_mcap_leaves_open_changes_nothing(tmp_path, packed, order, finished, **options):
    path = mcap(tmp_path / 'bag.mcap', order, finished=finished, **options)
    if packed:
        path = tmp_path / 'bag.mcap.zstd'
        data = (tmp_path / 'bag.mcap').read_bytes()
        path.write_bytes(zstd.compress(data[:1000]) + zstd.compress(data[1000:]))
    found = messages_of(path)
    assert sorted(found) == sorted(streams())
    assert [time for *_, time, _ in found] == sorted(time for *_, time, _ in found)


@settings(deadline=None, max_examples=30)
@given(storage=strategies.sampled_from(['mcap', 'sqlite3']),
       command=strategies.sampled_from(['stamped', 'twist']), by_ms=strategies.integers(180, 5000),
       own_clock=strategies.booleans(), frame=strategies.integers(5, 19),
       in_parts=strategies.booleans())
def test_a_recorders_clock_that_is_set_back_mixes_nothing(storage, command, by_ms, own_clock,
                                                          frame, in_parts):
    # Where one part ends as the other begins, a message or two may be of either.
    assume(not 1040 < by_ms < 1250)
    by = by_ms * 10**6
    messages = [m if m.index < frame else m._replace(
        log=m.log - by, header=m.header - by * (not own_clock)) for m in odd_formats.drive(
            command=command)]
    with TemporaryDirectory() as folder:
        path = odd_formats.bag(Path(folder) / 'bag', messages, storage,
                               split=2 * frame if in_parts else None)
        (recording,) = open_recordings([path], Reading())
        shown = [round(float(pixels.mean()) / 10) for _, pixels in recording.images()]
        spans = cut(recording.frame_stamps, recording.commands, Alignment(), Counter())
    turns = np.concatenate([span.commands[:, 1] for span in spans])
    used = [shown[i] for span in spans for i in span.frames]
    assert len(used) >= odd_formats.FRAMES - 1 and len(set(used)) == len(used)
    np.testing.assert_allclose(turns, 0.01 * (np.array(used) + 1))


@pytest.mark.parametrize('storage, compression', [
    (MCAP, 'none'), (MCAP, 'storage'), (MCAP, 'message'), (MCAP, 'file'), (SQLITE3, 'none'),
    (SQLITE3, 'message'), (SQLITE3, 'file')])
def test_the_library_reads_the_same_from_what_it_wrote(tmp_path, storage, compression):
    path = drive(tmp_path / 'bag', storage=storage, compression=compression)
    with Reader(path) as reader:
        expected = [(each.topic, each.msgtype, time, bytes(data))
                    for each, time, data in reader.messages()]
    assert messages_of(path) == expected == streams()
    check_whole(path)
    (file,) = path.glob('bag.*')
    assert file.name.endswith('.zstd') == (compression == 'file')
    check_whole(file)


def test_types_without_msg_and_topics_that_are_not_read(tmp_path):
    short = [(topic, kind.replace('/msg', ''), *rest) for topic, kind, *rest in streams()]
    check_whole(mcap(tmp_path / 'short.mcap', short))
    path = mcap(tmp_path / 'one.mcap', streams(), profile='ros1', encoding='ros1')
    assert fault_of(path).endswith(
        'record one, or leave the recording out. Topics are: /camera (sensor_msgs/msg/Image; '
        "encoded as 'ros1', profile 'ros1': not read), /cmd_vel (geometry_msgs/msg/TwistStamped; "
        "encoded as 'ros1', profile 'ros1': not read)")
    assert fault_of(path, image_topic='/camera').startswith(
        "there is no topic '/camera' that is read; give another by --image-topic. Topics are: ")


def killed(path, *statements):
    """Copy an SQLite recording as it is on disk while a recorder has it open."""
    base = sqlite3.connect(path / 'bag.db3', isolation_level=None)
    for statement in statements:
        base.execute(statement)
    shutil.copytree(path, path.parent / 'killed')
    base.close()
    return path.parent / 'killed'


def test_a_log_beside_a_storage_is_read_and_nothing_is_changed(tmp_path):
    path = killed(drive(tmp_path / 'bag', storage=SQLITE3),
                  'CREATE TABLE rows AS SELECT * FROM messages WHERE id > 8',
                  'DELETE FROM messages WHERE id > 8', 'PRAGMA journal_mode = wal',
                  'INSERT INTO messages SELECT * FROM rows')
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    assert {'bag.db3', 'bag.db3-wal'} < before.keys()
    recording = check_whole(path)
    assert {file.name for file in recording.files()} == {'metadata.yaml', 'bag.db3', 'bag.db3-wal'}
    check_whole(path / 'bag.db3')
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    (path / 'bag.db3-wal').unlink()
    assert fault_of(path) == (
        "the file is truncated or damaged: topic '/camera': 4 of the 8 messages that "
        'metadata.yaml counts; copy the recording again with all its files, or move '
        'metadata.yaml away to use what is there')
    (path / 'metadata.yaml').rename(path / 'away')
    check_whole(path, 4)


def test_what_was_not_committed_is_taken_back(tmp_path):
    path = killed(drive(tmp_path / 'bag', storage=SQLITE3), 'PRAGMA cache_size = 1', 'BEGIN',
                  'DELETE FROM messages', 'INSERT INTO messages VALUES (1, 1, 1, zeroblob(99999))')
    (log,) = logs_of(path / 'bag.db3')
    assert log.name == 'bag.db3-journal'
    check_whole(path)


def test_the_first_schema_of_sqlite(tmp_path):
    path = drive(tmp_path / 'bag', storage=SQLITE3)
    base = sqlite3.connect(path / 'bag.db3')
    for column in ('offered_qos_profiles', 'type_description_hash'):
        base.execute(f'ALTER TABLE topics DROP COLUMN {column}')
    for table in ('schema', 'metadata', 'message_definitions'):
        base.execute(f'DROP TABLE {table}')
    base.execute('VACUUM')
    base.close()
    check_whole(path)


def without_metadata(path):
    (path / 'metadata.yaml').unlink()


def edited(old, new):
    def edit(path):
        text = (path / 'metadata.yaml').read_text()
        assert old in text
        (path / 'metadata.yaml').write_text(text.replace(old, new))
    return edit


def renamed(path):
    (path / 'bag.mcap').rename(path / 'other.mcap')


@pytest.mark.parametrize('change, said', [
    (without_metadata, ''),
    (edited('storage_identifier: mcap', "storage_identifier: ''"), ''),
    (edited('offered_qos_profiles: []', 'offered_qos_profiles: [{history: 1, depth: 5}]'), ''),
    (edited('RIHS01_', 'RIHS01_0'), ''),
    (edited('  - bag.mcap\n', '  - bag.mcap\n  - bag/bag.mcap\n'), ''),
    (renamed, 'other.mcap is read in place of bag.mcap, which metadata.yaml lists'),
    (edited('bag.mcap', 'bag.mcap.zstd'),
     'bag.mcap is read in place of bag.mcap.zstd, which metadata.yaml lists'),
    (edited('message_count: 8', 'message_count: 7'),
     "topic '/camera': 8 messages, where metadata.yaml counts 7; "
     "topic '/cmd_vel': 8 messages, where metadata.yaml counts 7"),
    (lambda path: drive(path / 'new').joinpath('new.mcap').rename(path / 'more.mcap'),
     'more.mcap is not listed in metadata.yaml, and not read; move metadata.yaml away to use what '
     'is there')])
def test_metadata_edited_or_left_behind(tmp_path, change, said):
    path = drive(tmp_path / 'bag')
    change(path)
    check_whole(path, said=said)


@pytest.mark.parametrize('offers', [
    '[{history: 1}, {history: 1}]', '"- history: 3\\n  depth: 0\\n- history: 3"'])
def test_publishers_that_metadata_counts_are_said(tmp_path, offers):
    path = drive(tmp_path / 'bag')
    edited('offered_qos_profiles: []', f'offered_qos_profiles: {offers}')(path)
    check_whole(path, said='; '.join(
        f"topic '{topic}' had 2 publishers, by metadata.yaml; check that all of them are meant"
        for topic in ('/camera', '/cmd_vel')))


def test_parts_are_read_in_the_order_of_time(tmp_path):
    (path := tmp_path / 'bag').mkdir()
    messages = streams(60)
    mcap(path / 'bag_9.mcap', messages[:80])
    mcap(path / 'bag_10.mcap', messages[80:])
    check_whole(path, 60)
    mcap(path / 'bag_11.mcap', messages[80:])
    assert fault_of(path) == ("'bag_10.mcap' and 'bag_11.mcap' are of the same time, so not parts "
                              'of one recording; give them one by one')
    assert len(open_recordings([path / 'bag_10.mcap', path / 'bag_9.mcap'], Reading())) == 2


def test_files_of_other_names_are_recordings_of_their_own(tmp_path):
    for name in ('monday', 'tuesday'):
        mcap(tmp_path / f'{name}.mcap', streams())
    drive(tmp_path / 'wednesday')
    assert [each.name for each in open_recordings([tmp_path], Reading())] == [
        'monday', 'tuesday', 'wednesday']


def test_a_file_beside_itself_compressed_is_not_read_twice(tmp_path):
    path = mcap(tmp_path / 'bag.mcap', streams(60))
    (tmp_path / 'bag.mcap.zstd').write_bytes(zstd.compress(path.read_bytes()))
    assert fault_of(tmp_path) == ("'bag.mcap' and 'bag.mcap.zstd' are of the same time, so not "
                                  'parts of one recording; give them one by one')


def test_a_part_that_is_missing(tmp_path):
    path = drive(tmp_path / 'bag')
    edited('  - bag.mcap\n', '  - bag.mcap\n  - bag_1.mcap\n')(path)
    assert fault_of(path) == ('bag_1.mcap, listed in metadata.yaml, is missing; copy it there, or '
                              'move metadata.yaml away to use what is there')
    (path / 'metadata.yaml').rename(path / 'away')
    check_whole(path)


@pytest.mark.parametrize('text, fault', [
    ('a: &b [*b]', 'metadata.yaml:1: anchors and aliases (&b) are not supported; write the value '
     'out'), ('- 1', 'its values are of other kinds'), ('', 'its values are of other kinds'),
    ('rosbag2_bagfile_information: {version: 9}', "it lacks 'relative_file_paths'")])
def test_metadata_that_is_none(tmp_path, text, fault):
    path = drive(tmp_path / 'bag')
    (path / 'metadata.yaml').write_text(text)
    assert fault_of(path) == (f'metadata.yaml is not that of a recording ({fault}); fix it there, '
                              'or move metadata.yaml away to use what is there')


def test_another_compression_is_named(tmp_path):
    path = drive(tmp_path / 'bag', compression='message')
    edited('compression_format: zstd', 'compression_format: lz4')(path)
    assert fault_of(path) == ('metadata.yaml: a message is compressed by lz4, and zstd is what is '
                              'read; decompress the recording, or record it with zstd')


@pytest.mark.parametrize('summary', ['channels', 'none'])
def test_what_is_whole_of_an_unfinished_file_is_read_and_that_is_said(tmp_path, summary):
    path = mcap(tmp_path / 'bag.mcap', streams(), per_chunk=6, summary=summary, finished=False)
    check_whole(path, said='it was not finished by its recorder; what is whole is read')
    path.write_bytes(path.read_bytes()[:-1])
    (recording,) = open_recordings([path], Reading())
    assert len(recording) == len(recording.commands.stamps) == 6
    assert recording.notes[0] == ('it breaks off at byte 4956, 1588 bytes before its end; what is '
                                  'whole is read')
    path.write_bytes(path.read_bytes() + bytes(5000))  # as a file system may leave it
    assert len(open_recordings([path], Reading())[0]) == 6


def test_a_chunk_that_is_damaged_is_left_out_and_that_is_said(tmp_path):
    path = mcap(tmp_path / 'bag.mcap', streams(), per_chunk=4)
    data = bytearray(path.read_bytes())
    place = data.index(b'rgb8', data.index(b'rgb8') + 3000)
    data[place + 100] ^= 1
    path.write_bytes(data)
    (recording,) = open_recordings([path], Reading())
    assert len(recording) == 6
    fault, images, commands = recording.notes
    assert fault.endswith(' is damaged (its checksum differs); what is whole is read')
    assert images == "topic '/camera': 6 of the 8 messages that the file counts"
    assert commands == "topic '/cmd_vel': 6 of the 8 messages that the file counts"


@pytest.mark.parametrize('storage', [MCAP, SQLITE3])
def test_a_truncated_recording_is_refused_and_its_remedies_work(tmp_path, storage):
    path = drive(tmp_path / 'bag', count=60, storage=storage, compression='none')
    if storage is MCAP:
        mcap(path / 'bag.mcap', streams(60))
    (file,) = path.glob('bag.*')
    whole = file.read_bytes()
    file.write_bytes(whole[:len(whole) // 2])
    fault = fault_of(path)
    assert re.match("the file is truncated or damaged: topic '/camera': [1-3]0 of the 60 ", fault)
    assert fault.endswith(' messages that metadata.yaml counts; ' + '; '.join([
        open_recordings([file], Reading())[0].notes[0].removesuffix('; what is whole is read'),
        'copy the recording again with all its files, or move metadata.yaml away to use what is '
        'there']))
    (path / 'metadata.yaml').rename(path / 'away')
    (recording,) = open_recordings([path], Reading())
    assert 0 < len(recording) < 60
    for index, pixels in recording.images():
        np.testing.assert_array_equal(pixels, picture(index))
    assert index == len(recording) - 1
    (path / 'away').rename(path / 'metadata.yaml')
    file.write_bytes(whole)
    check_whole(path, 60)


@pytest.mark.parametrize('suffix', ['.mcap', '.db3'])
def test_a_file_compressed_as_a_whole_that_breaks_off(tmp_path, suffix):
    path = drive(tmp_path / 'bag', count=200, storage=SQLITE3)
    if suffix == '.mcap':
        mcap(path / 'bag.mcap', streams(200))
    packed = tmp_path / f'bag{suffix}.zstd'
    packed.write_bytes(zstd.compress((path / f'bag{suffix}').read_bytes())[:-500])
    (recording,) = open_recordings([packed], Reading())
    assert 0 < len(recording) < 200 and recording.notes[0].startswith('it breaks off ')


@pytest.mark.parametrize('content, fault', [
    (b'', "'bag.mcap' is empty; copy it again, or leave it out"),
    (b'version https://git-lfs.github.com/spec/v1\n',
     "'bag.mcap' is a pointer of Git LFS; run `git lfs pull` there"),
    (b'something else', "'bag.mcap' begins like neither MCAP, nor SQLite, nor zstd; copy it "
     'again, or leave it out'),
    (b'\x89MCAP0\r\n' + record(1, bytes(8)) + b'\6',
     'the file is truncated or damaged: no message is whole; it breaks off at byte 25, 1 bytes '
     'before its end; copy it again, or leave it out')])
def test_what_is_no_storage(tmp_path, content, fault):
    (tmp_path / 'bag.mcap').write_bytes(content)
    assert fault_of(tmp_path / 'bag.mcap') == fault


HUGE = 2**40


@pytest.mark.parametrize('compression', ['', 'zstd', 'lz4'])
def test_a_chunk_that_claims_too_much_is_refused_by_its_claim(tmp_path, compression):
    path = tmp_path / 'bag.mcap'
    path.write_bytes(b'\x89MCAP0\r\n' + record(1, bytes(8)) + chunk(b'0' * 99, compression, HUGE))
    assert fault_of(path) == (
        f'the chunk at byte 25 claims {HUGE} bytes, and up to {2**30} are read; the file is '
        'damaged, or is not a recording: copy it again')


def frame_of(size):
    """Return a frame of zstd that claims a size."""
    return b'\x28\xb5\x2f\xfd\xe0' + struct.pack('<Q', size) + bytes(20)


def test_frames_that_claim_too_much_are_refused_by_their_claim(tmp_path):
    path = mcap(tmp_path / 'bag.mcap', [
        (topic, kind, stamp, frame_of(HUGE)) for topic, kind, stamp, _ in streams()])
    assert fault_of(path) == (
        f'a compressed message claims {HUGE} bytes, and up to {2**30} are read; the file is '
        'damaged, or is not a recording: copy it again')
    path = mcap(tmp_path / 'small.mcap', [
        (topic, kind, stamp, frame_of(100)) for topic, kind, stamp, _ in streams()])
    assert fault_of(path).startswith("topic '/cmd_vel': no message is a ")
    packed = tmp_path / 'bag.db3.zstd'
    (file,) = drive(tmp_path / 'bag', storage=SQLITE3).glob('*.db3')
    data = zstd.compress(file.read_bytes(), options={
        zstd.CompressionParameter.content_size_flag: 0})
    packed.write_bytes(data)
    check_whole(packed)


def test_no_room_for_what_has_to_be_decompressed(tmp_path, monkeypatch):
    path = drive(tmp_path / 'bag', storage=SQLITE3, compression='file')
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage._replace(free=1000))
    assert fault_of(path).endswith(
        'has room for 1000; set TMPDIR to a folder with more room, or decompress it there')


def two_types(path):
    both = [(topic, 'geometry_msgs/msg/Twist', time + 1, bytes(types().serialize_cdr(
        twist(time, -1.0, 0.5), 'geometry_msgs/msg/Twist')))
        for topic, _, time, _ in streams(4) if topic == '/cmd_vel']
    return mcap(path, streams() + both)


def test_two_types_on_one_topic_are_named_and_one_is_asked_for(tmp_path):
    path = two_types(tmp_path / 'bag.mcap')
    question = ("topic '/cmd_vel' has the types geometry_msgs/msg/TwistStamped (8 of 12 "
                'messages), geometry_msgs/msg/Twist (4 of 12 messages); give one of them by '
                '--command-type')
    assert fault_of(path) == fault_of(path, command_type='Joy') == question
    for kind, count, speed in (('Twist', 4, -1.0), ('geometry_msgs/Twist', 4, -1.0),
                               ('geometry_msgs/msg/TwistStamped', 8, 0.5)):
        (recording,) = open_recordings([path], Reading(command_type=kind))
        assert recording.commands.values[:, 0].tolist() == [speed] * count
        (note,) = recording.notes
        assert note.startswith(f"topic '/cmd_vel': {count} of its 12 messages are geometry_msgs/")


def test_a_topic_without_messages_is_no_choice(tmp_path):
    frames = [(time, raw(time, picture(i))) for i, time in enumerate(stamps(8))]
    path = write(tmp_path / 'bag', ('/left', 'sensor_msgs/msg/Image'), ('/right', frames),
                 ('/cmd', [(START, twist(START, 1.0, 0.0))]))
    (recording,) = open_recordings([path], Reading())
    assert (recording.topic, len(recording)) == ('/right', 8)
    assert fault_of(path, image_topic='/left').startswith("topic '/left' has no messages; ")


def test_a_path_with_signs_that_mean_something_in_an_address(tmp_path):
    path = drive(tmp_path / 'bag', storage=SQLITE3).rename(tmp_path / 'a?b#c%20d')
    check_whole(path)
    (path / 'bag.db3').rename(path / 'a?mode=memory.db3')
    check_whole(path / 'a?mode=memory.db3')


def test_a_storage_that_is_not_of_a_recording(tmp_path):
    sqlite3.connect(tmp_path / 'bag.db3').execute('CREATE TABLE topics (id)').connection.close()
    assert fault_of(tmp_path / 'bag.db3') == (
        'the file has no tables of topics and messages, so it is not of a recording; leave it out')
    path = write(tmp_path / 'empty', ('/camera', 'sensor_msgs/msg/Image'), (
        '/cmd', [(START, twist(START, 1.0, 0.0))]), storage=SQLITE3)
    assert fault_of(path).startswith("topic '/camera' has no messages; ")


def test_messages_in_another_form_of_cdr_are_named(tmp_path):
    path = mcap(tmp_path / 'bag.mcap', [
        (topic, kind, stamp, data if 'Image' in kind else b'\0\7' + data[2:])
        for topic, kind, stamp, data in streams()])
    assert fault_of(path).startswith(
        "topic '/cmd_vel': no message is a geometry_msgs/msg/TwistStamped (serialized message "
        'begins with 0007 (XCDR2); only plain CDR (0000 or 0001) is read); record the topic again '
        'through ROS 2')
