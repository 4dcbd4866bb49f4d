"""DonkeyCar tubs: of both versions, with what was deleted, and what is wrong with them."""

from collections import Counter
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from stream_agent.recordings.alignment import Alignment, cut
from stream_agent.recordings.recording import BadRecordingError, Reading
from stream_agent.recordings.sources import open_recordings
from support.recordings_files import jpeg, PERIOD, picture, START, tub


def opened(path, **reading):
    (recording,) = open_recordings([path], Reading(**reading))
    return recording


def told(recording):
    """Return all that is said about a recording."""
    return '; '.join((recording.summary(), *recording.notes))


def fault_of(path):
    with pytest.raises(BadRecordingError) as error:
        opened(path)
    return str(error.value)


def test_a_tub_steers_to_the_left_and_leaves_out_what_was_deleted(tmp_path):
    recording = opened(tub(tmp_path / 'tub', deleted=[3]))
    assert recording.frame_stamps.tolist() == [START + i * PERIOD for i in (0, 1, 2, 4, 5)]
    np.testing.assert_allclose(recording.commands.values[3], (0.4, -0.4))
    images = dict(recording.images())
    np.testing.assert_allclose(images[3].astype(int), picture(4), atol=3)
    assert recording.summary() == (
        'tub: 5 frames at 20.0 Hz (stamps: header), 5 commands (steering; stamps: header); left '
        'out: 1 records that were deleted')
    assert opened(tmp_path / 'tub', steering_sign='left').commands.values[3, 1] == 0.4


def test_frames_that_a_pilot_drove_and_images_that_are_gone_are_counted(tmp_path):
    recording = opened(tub(tmp_path / 'tub', **{'user/mode': 'local'}))
    (tmp_path / 'tub' / 'images' / '4_cam_image_array_.jpg').unlink()
    assert [index for index, _ in recording.images()] == [0, 1, 2, 4]
    assert recording.summary().endswith(
        '; left out: 1 frames that no person drove, 1 frames that cannot be decoded (first: '
        "frame 3: '4_cam_image_array_.jpg': No such file or directory)")


def test_an_image_that_ends_early_is_no_grey_image(tmp_path):
    recording = opened(tub(tmp_path / 'tub'))
    image = tmp_path / 'tub' / 'images' / '1_cam_image_array_.jpg'
    image.write_bytes(image.read_bytes()[:-20])
    assert [index for index, _ in recording.images()] == [0, 2, 3, 4, 5]
    assert recording.first_fault == "frame 1: compressed image of format '.jpg' ends early"


def test_a_record_without_a_value_is_left_out(tmp_path):
    for name, changes in {
            'angle': {'user/angle': None}, 'throttle': {'user/throttle': 'fast'},
            'truth': {'user/throttle': True}, 'text': {'user/angle': '0.2'},
            'image': {'cam/image_array': 5}, 'zero': {'cam/image_array': 'a\0.jpg'},
            'long': {'cam/image_array': 'é' * 200}, 'half': {'cam/image_array': '\ud800.jpg'},
            'time': {'_timestamp_ms': None},
            'future': {'_timestamp_ms': 2**70}, 'past': {'_timestamp_ms': -1},
            'huge': {'user/angle': 10**400}}.items():
        recording = opened(tub(tmp_path / name, **changes))
        assert len(recording) == 5, name
        assert 'left out: 1 records without a usable value; first of the' in told(recording)
        np.testing.assert_allclose(recording.commands.values[:, 1], [0, -.1, -.3, -.4, -.5])
    assert told(recording).endswith(f"record 2 has {'1' + '0' * 196}... for 'user/angle'")


def test_the_steering_of_other_templates(tmp_path):
    path = tub(tmp_path / 'tub', **{'user/angle': None, 'user/steering': 0.2})
    np.testing.assert_allclose(opened(path).commands.values[:, 1], np.arange(6) / -10)


def test_what_a_power_cut_leaves(tmp_path):
    path = tub(tmp_path / 'tub')
    catalog = path / 'catalog_1.catalog'
    whole = catalog.read_text()
    *lines, last = whole.splitlines(keepends=True)
    catalog.write_text(whole[:-30])
    recording = opened(path)
    assert len(recording) == 5
    assert told(recording).endswith(
        'left out: 1 records that are damaged; first of the records that are damaged: '
        'catalog_1.catalog, line 3')
    # The next session begins behind what there is of the last record.
    again = json.loads(last) | {'_timestamp_ms': START // 10**6 + 60_000, 'user/angle': 0.9}
    catalog.write_text(''.join(lines) + last[:-30] + json.dumps(again) + '\n')
    recording = opened(path)
    assert (len(recording), recording.commands.values[-1, 1]) == (6, -0.9)
    # And its index and its image are those of the last: the image is that of the later record.
    catalog.write_text(whole + json.dumps(again) + '\n')
    recording = opened(path)
    assert recording.commands.values[:, 1].tolist() == [0, -.1, -.2, -.3, -.4, -.9]
    assert '1 records whose image or index was written again' in told(recording)
    manifest = path / 'manifest.json'
    manifest.write_text('\n'.join(manifest.read_text().splitlines()[:4]))
    recording = opened(path)
    assert len(recording) == 6
    assert ('manifest.json lacks the list of catalogs, so all are read, and what was deleted is '
            'not known') in told(recording)


def test_sessions_are_apart_whatever_the_clock_says(tmp_path):
    path = tub(tmp_path / 'tub', count=8)
    catalog = path / 'catalog_1.catalog'
    records = [json.loads(line) for line in catalog.read_text().splitlines()]
    for shift, said in ((-5000, 'the clock was set back 1 times'), (0, '20.0 Hz'),
                        (10**8 * 1000, '20.0 Hz')):
        changed = [record | {'_timestamp_ms': record['_timestamp_ms'] + shift,
                             '_session_id': 'b'} for record in records]
        catalog.write_text('\n'.join(map(json.dumps, changed)))
        recording = opened(path)
        assert said in told(recording)
        assert [len(span.frames) for span in spans(recording)] == [4, 4]
        own = recording.recorded_stamps
        assert own[:4].tolist() == [START + i * PERIOD for i in range(4)]
        assert (own[4:] - own[:4]).tolist() == [4 * PERIOD + shift * 10**6] * 4


def spans(recording):
    return cut(recording.frame_stamps, recording.commands, Alignment(), Counter())


def test_times_of_a_conversion_are_not_those_of_the_drive(tmp_path):
    path = tub(tmp_path / 'tub', count=8)
    for number in range(2):
        catalog = path / f'catalog_{number}.catalog'
        records = [json.loads(line) for line in catalog.read_text().splitlines()]
        catalog.write_text('\n'.join(json.dumps(record | {
            '_timestamp_ms': START // 10**6 + 3 * record['_index']}) for record in records))
    said = fault_of(path)
    assert said.startswith(f"'{path}': its times are those of a conversion (333 Hz), not of the "
                           "drive, as donkeycar's convert_to_tub_v2.py leaves them; give the tub")
    assert '--tub-rate HZ' in said
    recording = opened(path, tub_rate=20.0)
    assert recording.frame_stamps.tolist() == [START + i * PERIOD for i in range(8)]
    assert told(recording).startswith('tub: 8 frames at 20.0 Hz (stamps: rate)')


def test_records_that_were_written_in_bursts_keep_their_times(tmp_path):
    path = tub(tmp_path / 'tub', count=8)
    times = [START // 10**6 + 150 * (i // 3) + 3 * (i % 3) for i in range(8)]
    for number in range(2):
        catalog = path / f'catalog_{number}.catalog'
        records = [json.loads(line) for line in catalog.read_text().splitlines()]
        catalog.write_text('\n'.join(json.dumps(record | {
            '_timestamp_ms': times[record['_index']]}) for record in records))
    assert (opened(path).frame_stamps // 10**6).tolist() == times


def test_without_any_time_the_rate_is_asked_for(tmp_path):
    path = version_1(tmp_path, milliseconds=None)
    assert 'leave the tub out, or give the rate of the drive by --tub-rate HZ' in fault_of(path)
    recording = opened(path, tub_rate=10.0)
    assert recording.frame_stamps.tolist() == [0, 2 * 10**8, 10**9]
    # Before it had milliseconds, donkeycar wrote a text.
    path = version_1(tmp_path, milliseconds=None, timestamp='2018-02-03 04:05:06.250000')
    assert opened(path).frame_stamps.tolist() == [1_517_630_706_250_000_000]


def version_1(folder, **changes):
    for i in (0, 2, 10):
        (folder / f'{i}_image.jpg').write_bytes(jpeg(picture(i), '.jpg').tobytes())
        (folder / f'record_{i}.json').write_text(json.dumps({
            'cam/image_array': f'{i}_image.jpg', 'user/angle': 0.1, 'user/throttle': 0.2,
            'user/mode': 'user', 'milliseconds': 50 * i} | changes))
    return folder


def test_a_tub_of_version_1(tmp_path):
    recording = opened(version_1(tmp_path))
    assert recording.frame_stamps.tolist() == [0, 100_000_000, 500_000_000]
    assert len(list(recording.images())) == 3
    # What the web page left out, and when the drive was.
    (tmp_path / 'exclude.json').write_text('[2]')
    (tmp_path / 'meta.json').write_text('{"start": 1500000000.5}')
    assert opened(tmp_path).frame_stamps.tolist() == [
        1_500_000_000_500_000_000, 1_500_000_001_000_000_000]
    (tmp_path / 'record_10.json').write_text('{"cam/image_array"')
    assert told(opened(tmp_path)).endswith(
        'left out: 1 records that are damaged, 1 records that were deleted; first of the records '
        'that are damaged: record_10.json')


def test_what_is_missing_is_counted(tmp_path):
    path = tub(tmp_path / 'tub')
    (path / 'catalog_1.catalog').unlink()
    recording = opened(path)
    assert told(recording) == (
        'tub: 3 frames at 20.0 Hz (stamps: header), 3 commands (steering; stamps: header); left '
        'out: 3 records that the catalogs lack; catalog catalog_1.catalog is missing')
    (path / 'catalog_7.catalog').touch()
    assert told(opened(path)).endswith('not in manifest.json, so not read: catalog_7.catalog')


@pytest.mark.parametrize('deleted, left', [
    (3, 5), ([3, 4.0, 99], 4), ([3, 'x', None], 5), (None, 6), ([], 6), ({'a': 1}, 6)])
def test_deleted_indexes_of_any_kind(tmp_path, deleted, left):
    path = tub(tmp_path / 'tub', _index=2.0)
    manifest = path / 'manifest.json'
    manifest.write_text(manifest.read_text().replace('"deleted_indexes": []',
                                                     f'"deleted_indexes": {json.dumps(deleted)}'))
    recording = opened(path)
    assert len(recording) == left
    assert ('1 deletions cannot be read, such as' in told(recording)) == (
        isinstance(deleted, dict) or 'x' in (deleted or ()) if deleted != 3 else False)


def test_without_indexes_deleted_records_are_counted_from_the_first(tmp_path):
    path = tub(tmp_path / 'tub', deleted=[1, 4])
    for catalog in path.glob('*.catalog'):
        catalog.write_text(catalog.read_text().replace('"_index"', '"index"'))
        # What a catalog's own manifest says of its lines does not matter, as nobody needs it.
        catalog.with_suffix('.catalog_manifest').write_text('{"line_lengths": [1, 2]}\n')
    assert opened(path).frame_stamps.tolist() == [START + i * PERIOD for i in (0, 2, 3, 5)]


NAMES = ('cam/image_array', 'user/angle', 'user/throttle', '_timestamp_ms')


@settings(max_examples=60, deadline=None)
@given(end=st.sampled_from(['\n', '\r\n', '\r\r\n', '\r', '\n\n', '\n \r\n']),
       order=st.permutations(range(6)), catalogs=st.permutations(range(2)),
       lacking=st.dictionaries(st.integers(0, 5), st.sampled_from(NAMES), max_size=4),
       tail=st.sampled_from(['', '\0\0\0', '{"_index"']),
       manifest_lines=st.sampled_from([slice(0, 5), slice(2, 5), slice(4, 5)]),
       encoding=st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16']))
def test_no_line_end_order_or_lack_of_a_value_changes_the_rest(
        end, order, catalogs, lacking, tail, manifest_lines, encoding):
    with TemporaryDirectory() as folder:
        path = tub(Path(folder) / 'tub')
        records = [json.loads(line) for number in range(2) for line in
                   (path / f'catalog_{number}.catalog').read_text().splitlines()]
        for index, name in lacking.items():
            del records[index][name]
        for number in range(2):
            lines = [json.dumps(records[i]) for i in order[3 * number:3 * number + 3]]
            (path / f'catalog_{number}.catalog').write_bytes(
                end.join([*lines, tail]).encode(encoding))
        lines = (path / 'manifest.json').read_text().splitlines()[manifest_lines]
        about = json.loads(lines[-1]) | {'paths': [f'catalog_{i}.catalog' for i in catalogs]}
        (path / 'manifest.json').write_bytes(
            end.join([*lines[:-1], json.dumps(about)]).encode(encoding))
        kept = [i for i in range(6) if i not in lacking]
        recording = opened(path)
        assert recording.frame_stamps.tolist() == [START + i * PERIOD for i in kept]
        np.testing.assert_allclose(recording.commands.values[:, 1], np.array(kept) / -10)
        for (_, pixels), i in zip(recording.images(), kept):
            np.testing.assert_allclose(pixels.astype(int), picture(i), atol=3)
        assert recording.skipped['records without a usable value'] == len(lacking)
        assert recording.skipped['records that are damaged'] == 2 * tail.startswith('{')


def test_only_what_makes_all_of_it_unusable_is_refused(tmp_path):
    assert fault_of(tub(tmp_path / 'a', deleted=range(6))) == (
        f"'{tmp_path / 'a'}': none of its records can be used (6 records that were deleted); "
        'leave the tub out')
    path = tub(tmp_path / 'b', count=4)
    for catalog in path.glob('*.catalog'):
        catalog.write_text(catalog.read_text().replace('user/throttle', 'speed'))
    assert fault_of(path) == (
        f"'{path}': none of its records can be used (4 records without a usable value; first of "
        "the records without a usable value: record 0 has None for 'user/throttle'); leave the "
        'tub out')
    (path / 'manifest.json').write_bytes(bytes(100) + b'[' * 10**5 + b'\xff\xfe\n{}')
    assert 'manifest.json lacks the list of catalogs' in fault_of(path)
    for catalog in path.glob('*.catalog'):
        catalog.write_text('{"a":' * 10**5)
    assert '2 records that are damaged; manifest.json lacks' in fault_of(path)


def test_a_tub_is_read_anew_where_an_image_was_replaced(tmp_path):
    path = tub(tmp_path / 'tub')
    assert {file.name for file in opened(path).files()} == {
        'manifest.json', 'catalog_0.catalog', 'catalog_1.catalog',
        *(f'{i}_cam_image_array_.jpg' for i in range(6))}


def test_what_is_no_file_is_not_waited_for(tmp_path):
    path = tub(tmp_path / 'tub')
    name = path / 'images' / '1_cam_image_array_.jpg'
    name.unlink()
    os.mkfifo(name)
    recording = opened(path)
    assert len(list(recording.images())) == 5
    assert recording.first_fault == "frame 1: '1_cam_image_array_.jpg': not a file"
    (path / 'catalog_1.catalog').unlink()
    os.mkfifo(path / 'catalog_1.catalog')
    assert '3 records that the catalogs lack' in told(opened(path))


def test_a_tub_whose_images_were_left_behind(tmp_path):
    folder = tub(tmp_path / 'tub')
    for image in (folder / 'images').iterdir():
        image.unlink()
    with pytest.raises(BadRecordingError) as error:
        list(opened(folder).images())
    assert str(error.value) == (
        f"'{folder}': no frame can be decoded (frame 0: '0_cam_image_array_.jpg': No such file or "
        'directory); copy the tub again with its images, or leave it out')
