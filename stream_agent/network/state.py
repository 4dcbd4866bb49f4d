"""What a network remembers."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class State:
    """
    What a network remembers between two frames, or during one.

    :param values: Nodes by name, (B, *shape) each.
    :param frame: Frames so far; 0 after a reset. Schedules count by it.
    :param draw: What the frame's dropout and noise are drawn by; None where there are none.
    """

    values: dict[str, Tensor]
    frame: int = 0
    draw: int | None = None
