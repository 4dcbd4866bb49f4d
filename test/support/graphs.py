"""The graphs of the tests: the paper's worked examples, and one that exercises every layer."""

from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import InvalidRolloutError, Pattern, update_order


def bare_graph(edges: str, output: str, streams: str = '') -> GraphSpec:
    """
    Make a graph of one-feature nodes.

    :param edges: As 'u->v v->w'.
    :param streams: The edges that stream in the sequential rollout too.
    """
    pairs = [edge.split('->') for edge in edges.split()]
    names = dict.fromkeys(name for pair in pairs for name in pair)
    return graph_from_data({
        'nodes': {name: {'shape': [3]} for name in names},
        'edges': [{'source': u, 'target': v, 'streams': f'{u}->{v}' in streams.split()}
                  for u, v in pairs],
        'output': output})


def is_valid(graph: GraphSpec, pattern: Pattern) -> bool:
    """Return whether there is an order of update."""
    try:
        update_order(graph, pattern)
    except InvalidRolloutError:
        return False
    return True


FIGURE_2 = bare_graph('u->v v->w v->v u->w w->v', 'w', streams='v->v w->v')
SR = bare_graph('img->h1 h1->h2 h2->out h1->h1 h1->out', 'out', streams='h1->h1')
FF = bare_graph('img->h1 h1->h2 h2->out', 'out')

# Every transform, with shapes written and inferred, two cells, a gate (the product), and a body of
# tokens that reads itself.
EVERY_LAYER = graph_from_data({
    'nodes': {
        'image': {'shape': [1, 8, 8]},
        'edges': {'shape': [5, 4, 4], 'normalisation': 'layer', 'activation': 'relu'},
        'blurred': {'activation': 'elu'},
        'map_memory': {'channels': 2, 'cell': 'gilr'},
        'memory': {'cell': 'gilr', 'normalisation': 'layer'},
        'tokens': {'shape': [4, 5], 'body': [
            {'name': 'flat', 'kind': 'reshape', 'of': ['blurred'], 'shape': [-1, 5, 4]},
            {'name': 'turned', 'kind': 'permute', 'of': ['flat'], 'axes': [0, 2, 1]},
            {'name': 'linear', 'kind': 'linear', 'of': ['turned'], 'features': 5},
            {'name': 'seen', 'kind': 'attention', 'of': ['linear', 'turned', 'tokens']},
            {'name': 'all', 'kind': 'add', 'of': ['seen', 'linear']}]},
        'command': {'shape': [2], 'activation': 'tanh'}},
    'edges': [
        {'source': 'image', 'target': 'edges', 'transform': 'convolution', 'stride': 2},
        {'source': 'edges', 'target': 'blurred', 'transform': 'pooling', 'kernel': 2},
        {'source': 'blurred', 'target': 'map_memory', 'transform': 'transposed'},
        {'source': 'map_memory', 'target': 'map_memory', 'transform': 'identity',
         'streams': True},
        {'source': 'blurred', 'target': 'memory', 'transform': 'keypoints'},
        {'source': 'memory', 'target': 'memory', 'transform': 'identity', 'streams': True},
        {'source': 'map_memory', 'target': 'memory', 'transform': 'dense', 'product': 'gate'},
        {'source': 'command', 'target': 'memory', 'transform': 'dense', 'product': 'gate',
         'streams': True},
        {'source': 'blurred', 'target': 'tokens', 'transform': 'operand'},
        {'source': 'tokens', 'target': 'tokens', 'transform': 'operand', 'streams': True},
        {'source': 'tokens', 'target': 'memory', 'transform': 'dense'},
        {'source': 'memory', 'target': 'command', 'transform': 'dense'},
        {'source': 'image', 'target': 'command', 'transform': 'readout', 'kernel': 2},
        {'source': 'edges', 'target': 'edges', 'transform': 'pointwise', 'streams': True},
        {'source': 'blurred', 'target': 'edges', 'transform': 'upsampling', 'streams': True}],
    'output': 'command'})

# An image with a vector, and with two: into maps and features, a gate, a cell, and the output
# itself; the second has a vector first, and commands six joints.
TWO_INPUTS = graph_from_data({
    'nodes': {'image': {'shape': [1, 8, 8]}, 'odometry': {'shape': [6]},
              'edges': {'shape': [4, 4, 4], 'activation': 'relu'},
              'memory': {'shape': [5], 'cell': 'gilr'},
              'command': {'shape': [2], 'activation': 'tanh'}},
    'edges': [
        {'source': 'image', 'target': 'edges', 'transform': 'convolution', 'stride': 2},
        {'source': 'edges', 'target': 'memory', 'product': 'gate'},
        {'source': 'odometry', 'target': 'memory', 'product': 'gate'},
        {'source': 'memory', 'target': 'memory', 'transform': 'identity', 'streams': True},
        {'source': ['memory', 'odometry'], 'target': 'command'},
        {'source': 'image', 'target': 'command', 'transform': 'readout', 'kernel': 2}],
    'output': 'command'})
THREE_INPUTS = graph_from_data({
    'nodes': {'scan': {'shape': [20]}, 'depth': {'shape': [1, 6, 6]}, 'joints': {'shape': [2, 3]},
              'map': {'shape': [4, 6, 6], 'activation': 'relu'},
              'hidden': {'shape': [8], 'activation': 'relu'},
              'tokens': {'shape': [2, 3], 'body': [
                  {'name': 'sum', 'kind': 'add', 'of': ['joints', 'tokens']},
                  {'name': 'bounded', 'kind': 'tanh', 'of': ['sum']}]},
              'velocities': {'shape': [6], 'activation': 'tanh'}},
    'edges': [
        {'source': 'depth', 'target': 'map', 'transform': 'convolution'},
        {'source': 'scan', 'target': 'map'},
        {'source': ['scan', 'map', 'joints'], 'target': 'hidden'},
        {'source': 'joints', 'target': 'tokens', 'transform': 'operand'},
        {'source': 'tokens', 'target': 'tokens', 'transform': 'operand', 'streams': True},
        {'source': 'hidden', 'target': 'hidden', 'streams': True},
        {'source': ['hidden', 'tokens', 'scan'], 'target': 'velocities'}],
    'output': 'velocities'})
