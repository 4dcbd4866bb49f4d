"""Random frames for networks of any inputs: an array where there is one, else arrays by name."""

import numpy as np
from stream_agent.network.program import by_input
import torch


def of_each(function, frame):
    """Apply a function to every array of a frame."""
    if not isinstance(frame, dict):
        return function(frame)
    return {name: function(value) for name, value in frame.items()}


def random_inputs(network, length, batch_size=1, seed=0):
    """Return frames of float32 arrays, (batch_size, *shape) of every input."""
    generator = np.random.default_rng(seed)

    def frame():
        values = {name: generator.standard_normal((batch_size, *network.shapes[name])).astype(
            np.float32) for name in network.inputs}
        return values if len(values) > 1 else values[network.input]
    return [frame() for _ in range(length)]


def batch_of(frame):
    """Return the batch size of a frame."""
    return len(next(iter(frame.values())) if isinstance(frame, dict) else frame)


def states_of(network, frames):
    """Return the states of the network's own steps, the initial one first."""
    states = [network.initial_state(batch_of(frames[0]))]
    with torch.no_grad():
        for frame in frames:
            states.append(network.step(of_each(torch.from_numpy, frame), states[-1])[1])
    return states


def expected_outputs(network, frames):
    """Return the outputs of the network's own steps."""
    return np.array([state.values[network.graph.output].numpy()
                     for state in states_of(network, frames)[1:]])


def window_of(network, frames):
    """Return frames as the network's windows are, (B, T, *shape) of every input."""
    return {name: torch.stack([torch.from_numpy(by_input(network.inputs, frame)[name])
                               for frame in frames], dim=1) for name in network.inputs}
