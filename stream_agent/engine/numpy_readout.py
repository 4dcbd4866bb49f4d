"""
The smallest answers in NumPy: a read-out of the image, added to what was begun before.

Such an answer takes a few microseconds of arithmetic. What a runtime adds to that is several
times as much when its code has to come from memory, as after a camera period of other work.
"""

from collections.abc import Callable, Sequence

import numpy as np
from stream_agent.engine.read_outs import along_columns, dense_part, sums_rows
from stream_agent.engine.task_executor import terms_of
from stream_agent.network.modules import Term
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.frame_schedule import Task
from torch import nn

# From the frame (B, C, H, W) and the sum begun ahead (B, features), if any, to the output.
LightResponse = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
ACTIVATIONS: dict[type, Callable[[np.ndarray], np.ndarray]] = {
    type(None): lambda total: total,
    nn.Tanh: np.tanh,
    nn.ReLU: lambda total: np.maximum(total, np.float32(0)),
}


def light_response(network: RolloutNetwork, tasks: Sequence[Task]) -> LightResponse | None:
    """
    Return an answer in NumPy, if it is a read-out of the image and nothing else.

    :param tasks: What the output needs once the image is there.
    """
    if len(tasks) != 1:
        return None
    (task,) = tasks
    terms = terms_of(network, task)
    prepare, cell, activation = network.at_work.ends[task.node]
    if prepare or cell or type(activation) not in ACTIVATIONS or len(terms) != 1:
        return None
    (term,) = terms
    if not is_image_read_out(network, term):
        return None
    pool, dense = dense_part(term.module)
    channels, height, width = network.shapes[network.input]
    window = pool.kernel_size
    rows = height // window
    weight = along_columns(dense.linear.weight.detach(), (channels, height, width), window)
    weight = np.ascontiguousarray(weight.numpy().T)
    bias = dense.linear.bias.detach().numpy()
    finish = ACTIVATIONS[type(activation)]

    def respond(frame: np.ndarray, begun: np.ndarray | None) -> np.ndarray:
        windows = frame[:, :, :rows * window].reshape(
            len(frame), channels * rows, window, width)
        total = np.add.reduce(windows, axis=2).reshape(len(frame), -1) @ weight + bias
        return finish(total if begun is None else total + begun)

    return respond


def is_image_read_out(network: RolloutNetwork, term: Term) -> bool:
    """Return whether a term reads averages of this frame's image, onto few features."""
    return (term.source == network.input and not term.streams and not term.others
            and sums_rows(term.module))
