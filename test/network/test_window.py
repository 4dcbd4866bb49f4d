"""Windows computed at once against the same windows stepped: outputs, states, gradients."""

from hypothesis import given, strategies as st
import pytest
from stream_agent.cli.arguments import open_graph
from stream_agent.network.program import State
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.transforms import CELLS
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.graph import EdgeSpec, GraphSpec, NodeSpec
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern
from support.graphs import EVERY_LAYER, FIGURE_2, SR, THREE_INPUTS
from support.strategies import examples, valid_patterns_of
import torch

ACTIVATIONS = ('identity', 'tanh', 'sigmoid')
# Those that carry nothing besides what others read.
PLAIN_CELLS = [name for name, cell in CELLS.items() if not cell.carried]


@st.composite
def rollouts(draw):
    """Draw a graph of one or two inputs with cells, gates, periods, noise, and a valid pattern."""
    size = draw(st.integers(2, 6))
    names = ['img', 'a', 'b', 'c', 'd', 'e'][:size]
    pairs = {(names[draw(st.integers(0, i - 1))], names[i]) for i in range(1, size)}
    pairs |= draw(st.sets(st.tuples(st.sampled_from(names), st.sampled_from(names[1:])),
                          max_size=6))
    output = draw(st.sampled_from(names[1:]))
    cells = {v: draw(st.sampled_from(PLAIN_CELLS if v == output else [*CELLS]))
             for v in names[1:] if draw(st.integers(0, 3)) == 0}
    pairs |= {(v, v) for v in cells}
    inputs = {'img': (2,), **({'speed': (3,)} if draw(st.booleans()) else {})}
    pairs |= {(u, v) for u in [*inputs][1:] for v in draw(st.sets(
        st.sampled_from(names[1:]), min_size=1))}
    disturbed = draw(st.booleans())
    nodes = [NodeSpec(name, shape, noise=0.1 * (disturbed and draw(st.booleans())))
             for name, shape in inputs.items()]
    for name in names[1:]:
        period = draw(st.sampled_from((1, 1, 2, 3)))
        nodes.append(NodeSpec(
            name, (2,), activation=draw(st.sampled_from(
                ACTIVATIONS if cells.get(name, 'gilr') in PLAIN_CELLS else ACTIVATIONS[:1])),
            normalisation=draw(st.sampled_from(('none', 'layer'))),
            cell=cells.get(name, ''), period=period,
            offset=draw(st.integers(0, period - 1)),
            dropout=0.3 * (disturbed and draw(st.booleans())),
            noise=0.2 * (disturbed and draw(st.booleans()))))
    edges = []
    for u, v in sorted(pairs):
        if u == v and v in cells:
            edges.append(EdgeSpec(u, v, 'identity', streams=True))
        else:
            edges.append(EdgeSpec(u, v, product=draw(st.sampled_from(('', '', 'gate'))),
                                  dropout=0.3 * (disturbed and draw(st.booleans()))))
    products = [(edge.target, edge.product) for edge in edges]
    edges = [edge if not edge.product or products.count((edge.target, edge.product)) > 1
             else EdgeSpec(edge.source, edge.target, dropout=edge.dropout) for edge in edges]
    graph = GraphSpec(tuple(nodes), tuple(edges), output)
    return graph, draw(valid_patterns_of([*{*names, *inputs}], pairs))


def network_of(graph, pattern):
    torch.manual_seed(1)
    return RolloutNetwork(graph, pattern).double()


def some_state(network, batch, frame=0):
    """Return a state that is no reset, of which gradients are wanted."""
    return State({name: torch.randn_like(value).requires_grad_()
                  for name, value in network.initial_state(batch).values.items()}, frame)


def results(network, compute, frames, state):
    """Return outputs and last state, and the gradients of a sum over all of them."""
    torch.manual_seed(3)
    outputs, last = compute(frames, state)
    total = sum((value * torch.linspace(1, 2, value.numel(), dtype=value.dtype).view_as(value)
                 ).sum() for value in (outputs, *last.values.values()))
    given = frames.values() if isinstance(frames, dict) else [frames]
    inputs = [*given, *state.values.values(), *network.parameters()]
    gradients = torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)
    return outputs, last, gradients


def assert_equal_to_steps(network, length, batch=2, frame=0, **options):
    torch.manual_seed(2)
    frames = {name: torch.randn(batch, length, *network.shapes[name],
                                dtype=torch.float64).requires_grad_() for name in network.inputs}
    if len(frames) == 1 and length % 2:  # one may be given by its name, too
        (frames,) = frames.values()
    state = some_state(network, batch, frame)
    updates = options.get('updates_per_frame', 1)
    outputs, last, gradients = results(
        network, lambda *window: network(*window, **options), frames, state)
    by_steps = results(network, lambda *window: network.stepped(*window, updates), frames, state)
    close = {'rtol': 1e-10, 'atol': 1e-10}
    torch.testing.assert_close(outputs, by_steps[0], **close)
    assert last.frame == by_steps[1].frame == frame + length * updates
    torch.testing.assert_close(dict(last.values), dict(by_steps[1].values), **close)
    torch.testing.assert_close(gradients, by_steps[2], **close)


@examples(25)
@given(rollouts(), st.integers(1, 9), st.integers(0, 5), st.sampled_from((1, 1, 2, 3)),
       st.sampled_from((None, None, 1, 4)), st.booleans())
def test_a_window_is_its_steps(rollout, length, frame, updates, segment, training):
    network = network_of(*rollout).train(training)
    assert_equal_to_steps(network, length, frame=frame, updates_per_frame=updates,
                          segment=segment)


@pytest.mark.parametrize('graph', (FIGURE_2, SR), ids=('figure 2', 'SR'))
def test_every_valid_pattern(graph):
    for pattern in valid_patterns(graph):
        assert_equal_to_steps(network_of(graph, pattern), 7)


@pytest.mark.parametrize('pattern', (newest_image_pattern, sequential_pattern))
@pytest.mark.parametrize('graph', (EVERY_LAYER, open_graph('gated_policy'), THREE_INPUTS),
                         ids=('every layer', 'gated policy', 'three inputs'))
def test_every_layer(graph, pattern):
    assert_equal_to_steps(network_of(graph, pattern(graph)), 5, batch=1)


def test_windows_one_after_another_are_one_window():
    network = network_of(EVERY_LAYER, newest_image_pattern(EVERY_LAYER)).eval()
    frames = torch.randn(2, 9, *network.shapes[network.input], dtype=torch.float64)
    whole, last = network(frames, network.initial_state(2))
    first, between = network(frames[:, :4], network.initial_state(2))
    second, end = network(frames[:, 4:], between)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(dict(end.values), dict(last.values))


def test_an_empty_window_is_refused():
    network = network_of(SR, newest_image_pattern(SR))
    frames = torch.empty(2, 0, *network.shapes[network.input], dtype=torch.float64)
    with pytest.raises(ValueError, match='^the window has no frame; give at least one$'):
        network(frames, network.initial_state(2))


@pytest.mark.parametrize('change, said', [
    (lambda frames: frames.pop('joints'), "the input 'joints' is missing; give it beside scan, "
     'depth'),
    (lambda frames: frames.update(depths=1), "'depths' is not an input; did you mean 'depth'?"),
    (lambda frames: frames.update(scan=frames['scan'][:, :4]), "the window has 4 frames of 'scan',"
     " 5 frames of 'depth', 5 frames of 'joints'; give as many of every input")])
@pytest.mark.parametrize('compute', ['__call__', 'stepped', 'window'])
def test_windows_whose_inputs_do_not_fit_are_refused(compute, change, said):
    network = network_of(THREE_INPUTS, newest_image_pattern(THREE_INPUTS))
    frames = {name: torch.zeros(2, 5, *network.shapes[name], dtype=torch.float64)
              for name in network.inputs}
    getattr(network, compute)(frames, network.initial_state(2))
    change(frames)
    with pytest.raises(ValueError) as error:
        getattr(network, compute)(frames, network.initial_state(2))
    assert str(error.value) == said


def test_segments_keep_less_for_the_gradients():
    """What is saved for the backward pass, counted by autograd's own hook."""
    graph = GraphSpec((NodeSpec('img', (4,)), NodeSpec('a', (64,), activation='tanh'),
                       NodeSpec('b', (64,), activation='tanh')),
                      (EdgeSpec('img', 'a'), EdgeSpec('a', 'b')), 'b')
    network = network_of(graph, sequential_pattern(graph))
    frames = torch.randn(1, 64, 4, dtype=torch.float64)

    def saved(segment):
        sizes = {}
        with torch.autograd.graph.saved_tensors_hooks(
                lambda value: sizes.setdefault(value.data_ptr(), value.numel()) and value,
                lambda value: value):
            network(frames, network.initial_state(), segment=segment)
        return sum(sizes.values())

    assert saved(8) < saved(None) / 2
