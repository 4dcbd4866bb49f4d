"""Tubs and archives as bags: pictures as they are, true stamps, one bag a sequence."""

import json

import numpy as np
from stream_agent.cli.convert import main
from stream_agent.recordings.recording import Reading
from stream_agent.recordings.sources import open_recordings
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
    frames = [decode.args[0] for decode in recording.recorded_frames()]
    assert len(frames) == 4
    assert all(jpeg(picture(i), '.jpg').tobytes() in data for i, data in enumerate(frames))


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
        f"convert: '{path}': lacks offsets, steering; docs/recordings.md says what an archive "
        'has\n')
    assert fault(capsys, archive(path, throttle=np.zeros(3)), *output) == (
        f"convert: '{path}': throttle does not have the length that 8 frames need, by offsets; "
        'write the archive again\n')
    path.write_bytes(path.read_bytes()[:200])
    assert fault(capsys, path, *output).startswith(
        f"convert: '{path}': not a NumPy archive, or truncated (")
    assert fault(capsys, tmp_path, *output) == (
        f"convert: '{tmp_path}': neither a tub (a folder with manifest.json or record_*.json) nor "
        'an .npz archive\n')
    archive(path)
    assert main([str(path), *map(str, output)]) == 0
    capsys.readouterr()
    assert fault(capsys, path, *output) == (
        f"convert: '{tmp_path / 'bags' / 'morning_000'}' already exists; remove it, or give "
        'another folder\n')
