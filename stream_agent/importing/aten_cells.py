"""Recurrent operators: each layer becomes a cell that takes one step."""

from collections.abc import Sequence
from typing import Any

from stream_agent.importing.aten import Args
from stream_agent.importing.aten_shapes import joined
from stream_agent.importing.aten_values import unary
from stream_agent.importing.tracing import reads, Tracer, Value
from torch import Tensor

NAMES = ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh')
STATELESS = ('starts from a constant in every call, so that the policy forgets after each frame',
             'let forward take its state as an input and return the new one')


def vector(tracer: Tracer, value: Value) -> Value:
    """Return a value of one sample as (B, features)."""
    return tracer.reshaped(value, (1, value.size[-1]), 0)


def stepped(tracer: Tracer, value: Value, state: Sequence[Value], weights: Sequence[Any]
            ) -> list[Value]:
    """
    Add one step of a cell.

    :param value: As ``vector`` gives it; the state too: hidden, and for an LSTM its cell.
    :param weights: In torch's order, biases may be missing or None.
    :returns: The new state.
    """
    named = {name: tracer.weight(weight) for name, weight in zip(NAMES, weights)
             if weight is not None}
    hidden, features = state[0], state[0].size[-1]
    kind = tracer.operator.partition('_')[0].partition('.')[0]
    if kind in ('gru', 'lstm'):
        cell = {f'cell.{name}': weight for name, weight in named.items()}
        options = {} if 'bias_ih' in named else {'bias': False}
        if kind == 'gru':
            return [tracer.emit('gru_cell', [value, hidden], hidden.like, 0, options, cell)]
        pair = hidden.like.new_empty(1, 2 * features)
        both = tracer.emit('concatenate', state, pair, 0, {'axis': 1})
        both = tracer.emit('lstm_cell', [value, both], pair, 0, options, cell)
        return [tracer.emit('slice', [both], hidden.like, 0,
                            {'axis': 1, 'start': start, 'length': features})
                for start in (0, features)]
    sums = []
    for source, part in ((value, 'ih'), (hidden, 'hh')):
        layer = {'weight': named[f'weight_{part}']}
        if f'bias_{part}' in named:
            layer['bias'] = named[f'bias_{part}']
        settings: Args = {'features': features} | ({} if 'bias' in layer else {'bias': False})
        sums.append(tracer.emit('linear', [source], hidden.like, 0, settings, layer))
    total = tracer.emit('add', sums, hidden.like, 0)
    return [unary(tracer, 'relu' if 'relu' in tracer.operator else 'tanh', total, total.like)]


@reads('gru_cell', 'lstm_cell', 'rnn_tanh_cell', 'rnn_relu_cell')
def cell(tracer: Tracer, a: Args, like: Any) -> Any:
    given = a['hx'] if isinstance(a['hx'], (list, tuple)) else [a['hx']]
    if any(isinstance(state, Tensor) for state in given):
        tracer.refuse(*STATELESS)
    results = stepped(tracer, vector(tracer, a['self']),
                      [vector(tracer, state) for state in given],
                      [a['w_ih'], a['w_hh'], a['b_ih'], a['b_hh']])
    return results[0] if isinstance(like, Tensor) else tuple(results)


@reads('gru', 'lstm', 'rnn_tanh', 'rnn_relu')
def layers(tracer: Tracer, a: Args, like: Sequence[Tensor]) -> tuple[Value, ...]:
    """Read layers of cells; (output, new states)."""
    if 'batch_sizes' in a:
        tracer.unknown()
    if a['bidirectional']:
        tracer.refuse('reads frames of the future (bidirectional)', 'use one direction')
    steps = a['self'].size[1 if a['batch_first'] else 0]
    if steps != 1:
        tracer.refuse(f'takes {steps} frames at once', 'export it for one frame, with its state '
                      'as input and output')
    if a['dropout'] and a['train'] and a['num_layers'] > 1:
        tracer.refuse('drops out in each call', 'call .eval() before the export')
    states = a['hx'] if isinstance(a['hx'], (list, tuple)) else [a['hx']]
    if any(isinstance(state, Tensor) for state in states):
        tracer.refuse(*STATELESS)
    value, weights = vector(tracer, a['self']), a['params']
    each = len(weights) // a['num_layers']
    if each != (4 if a['has_biases'] else 2):
        tracer.refuse('projects its state (proj_size)', 'use a linear layer behind it')
    found = []
    for layer in range(a['num_layers']):
        parts = [of_layer(tracer, state, layer) for state in states]
        found.append(stepped(tracer, value, parts, weights[layer * each:(layer + 1) * each]))
        value = found[-1][0]
    return (tracer.reshaped(value, like[0].shape, 0),
            *(stacked(tracer, parts, part) for parts, part in zip(zip(*found), like[1:])))


def of_layer(tracer: Tracer, state: Value, layer: int) -> Value:
    """Return one layer's vector of a state, traced as (layers, batch, features)."""
    if state.size[0] == 1:
        return vector(tracer, state)
    state = tracer.with_axis(state, 1)
    like = state.like.new_empty(1, state.size[-1])
    return tracer.emit('select', [state], like, 0, {'axis': 1, 'index': layer})


def stacked(tracer: Tracer, parts: Sequence[Value], like: Tensor) -> Value:
    size = (1, 1, like.shape[-1])
    if len(parts) == 1:
        return tracer.reshaped(parts[0], size, 1)
    return joined(tracer, [tracer.reshaped(part, size, 1) for part in parts], 0, like)
