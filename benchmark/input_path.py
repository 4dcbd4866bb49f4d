"""
How long an image message takes to become the network's input, by encoding and size.

The peer is what one would write: view the message, convert the colours of the whole image, crop,
resize, change the type, scale, and copy the channels into planes. A message is written anew
before every measurement, as it is when it arrives. The worst p50 is that of the two inputs that
have a budget; the third one, cropped as training crops, enlarges what is left of 160x120.
"""

import itertools
import time

import cv2
from harness import alternate, parse, percentiles, run_benchmark, show
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from stream_agent.images import CHANNELS, compressed_to_array, image_to_array
from stream_agent.network.preprocessing import Preprocessing

BUDGETS = {(480, 640): 130.0, (120, 160): 60.0}  # us, of one core
PASSES = 10
BUDGETED = ('lane', 'policy')
INPUTS = {'lane': Preprocessing((1, 60, 120), crop_top=0.25),
          'policy': Preprocessing((3, 120, 160)),
          'policy, cropped': Preprocessing((3, 120, 160), crop_top=0.25)}
FROM_RGB = {'bgr8': cv2.COLOR_RGB2BGR, 'rgba8': cv2.COLOR_RGB2RGBA, 'bgra8': cv2.COLOR_RGB2BGRA}
TO_RGB = {'bgr8': cv2.COLOR_BGR2RGB, 'rgba8': cv2.COLOR_RGBA2RGB, 'bgra8': cv2.COLOR_BGRA2RGB,
          'mono8': cv2.COLOR_GRAY2RGB}
TO_GREY = {'rgb8': cv2.COLOR_RGB2GRAY, 'bgr8': cv2.COLOR_BGR2GRAY,
           'rgba8': cv2.COLOR_RGBA2GRAY, 'bgra8': cv2.COLOR_BGRA2GRAY}


def picture(height: int, width: int) -> np.ndarray:
    """Return something with edges and noise, uint8, (H, W, 3) in RGB order."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.add(pixels, generator.integers(0, 30, pixels.shape, dtype=np.uint8))


def message(pixels: np.ndarray, encoding: str) -> Image:
    """Make the message of a picture; of mono8 the red channel."""
    if encoding in FROM_RGB:
        pixels = cv2.cvtColor(pixels, FROM_RGB[encoding])
    elif encoding == 'mono8':
        pixels = pixels[..., 0]
    msg = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                step=pixels.shape[1] * CHANNELS[encoding])
    msg.data.frombytes(pixels.tobytes())
    return msg


def ours(msg: Image, preprocessing: Preprocessing) -> np.ndarray:
    """Convert as the agent does."""
    return preprocessing(image_to_array(msg))


def plain(msg: Image, preprocessing: Preprocessing) -> np.ndarray:
    """Convert as one would without much thought."""
    channels, height, width = preprocessing.shape
    image = np.asarray(msg.data, dtype=np.uint8).reshape(msg.height, msg.width, -1)
    codes = TO_RGB if channels == 3 else TO_GREY
    if msg.encoding in codes:
        image = cv2.cvtColor(image, codes[msg.encoding])
    image = image[int(msg.height * preprocessing.crop_top):]
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    image = image.reshape(height, width, channels).astype(np.float32) / 255 - np.float32(0.5)
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def timed(convert, msg, preprocessing: Preprocessing):
    """Return a competitor: the message arrives, then its conversion is timed."""
    memory, arriving = memoryview(msg.data), bytes(msg.data)

    def measure() -> float:
        memory[:] = arriving
        start = time.perf_counter()
        convert(msg, preprocessing)
        return time.perf_counter() - start
    return measure


def check(size: tuple[int, int]) -> tuple[bool, float]:
    """
    Compare outputs before anything is timed.

    :returns: Whether all colour encodings give the same input; the largest difference from the
        peer in grey levels.
    """
    pixels, equal, farthest = picture(*size), True, 0.0
    for preprocessing in INPUTS.values():
        expected = ours(message(pixels, 'rgb8'), preprocessing)
        for encoding in CHANNELS:
            msg = message(pixels, encoding)
            frame = ours(msg, preprocessing)
            equal &= encoding == 'mono8' or np.array_equal(frame, expected)
            farthest = max(farthest, 255 * float(np.abs(frame - plain(msg, preprocessing)).max()))
    return equal, farthest


def compressed(size: tuple[int, int], rounds: int) -> np.ndarray:
    """Time a JPEG's way to the policy's input, which no budget covers; seconds."""
    encoded = cv2.imencode('.jpg', picture(*size)[..., ::-1])[1]
    msg = CompressedImage(format='jpeg', data=encoded.tobytes())
    measure = timed(lambda msg, preprocessing: preprocessing(compressed_to_array(msg)),
                    msg, INPUTS['policy'])
    return alternate({'jpeg': measure}, rounds)['jpeg']


def durations(size: tuple[int, int], rounds: int) -> dict[str, dict[str, np.ndarray]]:
    """
    Time every encoding to every input, both ways in alternation.

    Several passes over all of them, so that a busy moment of the machine does not meet one alone.

    :returns: Seconds by label and way.
    """
    competitors = {}
    for encoding, (name, preprocessing) in itertools.product(CHANNELS, INPUTS.items()):
        msg = message(picture(*size), encoding)
        competitors[f'{size[1]}x{size[0]} {encoding} to {name}'] = {
            way.__name__: timed(way, msg, preprocessing) for way in (ours, plain)}
    passes = [{label: alternate(ways, rounds // PASSES) for label, ways in competitors.items()}
              for _ in range(PASSES)]
    return {label: {way: np.concatenate([seconds[label][way] for seconds in passes])
                    for way in ways} for label, ways in competitors.items()}


def main() -> None:
    """Compare outputs, then durations, one size after the other."""
    arguments = parse(__doc__)
    cv2.setNumThreads(1)
    rounds = 300 if arguments.quick else 3000
    lines, figures = [], {'pixels_equal': True, 'by_encoding': {}}
    for size, budget in BUDGETS.items():
        equal, farthest = check(size)
        p50s = {}
        for label, seconds in durations(size, rounds).items():
            p50s[label] = float(np.median(seconds['ours'])) * 1e6
            lines.append(f'{label:<32} {percentiles(seconds["ours"])}   '
                         f'{p50s[label] / budget:.2f} of the budget, plain '
                         f'{np.median(seconds["plain"]) * 1e6 / p50s[label]:.1f} times as long')
        name, jpeg = f'{size[1]}x{size[0]}', compressed(size, rounds // 3)
        worst = max(p50 for label, p50 in p50s.items() if label.endswith(BUDGETED))
        lines += [f'{name + " jpeg to policy":<32} {percentiles(jpeg)}   no budget',
                  f'{name}: worst p50 {worst:.0f} us of {budget:.0f} us; colour encodings equal '
                  f'{equal}; at most {farthest:.1f} grey levels from plain']
        figures['by_encoding'] |= p50s
        figures['pixels_equal'] &= equal
        figures |= {f'worst_{name}_us': worst, f'jpeg_{name}_us': float(np.median(jpeg)) * 1e6}
    show([*lines, 'uint8 to float32, OpenCV with 1 thread'], figures, arguments.json)


if __name__ == '__main__':
    run_benchmark(main)
