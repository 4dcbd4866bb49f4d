"""DonkeyCar tubs: of both versions, with what was deleted, and what is wrong with them."""

import json

import numpy as np
import pytest
from stream_agent.recordings.recording import BadRecordingError, Reading
from stream_agent.recordings.sources import open_recordings
from support.recordings_files import jpeg, PERIOD, picture, START, tub


def opened(path, **reading):
    (recording,) = open_recordings([path], Reading(**reading))
    return recording


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
    assert recording.summary() == ('tub: 5 frames at 20.0 Hz (stamps: header), 5 commands '
                                   '(steering; stamps: header)')
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


def test_a_tub_of_version_1(tmp_path):
    for i in (0, 2, 10):
        (tmp_path / f'{i}_image.jpg').write_bytes(jpeg(picture(i), '.jpg').tobytes())
        (tmp_path / f'record_{i}.json').write_text(json.dumps({
            'cam/image_array': f'{i}_image.jpg', 'user/angle': 0.1, 'user/throttle': 0.2,
            'user/mode': 'user', 'milliseconds': 50 * i}))
    recording = opened(tmp_path)
    assert recording.frame_stamps.tolist() == [0, 100_000_000, 500_000_000]
    assert len(list(recording.images())) == 3


def test_faults_of_tubs(tmp_path):
    path = tub(tmp_path / 'a', **{'user/angle': None})
    assert fault_of(path) == (
        f"'{path}': the record 2 has None for 'user/angle'; delete it by `donkey tubclean`, or "
        'leave the tub out')
    catalog = tub(tmp_path / 'b') / 'catalog_1.catalog'
    catalog.write_text(catalog.read_text()[:-30])
    assert fault_of(tmp_path / 'b') == (
        f"'{catalog}', line 3: truncated or damaged; delete the line, or leave the tub out")
    catalog.unlink()
    manifest = tmp_path / 'b' / 'manifest.json'
    assert fault_of(tmp_path / 'b') == (
        f"'{manifest}': its catalog catalog_1.catalog is missing; copy the whole tub, or leave "
        'it out')
    manifest.write_text('[]\n')
    assert fault_of(tmp_path / 'b') == (
        f"'{manifest}': the list of catalogs is missing, so the file is truncated or of another "
        'version; leave the tub out')
    assert fault_of(tub(tmp_path / 'c', deleted=range(6))) == (
        f"'{tmp_path / 'c'}': none of the 0 records was driven by a person; leave the tub out")
