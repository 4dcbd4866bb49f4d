"""Tubs and archives as bags: pictures as they are, true stamps, one bag a sequence."""

from contextlib import contextmanager
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from stream_agent.cli.convert import main
from stream_agent.recordings.recording import Reading
from stream_agent.recordings.sources import open_recordings
from stream_agent.recordings.writing import serialized_image
from support.recordings_files import jpeg, picture, tub

TIMES = np.array([0, 50, 101, 149, 900, 950, 2000, 2050]) + 1_700_000_000_000


def archive(path, **changes):
    files = [jpeg(picture(i), '.jpg').tobytes() for i in range(8)]
    arrays = {'jpeg': np.frombuffer(b''.join(files), np.uint8),
              'offsets': np.cumsum([0, *map(len, files)]),
              'steering': np.linspace(-1, 1, 8, dtype=np.float32),
              'throttle': np.full(8, 0.5, np.float32), 'timestamp_ms': TIMES,
              'seq_id': np.array([0, 0, 0, 0, 3, 3, 7, 7]),
              'run_id': np.array([0, 0, 0, 0, 0, 0, 1, 1], np.uint8),
              'run_names': np.array(['morning', 'evening'])} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_an_archive_becomes_a_bag_a_sequence(tmp_path, capsys):
    assert main([str(archive(tmp_path / 'a.npz')), '--run', 'morning', '--output',
                 str(tmp_path / 'bags'), '--max-yaw-rate', '2']) == 0
    assert capsys.readouterr().out == (
        f'wrote 2 recordings with 6 frames to {tmp_path / "bags"}: /camera/image_raw/compressed '
        '(sensor_msgs/msg/CompressedImage), /cmd_vel (geometry_msgs/msg/TwistStamped)\n')
    first, second = open_recordings([tmp_path / 'bags'], Reading())
    assert (first.name, second.name) == ('morning_000', 'morning_003')
    assert (first.frame_stamps // 10**6).tolist() == TIMES[:4].tolist()
    assert first.stamps_from == first.commands.stamps_from == 'header'
    np.testing.assert_allclose(first.commands.values,
                               [(0.5, -2 * (2 * i / 7 - 1)) for i in range(4)], atol=1e-6)
    for index, pixels in second.images():
        np.testing.assert_allclose(pixels.astype(int), picture(4 + index), atol=3)
    metadata = (tmp_path / 'bags' / 'morning_000' / 'metadata.yaml').read_text()
    assert 'morning_000.mcap' in metadata and '.part' not in metadata
    assert {path.name for path in (tmp_path / 'bags').iterdir()} == {'morning_000', 'morning_003'}


def test_pictures_are_copied_bit_by_bit(tmp_path):
    assert main([str(archive(tmp_path / 'a.npz')), '--output', str(tmp_path / 'bags')]) == 0
    (recording,) = open_recordings([tmp_path / 'bags' / 'morning_000'], Reading())
    frames = [decode.func.__self__.data for decode in recording.recorded_frames()]
    assert len(frames) == 4
    assert all(jpeg(picture(i), '.jpg').tobytes() in data for i, data in enumerate(frames))


@pytest.mark.parametrize('kind', ['i1', 'u8', '>i8', 'f2', '>f4'])
def test_numbers_of_any_kind_keep_their_value(tmp_path, kind):
    path = archive(tmp_path / 'a.npz', steering=np.full(8, 1, kind), seq_id=np.zeros(8, '>u2'),
                   timestamp_ms=(TIMES - TIMES[0]).astype('f8' if kind == 'i1' else kind))
    assert main([str(path), '--output', str(tmp_path / 'bags')]) == 0
    (recording,) = open_recordings([tmp_path / 'bags'], Reading())
    np.testing.assert_array_equal(recording.commands.values, [(0.5, -1.0)] * 8)
    times = TIMES - TIMES[0]
    # A half has 11 bits.
    assert recording.frame_stamps.tolist() == (
        (times.astype('f2').astype(int) if kind == 'f2' else times) * 10**6).tolist()


def test_a_tub_becomes_a_bag_wherever_it_was_not_interrupted(tmp_path):
    path = tub(tmp_path / 'tub', count=8)
    catalog = path / 'catalog_1.catalog'
    records = [json.loads(line) for line in catalog.read_text().splitlines()]
    for record in records:
        record['_timestamp_ms'] += 1000
    catalog.write_text('\n'.join(map(json.dumps, records)))
    assert main([str(path), '--output', str(tmp_path / 'bags')]) == 0
    first, second = open_recordings([tmp_path / 'bags'], Reading())
    assert (first.name, len(first), len(second)) == ('tub_000', 4, 4)
    np.testing.assert_allclose(second.commands.values[:, 1], [-0.4, -0.5, -0.6, -0.7])


def fault(capsys, *arguments):
    assert main(list(map(str, arguments))) == 1
    return capsys.readouterr().err


def test_faults(tmp_path, capsys):
    output = ('--output', tmp_path / 'bags')
    path = archive(tmp_path / 'a.npz')
    assert fault(capsys, path, '--run', 'noon', *output) == (
        f"convert: '{path}': no run 'noon'; runs are morning, evening\n")
    assert fault(capsys, archive(path, offsets=None, steering=None), *output) == (
        f"convert: '{path}': lacks offsets, steering; write it as docs/recordings.md "
        'describes archives\n')
    assert fault(capsys, archive(path, throttle=np.zeros(3)), *output) == (
        f"convert: '{path}': throttle does not have the length that 8 frames need, by offsets; "
        'write the archive again\n')
    assert fault(capsys, tmp_path, *output) == (
        f"convert: '{tmp_path}': neither a tub (a folder with manifest.json or record_*.json) nor "
        'an .npz archive; give one of these\n')
    archive(path)
    assert main([str(path), *map(str, output)]) == 0
    capsys.readouterr()
    assert fault(capsys, path, *output) == (
        f"convert: '{tmp_path / 'bags' / 'morning_000'}' already exists; remove it, or give "
        'another folder\n')


def entry(descr="'<i8'", shape='(9,)', content=bytes(72)):
    """Write an .npy file, whatever its header says."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b'\x93NUMPY\1\0' + len(header).to_bytes(2, 'little') + header + content


def with_entry(path, name, content, **options):
    """Replace a member of an archive."""
    with ZipFile(archive(path)) as file:
        members = {one: file.read(one) for one in file.namelist()} | {name: content}
    with ZipFile(path, 'w', **options) as file:
        for one, data in members.items():
            if data is not None:
                file.writestr(one, data)
    return path


WRONG = {
    'objects': ({'steering': np.array([None] * 8)}, 'steering is object of the shape (8,); '),
    'texts for numbers': ({'throttle': np.array(['0.5'] * 8)}, 'throttle is <U3 of the shape'),
    'complex': ({'throttle': np.zeros(8, complex)}, 'throttle is complex128'),
    'truth': ({'seq_id': np.zeros(8, bool)}, 'seq_id is bool'),
    'no number of a sequence': ({'seq_id': np.linspace(0, 1, 8)}, 'seq_id is float64'),
    'jpeg of another type': ({'jpeg': np.zeros(9, np.int64)}, 'jpeg is int64 of the shape (9,)'),
    'jpeg of wide numbers': ({'jpeg': np.zeros(9, np.uint16)}, 'jpeg is uint16'),
    'no dimension': ({'offsets': np.int64(3)}, 'offsets is int64 of the shape ()'),
    'two dimensions': ({'steering': np.zeros((8, 1))}, 'steering is float64 of the shape (8, 1)'),
    'records': ({'steering': np.zeros(8, [('a', 'f4')])}, "steering is [('a', '<f4')]"),
    'nothing': ({'offsets': np.zeros(0, int)}, 'there are no frames; write the archive again'),
    'no frames': ({'offsets': np.zeros(1, int)}, 'there are no frames'),
    'negative': ({'offsets': np.arange(-1, 8)}, 'offsets do not ascend from 0 to '),
    'decreasing': ({'offsets': np.arange(8, -1, -1)}, 'offsets do not ascend from 0 to '),
    'too far': ({'offsets': np.full(9, 2**63, np.uint64)}, 'offsets do not ascend from 0 to '),
    'short': ({'timestamp_ms': TIMES[:3]}, 'timestamp_ms does not have the length'),
    'NaN': ({'timestamp_ms': np.full(8, np.nan)}, 'timestamp_ms has 8 values that are no time'),
    'before 1970': ({'timestamp_ms': TIMES - 2 * 10**12}, 'timestamp_ms has 8 values that are no'),
    'nanoseconds': ({'timestamp_ms': TIMES * 10**6}, 'timestamp_ms has 8 values that are no time'),
    'set back': ({'timestamp_ms': TIMES[::-1]}, 'sequence 0: the times fall back by'),
    'other run': ({'run_id': np.full(8, 2)}, 'run_id is not of the 2 run_names; write'),
    'run before': ({'run_id': np.full(8, -1)}, 'run_id is not of the 2 run_names; write'),
    'runs unnamed': ({'run_names': None}, 'of run_id and run_names, one is missing'),
    'runs without numbers': ({'run_id': None}, 'of run_id and run_names, one is missing'),
    'names that are numbers': ({'run_names': np.arange(2)}, 'run_names is int64'),
    'no images': ({'jpeg': np.zeros(10**5, np.uint8)}, 'nothing can be written (8 frames that '
                  'cannot be decoded; first of the frames that cannot be decoded: compressed')}


@pytest.mark.parametrize('kind', WRONG)
def test_what_is_wrong_with_an_archive_is_a_sentence(tmp_path, capsys, kind):
    changes, said = WRONG[kind]
    path = archive(tmp_path / 'a.npz', **changes)
    line = fault(capsys, path, '--output', tmp_path / 'bags')
    assert line.startswith(f"convert: '{path}': {said}"), line
    assert line.count('\n') == 1 and not list((tmp_path / 'bags').iterdir())


def test_files_that_are_no_archives(tmp_path, capsys):
    path, output = tmp_path / 'a.npz', ('--output', tmp_path / 'bags')
    sound = archive(path).read_bytes()
    broken = bytearray(sound)
    broken[sound.index(b'\xff\xd8') + 300] ^= 1
    for content in (b'', sound[:200], sound[:-100], b'PK\3\4' + bytes(100), entry(), broken):
        path.write_bytes(content)
        assert fault(capsys, path, *output).startswith(
            f"convert: '{path}': not a NumPy archive, or truncated (")
    path.write_bytes(b'version https://git-lfs.github.com/spec/v1\n')
    assert fault(capsys, path, *output) == (
        f"convert: '{path}' is a pointer of Git LFS; run `git lfs pull` there\n")
    for content in (b'', b'garbage', entry("'nonsense'"), entry("'<i8'", '(9'),
                    entry("'<i8'", "'9'"), entry('[' * 3000)):
        said = fault(capsys, with_entry(path, 'offsets.npy', content), *output)
        assert said.startswith(f"convert: '{path}': not a NumPy archive, or truncated ("), said
    assert 'lacks offsets' in fault(capsys, with_entry(path, 'offsets.npy', None), *output)
    with pytest.warns(UserWarning), ZipFile(archive(path), 'a') as file:
        file.writestr('offsets.npy', entry())
    assert 'has an array twice; write the archive again' in fault(capsys, path, *output)
    assert fault(capsys, tmp_path / 'none.npz', *output).startswith(
        f"convert: '{tmp_path / 'none.npz'}': neither a tub")


@pytest.mark.parametrize('shape', ['(10**12,)', '(1000000000000,)', '(-1,)', '(True,)'])
def test_a_header_that_claims_more_than_there_is_takes_no_memory(tmp_path, capsys, shape):
    path = with_entry(tmp_path / 'a.npz', 'offsets.npy', entry(shape=shape))
    with memory_of(2**20 * 32):
        said = fault(capsys, path, '--output', tmp_path / 'bags')
    assert 'offsets has 72 bytes, where its header says' in said or 'shape is not valid' in said \
        or 'not a NumPy archive' in said


def test_a_member_that_unfolds_to_much_more_is_refused_before(tmp_path, capsys):
    path = with_entry(tmp_path / 'a.npz', 'steering.npy', entry("'<f8'", f'({2**24},)',
                                                                bytes(2**27)),
                      compression=ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    with memory_of(2**20 * 32):
        said = fault(capsys, path, '--output', tmp_path / 'bags')
    assert 'claims to hold 128 MiB in a file of 0.1 MiB, which JPEGs never do; write it' in said


def test_a_member_that_unfolds_to_more_than_it_claims_takes_no_memory(tmp_path, capsys):
    claimed = len(entry())
    path = with_entry(tmp_path / 'a.npz', 'offsets.npy', entry(content=bytes(2**27)),
                      compression=ZIP_DEFLATED)
    true_size = (claimed - 72 + 2**27).to_bytes(4, 'little')
    data = path.read_bytes()
    assert data.count(true_size) == 2
    path.write_bytes(data.replace(true_size, claimed.to_bytes(4, 'little')))
    with memory_of(2**20 * 32):
        said = fault(capsys, path, '--output', tmp_path / 'bags')
    assert 'not a NumPy archive, or truncated (Bad CRC-32' in said
    with_entry(path, 'offsets.npy', entry(), compression=ZIP_BZIP2)
    assert 'compressed by a method that NumPy does not use' in fault(
        capsys, path, '--output', tmp_path / 'bags')
    with_entry(path, 'offsets.npy', b'\x93NUMPY\2\0' + b'\xff' * 4 + entry())
    assert 'offsets is of the .npy version (2, 0); write' in fault(
        capsys, path, '--output', tmp_path / 'bags')


@contextmanager
def memory_of(most):
    """Fail if more memory is taken than this."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def test_frames_that_cannot_be_used_are_left_out_and_counted(tmp_path, capsys):
    path = archive(tmp_path / 'a.npz')
    with np.load(path) as file:
        jpegs, offsets = file['jpeg'].copy(), file['offsets']
    jpegs[offsets[1]:offsets[1] + 2] = 0
    times = TIMES.copy()
    times[3] = times[2]
    archive(path, jpeg=jpegs, timestamp_ms=times)
    assert main([str(path), '--output', str(tmp_path / 'bags')]) == 0
    assert capsys.readouterr().out.endswith(
        'left out: 1 frames that came twice, 1 frames that cannot be decoded; first of the frames '
        "that cannot be decoded: compressed image of format 'jpeg' is neither JPEG nor PNG\n")
    recordings = open_recordings([tmp_path / 'bags'], Reading())
    first = {each.name: each for each in recordings}['morning_000']
    assert (first.frame_stamps // 10**6).tolist() == TIMES[[0, 2]].tolist()


def test_a_sequence_whose_clock_was_set_back_is_cut_by_its_numbers(tmp_path, capsys):
    times = np.concatenate([TIMES[:4] + 10**6, TIMES[:4]])
    path = archive(tmp_path / 'a.npz', timestamp_ms=times, seq_id=np.zeros(8, int))
    said = fault(capsys, path, '--output', tmp_path / 'bags')
    assert 'sequence 0: the times fall back by 1000.1 s at frame 4; give what follows a' in said
    archive(path, timestamp_ms=times, seq_id=np.arange(8) // 4)
    assert main([str(path), '--output', str(tmp_path / 'bags')]) == 0
    assert [len(each) for each in open_recordings([tmp_path / 'bags'], Reading())] == [4, 4]


def test_a_tub_whose_times_are_of_a_conversion_gets_a_rate(tmp_path, capsys):
    path = tub(tmp_path / 'tub', count=8)
    for catalog in path.glob('*.catalog'):
        records = [json.loads(line) for line in catalog.read_text().splitlines()]
        catalog.write_text('\n'.join(json.dumps(
            record | {'_timestamp_ms': 3 * record['_index']}) for record in records))
    assert '(333 Hz), not of the drive' in fault(capsys, path, '--output', tmp_path / 'bags')
    assert main([str(path), '--tub-rate', '20', '--output', str(tmp_path / 'bags')]) == 0
    (recording,) = open_recordings([tmp_path / 'bags'], Reading())
    assert np.diff(recording.frame_stamps).tolist() == [50_000_000] * 7


PROGRAM = """
import resource, sys
from stream_agent.cli.convert import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.child_process
def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    # The first sequence fits, the second does not.
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    files = [jpeg(picture(0), '.jpg').tobytes()] * 4 + [jpeg(noise, '.jpg').tobytes()] * 4
    path = archive(tmp_path / 'a.npz', jpeg=np.frombuffer(b''.join(files), np.uint8),
                   offsets=np.cumsum([0, *map(len, files)]))
    output = tmp_path / 'bags'
    ended = subprocess.run([sys.executable, '-c', PROGRAM, '20000', path, '--output', output],
                           capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (1, '')
    assert ended.stderr == (
        f'convert: complete are morning_000, in {output}; the others were not written\n'
        f"convert: '{output / 'morning_003'}': File too large; make room, or give another path\n")
    assert [each.name for each in output.iterdir()] == ['morning_000']
    assert len(open_recordings([output], Reading())[0]) == 4


def test_ctrl_c_leaves_nothing_half_written(tmp_path, monkeypatch, capsys):
    written = []

    def stop_at_the_sixth(image, stamp):
        written.append(stamp)
        if len(written) == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return serialized_image(image, stamp)

    monkeypatch.setattr('stream_agent.recordings.writing.serialized_image', stop_at_the_sixth)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        code = main([str(archive(tmp_path / 'a.npz')), '--output', str(tmp_path / 'bags')])
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers):
            signal.signal(number, handler)
    assert code == 130
    assert capsys.readouterr().err == (
        f'convert: complete are morning_000, in {tmp_path / "bags"}; the others were not written\n'
        '\nconvert: stopped; nothing is half written\n')
    assert [each.name for each in (tmp_path / 'bags').iterdir()] == ['morning_000']


def test_nothing_is_written_where_one_of_several_is_there_already(tmp_path, capsys):
    output = tmp_path / 'bags'
    (output / 'evening_007').mkdir(parents=True)
    assert "evening_007' already exists; remove it" in fault(
        capsys, archive(tmp_path / 'a.npz'), '--output', output)
    assert [each.name for each in output.iterdir()] == ['evening_007']
    (tmp_path / 'file').touch()
    assert fault(capsys, tmp_path / 'a.npz', '--output', tmp_path / 'file') == (
        f"convert: '{tmp_path / 'file'}': File exists; a file is there already; give a folder, or "
        'another path\n')
