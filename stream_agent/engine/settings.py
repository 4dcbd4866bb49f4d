"""What the agent is told: its policy, what steps it, and on what; no torch, for the doctor."""

from dataclasses import dataclass

from stream_agent.bounded_settings import choice, free_text, quantity
from stream_agent.images import image_transport


@dataclass(frozen=True)
class EngineSettings:
    """What steps a network; the engine refuses what the machine cannot do."""

    device: str = free_text('auto', "torch device: 'auto', 'cpu', 'cuda:0', ...", 'DEVICE')
    backend: str = free_text(
        'auto', "what steps the network: 'eager', 'packed', 'onnxruntime', 'openvino', "
        "'cuda_graphs', or 'auto' for the fastest by measurement", 'NAME')
    precision: str = free_text('float32', "'float32', 'tf32' or 'bfloat16'", 'NAME')
    threads: int = quantity(0, '', 0, 256, 'CPU cores that a network may use; 0: measure whether '
                            'all are better than one')


@dataclass(frozen=True)
class AgentSettings:
    """Which policy the agent steps, on what images, and when it answers."""

    checkpoint: str = free_text('', 'policy written by `ros2 run stream_agent train`', 'FILE')
    allow_cpu_fallback: bool = choice(
        False, 'let the CPU step the network where the device is not available')
    allow: str = free_text('', 'transforms of your own that the policy may import and run, by '
                           "their dotted names: 'my_package.layers.wavelet, ...'", 'NAMES')
    ranks: int = quantity(
        1, '', 0, 64, 'processes that compute the network together on the CPU: this one and '
        'others that it starts; 0 and 1: this one alone')
    partition: str = choice('measured', 'how layers are spread over ranks: by measured costs, or '
                            'equal numbers', ('measured', 'equal'))
    image_transport: str = image_transport()
    updates_per_frame: int = quantity(
        0, '', 0, 100, 'update steps for which a frame is held; 0: as many as in training')
    publish_every_update: bool = choice(False, 'answer at every update step of a frame')
    pass_periods: float = quantity(
        0.0, 'camera periods', 0.0, 1000.0, 'what a pass through all nodes takes on a slow '
        'computer that the agent emulates, to be compared with others; 0: none')
    costs: str = free_text('', 'seconds of the nodes on an emulated computer, as `plan '
                           '--save-costs` writes them, scaled to pass_periods if that is given; '
                           'empty: all nodes take the same', 'FILE')
    autostart: bool = choice(False, 'configure and activate at start-up')


def names_in(text: str) -> tuple[str, ...]:
    """Return the names in a list with commas, as ``allow`` is."""
    return tuple(name.strip() for name in text.split(',') if name.strip())
