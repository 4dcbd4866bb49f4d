"""Compressed and serialized images from outside: bounded, whole, or refused in a sentence."""

import io
import re
import struct
from types import SimpleNamespace
import zlib

import cv2
import numpy as np
from PIL import Image
import pytest
from stream_agent import images
from stream_agent.bounded_settings import printable
from stream_agent.contract import image_files
from stream_agent.contract.image_files import decoded, ImageError
from stream_agent.images import SerializedImage

PIXELS = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (61, 83, 3), np.uint8),
                          (3, 3), 0)


def jpeg(pixels=PIXELS, *options):
    return cv2.imencode('.jpg', pixels, options)[1].tobytes()


def by_opencv(data):
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels if pixels.ndim == 2 else pixels[..., 2::-1]


def by_pillow(mode, suffix, **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, suffix, **options)
    return file.getvalue()


def segment(code, content):
    return bytes((0xFF, code)) + (len(content) + 2).to_bytes(2, 'big') + content


def frame_header(height, width):
    return struct.pack('>BHHB', 8, height, width, 1) + bytes((1, 0x11, 0))


JPEG = jpeg()
SOF = JPEG.index(b'\xff\xc0')
SOS = JPEG.index(b'\xff\xda')
THUMBNAIL = segment(0xE1, b'Exif\0\0' + segment(0xC0, frame_header(65000, 65000)) + JPEG[:200])
RESTARTS = jpeg(PIXELS, cv2.IMWRITE_JPEG_RST_INTERVAL, 3)


@pytest.mark.parametrize('data, same_as', [
    (JPEG, JPEG),
    (jpeg(PIXELS[..., 0]), None),
    (JPEG.replace(b'\xff\xc0', b'\xff\xff\xff\xc0', 1), JPEG),
    (JPEG[:-2] + b'\xff\xff' + JPEG[-2:], JPEG),
    (b'\xff\xff' + JPEG, JPEG),
    (RESTARTS.replace(b'\xff\xd0', b'\xff\xff\xff\xd0'), RESTARTS),
    (JPEG[:2] + THUMBNAIL + JPEG[2:], JPEG),
    (JPEG[:SOF] + segment(0xFE, b'\xff\xc0\xff\xd9') + JPEG[SOF:], JPEG),
    (JPEG + bytes(4096), JPEG),
    (RESTARTS, JPEG),
    (JPEG.replace(b'\xff\xc4', b'\xff\xfe'), JPEG),
    (by_pillow('CMYK', 'JPEG'), None),
    (by_pillow('CMYK', 'JPEG').replace(b'Adobe\0d\0\0\0\0\0', b'Adobe\0d\0\0\0\0\2'), None),
    (jpeg(PIXELS[:1, :1]), None),
    (jpeg(np.zeros((4096, 8), np.uint8)), None)],
    ids=['colour', 'grey', 'fill bytes', 'fill bytes at the end', 'fill bytes first',
         'fill bytes before a restart', 'thumbnail', 'comment', 'padded', 'restarts',
         'as in videos', 'CMYK', 'YCCK', 'one pixel', 'flat'])
def test_whole_jpegs_are_what_opencv_makes_of_them(data, same_as):
    np.testing.assert_array_equal(decoded(data, 'jpeg'), by_opencv(same_as or data))


def without_a_part(data):
    """Leave out what is between two marks of a JPEG."""
    first, second = (m.start() for m in list(re.finditer(rb'\xff[\xd0-\xd7]', data))[3:5])
    return data[:first] + data[second:]


LARGER = segment(0xC0, frame_header(4000, 4000))


@pytest.mark.parametrize('data, said', [
    (b'GIF89a', 'is neither JPEG nor PNG'),
    (JPEG[:SOF] + LARGER + JPEG[SOF:], 'has 2 sizes'),
    (JPEG[:SOS] + LARGER + JPEG[SOS:], 'has 2 sizes'),
    (JPEG[:-300] + LARGER + JPEG[-300:], 'has a segment C0 within its pixels'),
    (JPEG[:SOF] + JPEG[SOF + 19:], 'has 0 sizes'),
    (JPEG[:SOF] + b'\xff\xc2' + JPEG[SOF + 2:], 'has a segment C2; JPEGs are read that are '
     'neither progressive, lossless, nor arithmetic'),
    (jpeg(PIXELS, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), 'has a segment C2'),
    (JPEG[:SOF] + b'\xff\xc9' + JPEG[SOF + 2:], 'has a segment C9'),
    (JPEG[:SOF] + b'garbage' + JPEG[SOF:], f'is damaged at byte {SOF}'),
    (JPEG[:SOF] + segment(0xDC, b'\1\1') + JPEG[SOF:], 'has a segment DC'),
    (JPEG[:SOF + 4] + b'\x0c' + JPEG[SOF + 5:], 'not 8 bits a colour'),
    (JPEG[:SOF + 5] + b'\0\0' + JPEG[SOF + 7:], 'image is 83 x 0 pixels'),
    (JPEG[:SOF + 5] + b'\x10\1' + JPEG[SOF + 7:], 'image is 83 x 4097 pixels'),
    (JPEG[:SOF + 2] + b'\0\2' + JPEG[SOF + 19:], 'has 1 sizes, or several scans'),
    (jpeg(np.zeros((8, 5000), np.uint8)), 'image is 5000 x 8 pixels'),
    (without_a_part(RESTARTS), 'ends early, or lacks a part'),
    (RESTARTS.replace(b'\xff\xd2', b'\xff\xd3'), 'ends early, or lacks a part'),
    (RESTARTS.replace(b'\xff\xdd\0\4\0\3', b'\xff\xdd\0\4\0\2'), 'ends early, or lacks a part'),
    (JPEG.replace(b'\xff\xda\0\x0c\3', b'\xff\xda\0\x0c\1'), 'several scans'),
    (JPEG.replace(b'\xff\xdb', b'\xff\xfe'), 'ends early, or'),
    (JPEG[:SOS] + JPEG[-2:], 'ends early')])
def test_other_jpegs_are_refused_before_they_are_decoded(data, said, monkeypatch):
    if 'ends early, or' not in said:
        monkeypatch.setattr(image_files, 'decode', lambda data: pytest.fail('it was decoded'))
    with pytest.raises(ImageError) as error:
        decoded(data, 'jpeg')
    assert said in str(error.value)
    assert str(error.value).startswith("compressed image of format 'jpeg' ")


@pytest.mark.parametrize('end', [b'', b'\xff\xd9', bytes(100)], ids=['', 'EOI', 'zeros'])
@pytest.mark.parametrize('kind', [JPEG, RESTARTS, jpeg(PIXELS[..., 0])],
                         ids=['colour', 'restarts', 'grey'])
def test_a_jpeg_cut_anywhere_is_refused(kind, end):
    """Up to the last two blocks: what a decoder reads ahead may stand for them."""
    for length in range(2, len(kind) - 150, 37):
        with pytest.raises(ImageError):
            decoded(kind[:length] + end, 'jpeg')


@pytest.mark.parametrize('rest', [1, 2, 4, 8, 16])
def test_a_small_jpeg_is_whole_to_its_last_block(rest):
    data = jpeg(PIXELS[:12, :12, 0])
    with pytest.raises(ImageError, match='ends early'):
        decoded(data[:-2 - rest] + data[-2:], 'jpeg')


def test_rows_that_opencv_made_up_are_refused(monkeypatch):
    """An old OpenCV, such as 4.6, does not refuse what ends early, but repeats the last row."""
    def old_decode(data):
        pixels = newer(data)
        return np.repeat(newer(JPEG)[:1], 61, 0) if pixels is None else pixels

    newer = image_files.decode
    pixels = np.tile(PIXELS, (1, 2, 1))
    monkeypatch.setattr(image_files, 'decode', old_decode)
    image_files.repeats_rows.cache_clear()
    try:
        assert image_files.repeats_rows()
        with pytest.raises(ImageError, match='ends early'):
            decoded(jpeg(pixels)[:-900] + b'\xff\xd9', 'jpeg')
        for whole in (jpeg(pixels), jpeg(np.full((64, 128), 99, np.uint8))):
            np.testing.assert_array_equal(decoded(whole, 'jpeg'), by_opencv(whole))
    finally:
        image_files.repeats_rows.cache_clear()


def chunk(kind, content):
    return (len(content).to_bytes(4, 'big') + kind + content
            + zlib.crc32(kind + content).to_bytes(4, 'big'))


def png(height=4, width=4, depth=8, colour=0, interlaced=0, before=b'', pixels=None,
        end=chunk(b'IEND', b'')):
    """Write a PNG of a grey ramp, whatever its header says."""
    if pixels is None:
        pixels = b''.join(b'\0' + bytes(range(row * 4, row * 4 + 4)) for row in range(4))
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, interlaced)
    return (image_files.PNG + chunk(b'IHDR', header) + before
            + chunk(b'IDAT', zlib.compress(pixels)) + end)


# Adam7 of 4 x 4: pixel 0, then column 0 onwards in steps of 4, 2, and 1.
INTERLACED = bytes([0, 0, 0, 2, 0, 8, 10, 0, 1, 3, 0, 9, 11, 0, 4, 5, 6, 7, 0, 12, 13, 14, 15])
ANIMATION = chunk(b'acTL', struct.pack('>II', 2, 0)) + chunk(
    b'fcTL', struct.pack('>IIIIIHHBB', 0, 5000, 5000, 0, 0, 1, 1, 0, 0))


@pytest.mark.parametrize('data', [
    png(), png(interlaced=1, pixels=INTERLACED), png(before=chunk(b'tEXt', b'a\0b')),
    png(before=ANIMATION)], ids=['plain', 'interlaced', 'text', 'animated'])
def test_whole_pngs_are_the_ramp(data):
    np.testing.assert_array_equal(decoded(data, 'png'), np.arange(16).reshape(4, 4))


@pytest.mark.parametrize('mode', ['L', 'LA', 'P', 'RGB', 'RGBA', '1'])
def test_every_kind_of_png_is_what_opencv_makes_of_it(mode):
    data = by_pillow(mode, 'PNG')
    np.testing.assert_array_equal(decoded(data, 'png'), by_opencv(data))


def damaged(data, at):
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1:]


@pytest.mark.parametrize('data, said', [
    (png(65000, 65000), 'image is 65000 x 65000 pixels; sides of 1 to 4096'),
    (png(2**31, 4), 'image is 4 x 2147483648 pixels'),
    (png(4, 0), 'image is 0 x 4 pixels'),
    (png(depth=16), 'has 16 bits a colour; at most 8 are read'),
    (png(before=chunk(b'IHDR', bytes(13))), 'does not begin with its size, or has several'),
    (image_files.PNG + png()[33:], 'does not begin with its size'),
    (image_files.PNG + chunk(b'IHDR', bytes(12)), 'does not begin with its size'),
    (damaged(png(), 19), 'ends early, or'),
    (damaged(png(), 50), 'ends early, or'),
    (png(end=b''), 'ends early'),
    (png()[:-20], 'ends early'),
    (png(pixels=bytes(10)), 'ends early, or'),
    (png(5, 4), 'ends early, or'),
    (png(colour=5), 'ends early, or'),
    (png(interlaced=1, pixels=INTERLACED[:-1]), 'ends early, or')])
def test_other_pngs_are_refused(data, said, monkeypatch):
    if 'ends early, or' not in said:
        monkeypatch.setattr(image_files, 'decode', lambda data: pytest.fail('it was decoded'))
    with pytest.raises(ImageError, match=re.escape(said)):
        decoded(data, 'png')


def test_an_error_of_the_decoder_is_a_dropped_frame(monkeypatch):
    def fail(*_):
        raise cv2.error('anything')

    monkeypatch.setattr(cv2, 'imdecode', fail)
    with pytest.raises(ImageError, match='cannot be decoded'):
        decoded(png(), 'png')


def serialized(encoding=b'mono8\0', frame_id=b'camera\0', end='<', data=bytes(range(6)), **sizes):
    """Write a serialized sensor_msgs/Image of 2 x 3 pixels."""
    body = struct.pack(end + 'iI', 7, 1)
    for text in (frame_id, None, encoding):
        if text is None:
            body += bytes(-len(body) % 4) + struct.pack(end + '2I', sizes.get('height', 2),
                                                        sizes.get('width', 3))
        else:
            body += bytes(-len(body) % 4) + struct.pack(end + 'I', len(text)) + text
    body += b'\0'
    body += bytes(-len(body) % 4) + struct.pack(end + '2I', sizes.get('step', 3),
                                                sizes.get('length', len(data))) + data
    return bytes((0, end == '<', 0, 0)) + body


@pytest.mark.parametrize('end', '<>')
def test_both_byte_orders_are_read(end):
    image = SerializedImage.read(serialized(end=end))
    assert image.stamp_ns == 7 * 10**9 + 1 and image.frame_id == 'camera'
    np.testing.assert_array_equal(images.image_to_array(image), np.arange(6).reshape(2, 3))


@pytest.mark.parametrize('data, said', [
    (b'', 'begins with nothing'),
    (b'\0', 'begins with 00; only plain CDR'),
    (b'\0\1\0\0' + bytes(3), 'has 7 bytes, less than a header'),
    (b'\0\3' + serialized()[2:], 'begins with 0003; only plain CDR'),
    (serialized(frame_id=bytes(5000)), 'has a name of 5000 bytes; at most 4096 are read'),
    (serialized(length=2**32 - 1), 'within a field of 4294967295 bytes'),
    (serialized()[:40], 'ends after 36 bytes'),
    (serialized(frame_id=b'camera'), 'has a name that is not one text of UTF-8'),
    (serialized(frame_id=b'\xb5\0'), 'has a name that is not one text of UTF-8'),
    (serialized(length=1), 'goes on after its 49 bytes'),
    (serialized(height=3), 'image data has 6 bytes; step x height is 9'),
    (serialized(encoding=b'\x1b[2Jx\n\0'), r"image encoding is '\x1b[2Jx\n'")])
def test_serialized_messages_that_are_none_are_refused(data, said):
    with pytest.raises(ImageError) as error:
        images.image_to_array(SerializedImage.read(data))
    assert said in str(error.value)


def test_names_from_outside_are_printed_on_one_line_and_cut():
    assert printable('camera/ünder_score') == 'camera/ünder_score'
    assert printable('a\x1b[31m\n\u202e\x85') == 'a\\x1b[31m\\n\\u202e\\x85'
    assert printable('x' * 200) == 'x' * 200
    assert len(printable('x' * 10**6)) == len(printable('\n' * 150)) == 200
    with pytest.raises(ImageError, match=r"of format 'jpeg\\n\\x1b' is neither"):
        decoded(b'', 'jpeg\n\x1b')


RAW = SimpleNamespace(height=2, width=2, step=8, data=bytes(16), is_bigendian=0)


@pytest.mark.parametrize('encoding, said', [
    ('nv16', 'it is YUV of another kind; let the driver convert it to rgb8, as usb_cam does by'),
    ('YUYV', 'it is YUV of another kind; '), ('i420', 'it is YUV of another kind; '),
    ('bayer_rggb12', "it is a sensor's raw mosaic; take what image_proc's DebayerNode makes"),
    ('mono16', 'it has over 8 bits a colour, or is depth of another kind than 16UC1 and 32FC1; '
     'take a topic of those, or of pictures of 8 bits'),
    ('rgba16', 'it has over 8 bits'), ('32FC2', 'it has over 8 bits'),
    ('8UC3', 'it does not say its colours; publish it as mono8'),
    ('8UC1', 'it does not say its colours; '), ('RGB8', None), ('', None)])
def test_encodings_that_are_not_read_are_told_from_damage(encoding, said):
    with pytest.raises(ImageError) as error:
        images.image_to_array(SimpleNamespace(**vars(RAW) | {'encoding': encoding}))
    assert str(error.value).startswith(
        f"image encoding is '{encoding}'; supported are {images.SUPPORTED}"
        + (f'; {said}' if said else ''))


def test_the_order_of_bytes_does_not_matter_to_single_bytes():
    messages = [SimpleNamespace(**vars(RAW) | {
        'encoding': 'rgb8', 'data': bytearray(range(16)), 'is_bigendian': value})
        for value in (0, 1, 255)]
    for message in messages:
        np.testing.assert_array_equal(images.image_to_array(message), [
            [[0, 1, 2], [3, 4, 5]], [[8, 9, 10], [11, 12, 13]]])


@pytest.mark.parametrize('name', [
    'jpeg', 'jpg', 'rgb8; jpeg compressed bgr8', 'bgr8; jpeg compressed bgr8', 'mono8; jpeg '
    'compressed ', 'bayer_rggb8; jpeg compressed bgr8', 'yuv422_yuy2; jpeg compressed bgr8', '',
    'rgb8; png compressed '])
def test_what_drivers_call_the_format_does_not_matter(name):
    for data in (JPEG, by_pillow('RGB', 'PNG')):
        np.testing.assert_array_equal(
            images.compressed_to_array(SimpleNamespace(format=name, data=data)), by_opencv(data))


def test_a_mosaic_that_was_compressed_is_no_grey_picture():
    grey = jpeg(PIXELS[..., 0])
    message = SimpleNamespace(format='bayer_rggb8; jpeg compressed ', data=grey)
    with pytest.raises(ImageError, match="raw mosaic; take what image_proc's DebayerNode"):
        images.compressed_to_array(message)
    message.format = 'mono8; jpeg compressed '
    assert images.compressed_to_array(message).shape == PIXELS.shape[:2]


@pytest.mark.parametrize('name, data, said', [
    ('16UC1; compressedDepth png', bytes(12) + png(depth=16), 'but depth; take a topic of'),
    ('32FC1; compressedDepth rvl', bytes(40), 'but depth; take a topic of pictures'),
    ('h264', b'\0\0\0\1\x67', 'but a part of a video; publish it as one of them'),
    ('webp', b'RIFF\0\0\0\0WEBP', 'but a WebP; publish it as one of them'),
    ('tiff', b'II*\0', 'but a TIFF; '), ('bmp', b'BM', 'but a BMP; '),
    ('jpeg', b'\0' * 40, "format 'jpeg' is neither JPEG nor PNG"),
    ('16UC1; png compressed ', png(depth=16), 'at most 8 are read, so take a topic of pictures')])
def test_other_files_are_named(name, data, said):
    with pytest.raises(ImageError) as error:
        images.compressed_to_array(SimpleNamespace(format=name, data=data))
    assert said in str(error.value)
