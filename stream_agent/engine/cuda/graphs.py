"""Steps a network on a GPU: each half of a step is one CUDA graph, on buffers that stay."""

from collections.abc import Sequence
from functools import partial
from statistics import median
import threading

import numpy as np
from stream_agent.engine.cuda.device import Device, device_of, MOST_STREAMS
from stream_agent.engine.cuda.program import Program, Take, Variant
from stream_agent.engine.torch_globals import computing
from stream_agent.network.preprocessing import binnings, is_bilinear, Preprocessing, scale
from stream_agent.network.program import Arrays
from stream_agent.network.rollout_network import RolloutNetwork
import torch
from torch import Tensor

# OpenCV's weights of red, green and blue, times 2^15.
GREY_WEIGHTS = 9798, 19235, 3735
GREY_SHIFT = 15


class DevicePixels:
    """Converts images of one size, ``camera``: (H, W) or (H, W, 3)."""

    def __init__(self, preprocessing: Preprocessing, camera: tuple[int, ...],
                 device: torch.device) -> None:
        channels, height, width = preprocessing.shape
        rows, columns = camera[:2]
        self._device = device
        self._rows = slice(int(rows * preprocessing.crop_top),
                           rows - int(rows * preprocessing.crop_bottom))
        rows = self._rows.stop - self._rows.start
        self._steps = []
        for rows, columns in binnings(rows, columns, preprocessing.shape):
            self._steps.append(halved)
        if len(camera) == 3 and channels == 1:
            weights = torch.tensor(GREY_WEIGHTS, dtype=torch.int32, device=device)
            self._steps.append(partial(grey, weights[:, None, None]))
        if (rows, columns) == (2 * height, 2 * width):
            self._steps.append(halved)
        elif (rows, columns) != (height, width):
            bilinear = is_bilinear(rows, columns, preprocessing.shape)
            larger = rows < height or columns < width
            weigh = (linear_weights if bilinear else
                     enlarging_weights if larger else area_weights)
            self._steps.append(partial(weighted, self._matrix(weigh(rows, height)),
                                       self._matrix(weigh(columns, width)).t()))
        self._shape = preprocessing.shape

    def _matrix(self, weights: np.ndarray) -> Tensor:
        return torch.from_numpy(weights.astype(np.float32)).to(self._device)

    def __call__(self, pixels: Tensor, out: Tensor) -> None:
        """Convert uint8 images, (B, H, W, 3) in RGB order or (B, H, W), to the network's input."""
        image = pixels[:, self._rows]
        image = image.permute(0, 3, 1, 2) if image.ndim == 4 else image.unsqueeze(1)
        for step in self._steps:
            image = step(image)
        out.copy_(scale(image).expand(-1, *self._shape))


def halved(image: Tensor) -> Tensor:
    """Average 2x2 pixels, half up; an odd last row or column is left out."""
    rows, columns = image.shape[2] // 2, image.shape[3] // 2
    quarters = image[:, :, :2 * rows, :2 * columns].unflatten(2, (rows, 2)).unflatten(
        4, (columns, 2))
    return quarters.sum((3, 5), dtype=torch.int32).add_(2).bitwise_right_shift_(2)


def grey(weights: Tensor, image: Tensor) -> Tensor:
    """Weigh red, green and blue."""
    total = (image.to(torch.int32) * weights).sum(1, keepdim=True, dtype=torch.int32)
    return total.add_(1 << GREY_SHIFT - 1).bitwise_right_shift_(GREY_SHIFT)


def weighted(rows: Tensor, columns: Tensor, image: Tensor) -> Tensor:
    """Resize by weights, (rows, H) and (W, columns), and round to grey levels."""
    return (rows @ (image.float() @ columns)).round_()


def area_weights(size: int, wanted: int) -> np.ndarray:
    """Return the share of every pixel in the area of each wanted one, (wanted, size)."""
    weights = np.zeros((wanted, size))
    edges = np.arange(wanted + 1) * size / wanted
    for i, (low, high) in enumerate(zip(edges, edges[1:])):
        pixels = np.arange(int(low), min(int(np.ceil(high)), size))
        weights[i, pixels] = np.minimum(pixels + 1, high) - np.maximum(pixels, low)
    return weights / weights.sum(1, keepdims=True)


def enlarging_weights(size: int, wanted: int) -> np.ndarray:
    """Return what OpenCV's INTER_AREA does on both axes if one of them is enlarged."""
    index = np.arange(wanted)
    left = np.floor(index * size / wanted).astype(int)
    fraction = index + 1 - (left + 1) * wanted / size
    fraction = np.where(fraction <= 0, 0, fraction - np.floor(fraction))
    return blended(left, fraction, size)


def linear_weights(size: int, wanted: int) -> np.ndarray:
    """Return the weights of the two pixels beside the middle of each wanted one."""
    position = (np.arange(wanted) + 0.5) * size / wanted - 0.5
    left = np.floor(position).astype(int)
    return blended(left, position - left, size)


def blended(left: np.ndarray, fraction: np.ndarray, size: int) -> np.ndarray:
    """Return weights of pixels and their right neighbours, (wanted, size), within the image."""
    weights = np.zeros((len(left), size))
    for i, (pixel, share) in enumerate(zip(left, fraction)):
        weights[i, np.clip(pixel, 0, size - 1)] += 1 - share
        weights[i, np.clip(pixel + 1, 0, size - 1)] += share
    return weights


# float32 rounds nothing; tf32 rounds the factors of products; bfloat16 all feature maps.
PRECISIONS = {'float32': torch.float32, 'tf32': torch.float32, 'bfloat16': torch.bfloat16}
TIMED_FRAMES = 20
TIMED_ROUNDS = 5


class CudaGraphBackend:
    """
    Steps a network by recorded halves; everything is allocated, warmed up and recorded now.

    ``respond`` waits for its output alone. ``settle`` returns immediately, and the device computes
    meanwhile; the next ``respond`` is ordered behind it. All calls come from the thread that made
    the backend. Weights are read now: a change afterwards has no effect.

    On the CPU the same plans run on the same buffers, for tests.

    :param network: In evaluation mode, on the device to work on.
    :param batch_size: B, streams of frames that are stepped together.
    :param precision: 'float32'; 'tf32', which rounds the factors of products to 10 bits; or
        'bfloat16' for feature maps and what makes them.
    :param batched: Whether equal nodes run as one kernel; 'auto' measures what is faster.
    :param forked: Whether independent nodes run side by side.
    :param preprocessing: For ``respond_pixels``, with ``camera``.
    :param camera: (H, W, 3) or (H, W) of the images.
    :param among: Variants to choose from; if empty, all that ``batched`` allows.
    :param device: For tests.
    :raises ValueError: If an option does not exist.
    """

    @torch.inference_mode()
    def __init__(self, network: RolloutNetwork, batch_size: int = 1, precision: str = 'float32',
                 batched: str | bool = 'auto', forked: bool = True, *,
                 preprocessing: Preprocessing | None = None, camera: tuple[int, ...] = (),
                 among: Sequence[Variant] = (), device: Device | None = None) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision: there is no '{precision}'; choices are "
                             f"{', '.join(PRECISIONS)}")
        if batched not in ('auto', True, False):
            raise ValueError(f"batched: {batched!r} is none of 'auto', True, False")
        like = network.initial_state(batch_size).values
        #: What the halves run on.
        self.device = device or device_of(like[network.input])
        self._thread, self._inputs = threading.get_ident(), network.inputs
        self._frames = {name: self.device.host_buffer(tuple(like[name].shape), torch.float32)
                        for name in network.inputs}
        self._output = self.device.host_buffer(
            tuple(like[network.graph.output].shape), torch.float32)
        takes: list[Take] = [self._take_frames]
        if camera and preprocessing:
            if len(network.inputs) > 1:
                raise ValueError(f"camera: the network reads {', '.join(network.inputs)}, and "
                                 'pixels are for networks of one image; leave it out')
            self._pixels = self.device.host_buffer((batch_size, *camera), torch.uint8)
            self._host_pixels = self._pixels.numpy()
            self._pixels_there = self._pixels.to(self.device.torch_device)
            self._convert = DevicePixels(preprocessing, camera, self.device.torch_device)
            takes.append(self._take_pixels)
        with computing(precision == 'tf32'):
            programs = [Program(network, self.device, takes, self._output, PRECISIONS[precision],
                                variant, MOST_STREAMS if forked else 1)
                        for variant in among or variants(batched, self.device.fuses)]
            #: Seconds of a step on the device by variant, if there was a choice.
            self.measured = measure(programs, self.device) if len(programs) > 1 else {}
        #: The fastest variant.
        self.program = min(programs, key=lambda program: self.measured.get(program.variant, 0.0))
        self._host_frames = {name: frame.numpy() for name, frame in self._frames.items()}
        self._host_output = self._output.numpy()
        self.reset()

    def _take_frames(self, *images: Tensor) -> None:
        """Bring frames from the host into the inputs' buffers."""
        for image, frame in zip(images, self._frames.values()):
            image.copy_(frame, non_blocking=True)

    def _take_pixels(self, image: Tensor) -> None:
        """Bring pixels from the host, and convert them into the image's buffer."""
        self._pixels_there.copy_(self._pixels, non_blocking=True)
        with computing(tf32=False):  # grey levels have 8 bits, and their weights more
            self._convert(self._pixels_there, image)

    def _check_thread(self, what: str) -> None:
        """Raise RuntimeError if the backend was made on another thread."""
        if threading.get_ident() != self._thread:
            raise RuntimeError(f'{what}: called on another thread than the one that made the '
                               'backend; make and step it on one thread')

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget every frame, and prepare for the first one."""
        self._check_thread('reset')
        self._frame = 1
        self.program.reset()

    def respond(self, frame: Arrays) -> np.ndarray:
        """Return the output node, (B, *shape), for a frame of the inputs, all float32."""
        self._check_thread('respond')
        if isinstance(frame, np.ndarray):
            fill(self._host_frames[self._inputs[0]], frame)
        else:
            for name, value in frame.items():
                fill(self._host_frames[name], value)
        return self._respond(0)

    def respond_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """
        Answer images as the camera gives them.

        :param pixels: uint8, (B, *camera), in RGB order.
        :returns: As ``respond``.
        :raises RuntimeError: If the backend was made without a camera.
        """
        if len(self.program.respond) < 2:
            raise RuntimeError('respond_pixels: the backend was made without a camera; give it '
                               'preprocessing and the shape of the images')
        self._check_thread('respond')
        fill(self._host_pixels, pixels)
        return self._respond(1)

    def _respond(self, way: int) -> np.ndarray:
        """Bring a frame to the device by one of the ways in, and wait for the output."""
        phases = self.program.respond[way]
        self.device.answer(phases[self._frame % len(phases)])
        return self._host_output.copy()

    def settle(self) -> None:
        """Start what only later frames need."""
        self._check_thread('settle')
        phases = self.program.settle
        self.device.launch(phases[self._frame % len(phases)])
        self._frame += 1


def fill(target: np.ndarray, frame: np.ndarray) -> None:
    """Copy a frame to where the device takes it from; ValueError if it has another shape."""
    if frame.shape != target.shape:
        raise ValueError(f'respond: the frame has the shape {list(frame.shape)}, but the backend '
                         f'was made for {list(target.shape)}')
    target[...] = frame


def variants(batched: str | bool, fuses: bool) -> list[Variant]:
    """Return the variants to choose from, as ``batched`` and the device's ``fuses`` allow."""
    ways = [Variant(batched=True)] if batched else []
    if batched in ('auto', False):
        ways += [Variant(), Variant(channels_last=True)]
    return [way._replace(fused=fused) for way in ways for fused in (True, False)
            if fuses or not fused]


def measure(programs: Sequence[Program], device: Device) -> dict[Variant, float]:
    """Return the seconds that a step takes on the device, in every variant."""
    seconds: dict[Variant, list[float]] = {program.variant: [] for program in programs}
    for _ in range(TIMED_ROUNDS):
        for program in programs:
            seconds[program.variant].append(
                device.seconds(program.steps(TIMED_FRAMES)) / TIMED_FRAMES)
    return {variant: median(values) for variant, values in seconds.items()}
