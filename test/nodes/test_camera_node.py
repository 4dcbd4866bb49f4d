"""The camera node as a real process, on a video; no test machine has a camera."""

from itertools import pairwise
from pathlib import Path
import signal

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import Image
from stream_agent.nodes import camera_node
from stream_agent.nodes.camera_node import CameraNode, ImageFolder, number_of, open_camera
from stream_agent.nodes.messages import image_to_array, stamp_to_ns, WATCH_FRAME_QOS
from support.videos import RATE, write_video

pytestmark = pytest.mark.real_time

COUNT = 30


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """Write a small video."""
    return write_video(tmp_path_factory.mktemp('video') / 'drive.avi', 64, 48, COUNT)


def test_a_video_is_played_at_its_pace_and_then_over(start_node, peer, video):
    images = peer.hear(Image, 'image', WATCH_FRAME_QOS)
    camera = start_node('camera', source=video, frame_id='front')
    peer.spin_until(lambda: camera.popen.poll() is not None, 20.0)
    assert camera.wait() == 0
    assert f'{COUNT} images published' in camera.output
    # The first ones are gone before we have met.
    # The first ones may be over before the two have met.
    assert len(images) > 0.8 * COUNT
    stamps = [stamp_to_ns(one.message.header.stamp) for one in images]
    assert all(before < after for before, after in pairwise(stamps))
    assert np.median(np.diff(stamps)) == pytest.approx(1e9 / RATE, rel=0.1)
    assert all(0 <= one.ros_ns - stamp < 200_000_000 for one, stamp in zip(images, stamps))
    last = images[-1].message
    assert (last.encoding, last.header.frame_id) == ('rgb8', 'front')
    pixels = image_to_array(last).astype(int)
    assert pixels.shape == (48, 64, 3)
    # Red on the left, grey on the right, and brightest at the end.
    assert pixels[:, :28, 0].mean() > pixels[:, :28, 2].mean() + 100
    assert pixels[:, 36:].mean() == pytest.approx(4 * (COUNT - 1) + 60, abs=6)


def test_a_video_is_repeated_faster_until_it_is_stopped(start_node, peer, video):
    images = peer.hear(Image, 'image', WATCH_FRAME_QOS)
    camera = start_node('camera', source=video, repeat=True, rate=100.0)
    peer.spin_until(lambda: len(images) > 2 * COUNT, 20.0)
    stamps = [stamp_to_ns(one.message.header.stamp) for one in images]
    assert all(before < after for before, after in pairwise(stamps))
    assert np.median(np.diff(stamps)) == pytest.approx(1e7, rel=0.3)
    camera.signal(signal.SIGINT)
    assert camera.wait() == 0


def test_large_images_come_through(start_node, peer, tmp_path):
    """With Fast DDS as it is, without our profile, two in a hundred do."""
    images = peer.hear(Image, 'image', WATCH_FRAME_QOS)
    camera = start_node('camera', source=write_video(tmp_path / 'large.avi', 1280, 720, COUNT))
    peer.spin_until(lambda: camera.popen.poll() is not None, 20.0)
    # The first ones may be over before the two have met.
    assert len(images) > 0.8 * COUNT
    assert images[-1].message.width == 1280


@pytest.mark.parametrize('options, said', [
    ({'source': '/nowhere.avi'}, "source: there is no video '/nowhere.avi'; give its path, or"),
    ({'source': __file__}, 'is not a video that OpenCV can read'),
    ({'source': '99'}, "source: camera 99 cannot be opened: there is no '/dev/video99'; "),
    ({'source': '/dev/video99'}, "source: camera 99 cannot be opened: there is no '/dev/video99'"),
    ({'source': str(Path(__file__).parent)}, "test/nodes' has no images (.jpg, .jpeg, .png, "
     '.bmp); give one that has'),
    ({'source': 'rtsp://127.0.0.1:1/a'}, "source: the stream 'rtsp://127.0.0.1:1/a' cannot be "
     'opened; try the address by `ffplay rtsp://127.0.0.1:1/a`'),
    ({'sauce': '1'}, "there is no parameter 'sauce'; the nearest is 'source'")])
@pytest.mark.any_time
def test_a_source_that_gives_nothing_is_a_sentence(refusal, options, said):
    assert said in refusal(CameraNode, **options)


@pytest.fixture
def devices(tmp_path, monkeypatch):
    """Let the node find its cameras in a folder."""
    monkeypatch.setattr(camera_node, 'DEVICES', tmp_path)
    (tmp_path / 'video1').touch()
    (tmp_path / 'video2').touch()
    return tmp_path


@pytest.mark.any_time
def test_a_camera_that_cannot_be_opened_is_told_from_others(devices, monkeypatch):
    said = {}
    for number in '12':
        monkeypatch.setattr('os.access', lambda path, mode: number == '1')
        with pytest.raises(ValueError) as error:
            open_camera(number)
        said[number] = str(error.value)
    with pytest.raises(ValueError) as error:
        open_camera('0')
    assert str(error.value) == ('source: camera 0 cannot be opened: there is no '
                                f"'{devices}/video0'; give one of {devices}/video1, "
                                f'{devices}/video2')
    assert f'end what uses it (`fuser {devices}/video1` names it)' in said['1']
    assert 'sudo usermod -aG video $USER' in said['2']


@pytest.mark.any_time
def test_a_camera_is_known_by_its_number_its_device_and_a_link_to_it(devices):
    (devices / 'by-id').mkdir()
    (devices / 'by-id' / 'usb-cam').symlink_to('../video2')
    assert [number_of(str(source)) for source in (
        '7', devices / 'video1', devices / 'by-id' / 'usb-cam', 'drive.avi', devices)] == [
            '7', '1', '2', '', '']


@pytest.mark.any_time
def test_a_folder_is_played_in_the_order_of_its_numbers(tmp_path):
    for number in (10, 9, 100):
        cv2.imwrite(str(tmp_path / f'cam_{number}.png'), np.full((4, 4, 3), number, np.uint8))
    (tmp_path / 'notes.txt').touch()
    folder = ImageFolder(tmp_path)
    assert folder.isOpened()
    for _ in range(2):
        values = []
        while folder.grab():
            _, pixels = folder.retrieve()
            values.append(int(pixels[0, 0, 0]))
        assert values == [9, 10, 100]
        folder.set(cv2.CAP_PROP_POS_FRAMES, 0)
