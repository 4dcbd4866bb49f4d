"""
The README's moving picture: a drive, and beside it the layers that each frame updates.

Run ``python -m studies.drive_picture docs/images/drive.gif``. The shipped streaming policy drives
in the embedded simulator. Every camera frame is shown twice: when the command is out, with what it
needed, and when the frame is settled.
"""

from itertools import islice
from pathlib import Path
import sys

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
import numpy as np
from PIL import Image
from stream_agent.command import Command
from stream_agent.drawing.plot_style import BLUE, FAINT, INK, ORANGE
from stream_agent.network.checkpoint import load_policy, Policy
from stream_agent.network.program import State
from stream_agent.share import share_folder
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.theory.information import ages_of_nodes
import torch

WARM_UP, FRAMES = 60, 20
RESPONDED_MS, SETTLED_MS = 450, 550
DPI, GREYS, SHADES, COLUMNS = 80, 40, 8, 3


class Picture:
    """
    The camera image to the left, a tile for every layer to the right.

    :param policy: Whose layers are shown.
    """

    def __init__(self, policy: Policy) -> None:
        self._network = policy.network
        graph = self._network.graph
        self._names = [node.name for node in graph.nodes]
        # Settled after as many frames as there are layers: the policy has no schedule.
        ages = ages_of_nodes(graph, self._network.pattern, min)
        *_, self._age = islice(ages, len(self._names))
        self._figure = Figure(figsize=(9.6, 4.4))
        FigureCanvasAgg(self._figure)
        self._camera = self._figure.add_axes((0.02, 0.08, 0.42, 0.78))
        rows = -(-len(self._names) // COLUMNS)
        self._tiles = {}
        for i, name in enumerate(self._names):
            row, column = divmod(i, COLUMNS)
            self._tiles[name] = self._figure.add_axes(
                (0.48 + 0.172 * column, 0.90 - 0.88 * (row + 1) / rows, 0.155, 0.68 / rows))
        self._figure.text(0.02, 0.90, 'camera, and the command that the policy gives', fontsize=10,
                          color=INK)

    def draw(self, image: np.ndarray, command: Command, state: State, computed: set[str],
             colour: str, title: str) -> Image.Image:
        """
        Draw one moment.

        :param computed: The layers that were computed in this half of the step.
        """
        self._draw_camera(image, command)
        for name, axes in self._tiles.items():
            axes.clear()
            value = state.values[name][0].numpy()
            axes.imshow(tile(value), cmap='gray', aspect='auto', interpolation='nearest')
            now = name in computed
            axes.set_title(f'{name}  {self.since(name)}', fontsize=7.5, pad=2.5,
                           color=colour if now else INK)
            for spine in axes.spines.values():
                spine.set(color=colour if now else FAINT, linewidth=2.6 if now else 0.8)
            axes.set(xticks=[], yticks=[])
        heading = self._figure.text(0.48, 0.94, title, fontsize=10, color=colour,
                                    fontweight='bold')
        self._figure.set_dpi(DPI)
        self._figure.canvas.draw()
        heading.remove()
        return Image.fromarray(np.asarray(self._figure.canvas.buffer_rgba())[..., :3].copy())

    def since(self, name: str) -> str:
        """Say how old the newest image is that a layer knows."""
        age = self._age[name]
        return 'this frame' if not age else f'{age} frame{"s" * (age > 1)} ago'

    def _draw_camera(self, image: np.ndarray, command: Command) -> None:
        axes, (height, width) = self._camera, image.shape[:2]
        axes.clear()
        axes.imshow(image, cmap='gray', vmin=0, vmax=255)
        axes.set(xticks=[], yticks=[])
        turn = -command.yaw_rate / 2.0
        axes.annotate('', (width * (0.5 + 0.42 * turn), height * 0.62),
                      (width / 2, height * 0.98),
                      arrowprops={'color': ORANGE, 'width': 4, 'headwidth': 13})


def tile(value: np.ndarray) -> np.ndarray:
    """Return a layer's value as a picture: the mean of its channels, or features as bars."""
    if value.ndim == 3:
        return value.mean(0)
    return np.tile(value, (max(1, len(value) // 4), 1))


@torch.inference_mode()
def pictures(policy: Policy, seed: int, frames: int = FRAMES) -> list[Image.Image]:
    """Drive, and draw both halves of every step."""
    network, environment = policy.network.eval(), DrivingEnvironment(SimulationSettings(), seed)
    picture, state = Picture(policy), network.initial_state()
    frame, found = environment.reset(), []
    for i in range(WARM_UP + frames):
        known = state.values
        output, now = network.respond(
            torch.from_numpy(policy.preprocessing(frame.image)).unsqueeze(0), state)
        command = policy.limits.command(output[0].numpy())
        schedule = network.schedules[now.frame % len(network.schedules)]
        cone = {network.input, *(work.node for work in schedule.respond)}
        shown = State({**known, **now.values}, now.frame)
        if i >= WARM_UP:
            found.append(picture.draw(frame.image, command, shown, cone, ORANGE,
                                      '1  respond: what the command needs'))
        rest = {work.node for work in schedule.settle}
        state = network.settle(now, state)
        if i >= WARM_UP:
            found.append(picture.draw(frame.image, command, state, rest, BLUE,
                                      '2  settle: everything else'))
        frame = environment.step(command)
    return found


def colours() -> list[int]:
    """Return greys, and the shades of both colours towards white."""
    greys = np.linspace(0, 255, GREYS)[:, None].repeat(3, 1)
    shades = [255 + (255 * np.array(to_rgb(colour)) - 255) * part
              for colour in (ORANGE, BLUE) for part in np.linspace(1, 0.2, SHADES)]
    return np.round(np.concatenate([greys, shades])).astype(int).ravel().tolist()


def main(path: Path) -> None:
    """Write the picture."""
    policy = load_policy(share_folder() / 'config' / 'policies' / 'lane_streaming.safetensors')
    images = pictures(policy, FIRST_HELD_OUT_SEED + 1)
    palette = Image.new('P', (1, 1))
    palette.putpalette(colours())
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    frames[0].save(path, save_all=True, append_images=frames[1:], loop=0, optimize=True,
                   duration=[RESPONDED_MS, SETTLED_MS] * (len(frames) // 2))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
