"""Update steps one after the other, as an animation: what is there after each of them."""

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
import numpy as np
from PIL import Image
from stream_agent.drawing.graph_picture import box_entry, draw_curves
from stream_agent.drawing.plot_style import (
    BLUE, canvas, DrawingError, FAINT, INK, PICTURE_STYLE, SEEN)
from stream_agent.drawing.window_picture import (
    draw_held, draw_labels, draw_nodes, draw_output_borders, edge_curves, Grid, held_spans, panels)
from stream_agent.share import write_file
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import images_seen
from stream_agent.theory.patterns import Pattern
from stream_agent.theory.rollout import (
    FrameNode, initial_update_state, rollout_window, update_step)

STEP_MS, PAUSE_MS = 900, 4000
MOST_STEPS, DPI, COLOURS = 80, 110, 24
MOST_PX, MOST_PIXELS = 1200, 1.4e6
PALE = {'edgecolor': '#cfcfcf', 'linestyle': '-', 'linewidth': 0.6}

State = dict[FrameNode, bool]


def update_states(graph: GraphSpec, pattern: Pattern, size: int) -> Iterator[State]:
    """Yield U^k(S_init) of a window for k = 0, 1, ... until all nodes are there."""
    window = rollout_window(graph, pattern, size)
    state = initial_update_state(graph, size)
    yield state
    while not all(state.values()):
        state = update_step(window, state)
        yield state


class Panel:
    """The window of one pattern, of that name, whose nodes fill up from step to step."""

    def __init__(self, axes: Axes, pattern: Pattern, place: Grid, label: str) -> None:
        graph, size = place.graph, place.size
        self.states = list(update_states(graph, pattern, size))
        self.label = label
        self.answers = [(i, graph.output) for i in range(1, size + 1)
                        if graph.node(graph.output).updates_at(i)]
        seen = images_seen(graph, pattern, size)
        self.informed = {node for node in self.answers if seen[node]}
        self.title = draw_labels(axes, place)
        draw_held(axes, place, held_spans(place))
        draw_curves(axes, edge_curves(place, pattern).values(), PALE, 'edges')
        draw_output_borders(axes, place, self.answers, zorder=5)
        self.groups = draw_nodes(axes, place, {'nodes': {}}, lambda node: 'nodes', {})

    def show(self, step: int) -> None:
        """Show the window after a step: new nodes dark, those that were there before light."""
        now = self.states[min(step, len(self.states) - 1)]
        before = self.states[min(step - 1, len(self.states) - 1)] if step else now
        for nodes, boxes, texts in self.groups:
            boxes.set_facecolor([
                'white' if not now[node] else SEEN if before[node] else BLUE for node in nodes])
            boxes.set_edgecolor([INK if now[node] else FAINT for node in nodes])
            for node, text in zip(nodes, texts):
                if now[node] and not before[node]:
                    text.set(text=str(step), color='white', fontweight='bold')
                else:
                    text.set(color=INK, fontweight='normal')
        outputs = sum(now[node] for node in self.answers)
        informed = sum(now[node] for node in self.informed)
        self.title.set_text(f'{self.label}: {outputs} of {len(self.answers)} outputs, '
                            f"{informed} {'knows' if informed == 1 else 'know'} an image")


def animate_update_steps(graph: GraphSpec, patterns: Mapping[str, Pattern], size: int,
                         path: Path, name: str = '') -> None:
    """
    Write an animation (GIF) of the update steps of several patterns side by side.

    :param patterns: Valid patterns of the graph by their names.
    :param size: W; the windows have the frames 0, ..., W.
    :param name: The graph's, for the title.
    :raises DrawingError: If the windows are too large.
    :raises OSError: If the file cannot be written.
    """
    with rc_context(PICTURE_STYLE):
        places, width, height = panels(graph, patterns, size)
        title = f"{name + ': ' if name else ''}update step {MOST_STEPS}"
        figure, axes = canvas(width, height, title, [
            box_entry('new in this step', facecolor=BLUE),
            box_entry('there before', facecolor=SEEN),
            box_entry('not there yet', edgecolor=FAINT)])
        shown = [Panel(axes, pattern, places[label], label)
                 for label, pattern in patterns.items()]
        steps = max(len(panel.states) for panel in shown)
        if steps > MOST_STEPS:
            raise DrawingError(f'window: {steps} update steps are too many for an animation, '
                               f'over {MOST_STEPS}; take a smaller window')
        width, height = figure.get_size_inches()
        figure.set_dpi(min(DPI, max(MOST_PX / width, (MOST_PIXELS / width / height) ** 0.5)))
        images = []
        for step in range(steps):
            for panel in shown:
                panel.show(step)
            figure.texts[0].set_text(title.replace(str(MOST_STEPS), str(step)))
            figure.canvas.draw()
            images.append(Image.fromarray(
                np.asarray(getattr(figure.canvas, 'buffer_rgba')())[..., :3].copy()))
    write_gif(images, path)


def write_gif(images: list[Image.Image], path: Path) -> None:
    """Write images with one palette for all, and a pause before they begin again."""
    middle = images[len(images) // 2].quantize(COLOURS, dither=Image.Dither.NONE)
    colours = np.array(middle.getpalette()).reshape(-1, 3)
    # Quantising takes the background for any of the colours that are nearly white.
    colours[(colours > 244).all(axis=1)] = 255
    middle.putpalette(colours.ravel().tolist())
    frames = [image.quantize(palette=middle, dither=Image.Dither.NONE) for image in images]
    animation = BytesIO()
    frames[0].save(animation, format='GIF', save_all=True, append_images=frames[1:], loop=0,
                   duration=[STEP_MS] * (len(frames) - 1) + [PAUSE_MS], optimize=True)
    write_file(path, animation.getvalue())
