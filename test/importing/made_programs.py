"""Programs made by hand, as readers would make them of networks."""

from stream_agent.importing.program import ImportedOperation, ImportedProgram, ImportedState
import torch


class Builder:
    """Adds operations to a program; each method returns the name of the value."""

    def __init__(self, shape, states=None, seed=0):
        self.operations, self.states = [], states or {}
        self.inputs = {'image': tuple(shape)}
        self._random = torch.Generator().manual_seed(seed)

    def random(self, *shape, scale=1.0):
        return torch.randn(shape, generator=self._random) * scale

    def add(self, kind, *of, name='', module=None, weights=None, **options):
        """Add an operation; its module is its name with dots for double underscores."""
        name = name or f'{kind}_{len(self.operations)}'
        module = name.replace('__', '.') if module is None else module
        self.operations.append(ImportedOperation(
            name.replace('__', '_'), kind, of, options, weights or {}, module))
        return name.replace('__', '_')

    def convolution(self, source, channels, out, kernel=3, name='', groups=1, bias=False,
                    padding=None, **options):
        padding = [kernel // 2] * 4 if padding is None else padding
        fan = channels // groups * kernel**2
        weights = {'layer.weight': self.random(out, channels // groups, kernel, kernel,
                                               scale=(2 / fan)**0.5)}
        if bias:
            weights['layer.bias'] = self.random(out, scale=0.2)
        return self.add('convolution', source, name=name, weights=weights, channels=out,
                        kernel=[kernel, kernel], padding=padding, groups=groups, bias=bias,
                        **options)

    def affine(self, source, channels, name='', axes=2):
        shape = [channels, *[1] * axes]
        return self.add('affine', source, name=name, shape=shape, weights={
            'weight': 1 + self.random(*shape, scale=0.1), 'bias': self.random(*shape, scale=0.1)})

    def linear(self, source, features, out, name=''):
        return self.add('linear', source, name=name, features=out, weights={
            'weight': self.random(out, features, scale=features**-0.5),
            'bias': self.random(out, scale=0.2)})

    def relu(self, source, name='', module=None):
        return self.add('relu', source, name=name, module=module)

    def program(self, output, **states):
        """Return the program; a state is given as the name of its next value."""
        return ImportedProgram(self.inputs, {
            name: ImportedState(self.states[name], after) for name, after in states.items()},
            tuple(self.operations), output)


def residual_block(b, x, channels, out, name, stride=1):
    """Add two convolutions with a skip connection, by a convolution where the shape changes."""
    y = b.convolution(x, channels, out, name=f'{name}__conv1', stride=[stride, stride])
    y = b.relu(b.affine(y, out, f'{name}__bn1'), f'{name}__relu')
    y = b.affine(b.convolution(y, out, out, name=f'{name}__conv2'), out, f'{name}__bn2')
    if stride > 1 or channels != out:
        x = b.convolution(x, channels, out, 1, f'{name}__downsample__0', stride=[stride, stride])
        x = b.affine(x, out, f'{name}__downsample__1')
    y = b.add('add', y, x, name=f'{name}__add', module=name.replace('__', '.'))
    return b.relu(y, f'{name}__relu_1', name.replace('__', '.') + '.relu')


def residual(size=64, width=8, classes=10, blocks=2):
    """Return a program in the manner of ResNet-18, which it is with 224, 64, 1000."""
    b = Builder((3, size, size))
    x = b.convolution('image', 3, width, 7, 'conv1', stride=[2, 2])
    x = b.relu(b.affine(x, width, 'bn1'), 'relu')
    x = b.add('max_pool', x, name='maxpool', kernel=[3, 3], stride=[2, 2], padding=[1] * 4)
    channels = width
    for layer in range(4):
        for block in range(blocks):
            out = width * 2**layer
            stride = 2 if layer and not block else 1
            x = residual_block(b, x, channels, out, f'layer{layer + 1}__{block}', stride)
            channels = out
    x = b.add('adaptive_average', x, name='avgpool', size=[1, 1])
    x = b.add('reshape', x, name='flatten', module='', shape=[-1, channels])
    return b.program(b.linear(x, channels, classes, 'fc'))


def shuffled(size=16, channels=8):
    """Return halves of the channels that are computed apart and shuffled, three times."""
    b = Builder((3, size, size))
    x = b.relu(b.convolution('image', 3, channels, name='stem'))
    half = channels // 2
    for i in range(3):
        one, two = (b.add('slice', x, axis=1, start=start, length=half) for start in (0, half))
        two = b.relu(b.convolution(two, half, half, name=f'unit{i}__conv'))
        x = b.add('concatenate', one, two, axis=1)
        x = b.add('reshape', x, shape=[-1, 2, half, size, size])
        x = b.add('permute', x, axes=[0, 2, 1, 3, 4])
        x = b.add('reshape', x, shape=[-1, channels, size, size])
    return b.program(b.linear(b.add('mean', x, axes=[2, 3]), channels, 4, 'fc'))


def transformer(tokens=9, width=8, heads=2, blocks=2):
    """Return blocks of attention whose queries, keys and values leave the batch in the middle."""
    b = Builder((3, 12, 12))
    x = b.convolution('image', 3, width, 4, 'patch', padding=[0] * 4, stride=[4, 4])
    x = b.add('permute', b.add('reshape', x, shape=[-1, width, tokens]), axes=[0, 2, 1])
    token = b.add('constant', name='cls', shape=[1, width],
                  weights={'value': b.random(1, width)})
    x = b.add('concatenate', token, x, axis=1)
    place = b.add('constant', name='places', shape=[tokens + 1, width],
                  weights={'value': b.random(tokens + 1, width)})
    x = b.add('add', x, place, module='')
    for i in range(blocks):
        name, count = f'block{i}', tokens + 1
        y = norm(b, x, width, f'{name}__norm1')
        y = b.linear(y, width, 3 * width, f'{name}__attn__qkv')
        y = b.add('reshape', y, shape=[-1, count, 3, heads, width // heads])
        y = b.add('permute', y, axes=[2, 0, 3, 1, 4])
        y = b.add('attention', *(b.add('select', y, axis=0, index=j) for j in range(3)))
        y = b.add('reshape', b.add('permute', y, axes=[0, 2, 1, 3]), shape=[-1, count, width])
        x = b.add('add', x, b.linear(y, width, width, f'{name}__attn__proj'), module=name)
        y = norm(b, x, width, f'{name}__norm2')
        y = b.add('gelu', b.linear(y, width, 2 * width, f'{name}__mlp__fc1'))
        x = b.add('add', x, b.linear(y, 2 * width, width, f'{name}__mlp__fc2'), module=name)
    x = b.add('select', norm(b, x, width, 'norm'), axis=1, index=0)
    return b.program(b.linear(x, width, 4, 'head'))


def norm(b, x, width, name):
    return b.add('layer_norm', x, name=name, shape=[width], weights={
        'weight': 1 + b.random(width, scale=0.1), 'bias': b.random(width, scale=0.1)})


def excited(size=16, width=8, blocks=3):
    """Return residual blocks whose channels a gate weighs."""
    b = Builder((3, size, size))
    x = b.add('silu', b.convolution('image', 3, width, name='stem', bias=True))
    for i in range(blocks):
        y = b.convolution(x, width, 2 * width, 1, f'block{i}__expand')
        y = b.add('silu', b.affine(y, 2 * width, f'block{i}__bn'))
        y = b.convolution(y, 2 * width, 2 * width, name=f'block{i}__depthwise', groups=2 * width)
        gate = b.add('mean', y, axes=[2, 3], keep=True)
        gate = b.relu(b.convolution(gate, 2 * width, 2, 1, f'block{i}__se__down', bias=True))
        gate = b.convolution(gate, 2, 2 * width, 1, f'block{i}__se__up', bias=True)
        y = b.add('multiply', y, b.add('sigmoid', gate))
        y = b.convolution(y, 2 * width, width, 1, f'block{i}__project', bias=True)
        x = b.add('add', x, y, name=f'block{i}__add', module=f'block{i}')
    return b.program(b.linear(b.add('mean', x, axes=[2, 3]), width, 4, 'fc'))


def cell(b, kind, value, state, features, hidden, name):
    gates = {'gru_cell': 3, 'lstm_cell': 4}[kind] * hidden
    weights = {'cell.weight_ih': b.random(gates, features, scale=0.4),
               'cell.weight_hh': b.random(gates, hidden, scale=0.4),
               'cell.bias_ih': b.random(gates, scale=0.1),
               'cell.bias_hh': b.random(gates, scale=0.1)}
    return b.add(kind, value, state, name=name, weights=weights)


def features_of(b, size):
    """Add the layers of a small policy in front of its memory."""
    x = b.relu(b.convolution('image', 3, 8, name='encoder__conv', stride=[2, 2]))
    return b.add('mean', b.relu(b.convolution(x, 8, 6, name='encoder__conv2')), axes=[2, 3])


def recurrent(size=16):
    """Return a policy with a GRU cell: (image, h) to (command, h)."""
    b = Builder((3, size, size), {'h': (5,)})
    h = cell(b, 'gru_cell', features_of(b, size), 'h', 6, 5, 'gru')
    return b.program(b.add('tanh', b.linear(h, 5, 2, 'head')), h=h)


def recurrent_in_layers(size=16, layers=2, hidden=5):
    """Return an LSTM of layers: (image, h, c) to (command, h, c), as torch has it."""
    b = Builder((3, size, size), {name: (layers, hidden) for name in ('h', 'c')})
    x, features, after = features_of(b, size), 6, {'h': [], 'c': []}
    for layer in range(layers):
        parts = [b.add('select', name, axis=1, index=layer) for name in after]
        state = cell(b, 'lstm_cell', x, b.add('concatenate', *parts, axis=1), features, hidden,
                     f'lstm_{layer}')
        for i, found in enumerate(after.values()):
            found.append(b.add('slice', state, axis=1, start=i * hidden, length=hidden))
        x, features = after['h'][-1], hidden
    stacked = {name: b.add('concatenate', *(
        b.add('reshape', part, shape=[-1, 1, hidden]) for part in parts), axis=1)
        for name, parts in after.items()}
    return b.program(b.add('tanh', b.linear(x, hidden, 2, 'head')), **stacked)


def with_last_image(size=16):
    """Return a policy that sees what has changed since the last image."""
    b = Builder((3, size, size), {'last': (3, size, size)})
    change = b.add('concatenate', 'image', b.add('subtract', 'image', 'last'), axis=1)
    x = b.relu(b.convolution(change, 6, 4, name='conv'))
    return b.program(b.linear(b.add('mean', x, axes=[2, 3]), 4, 2, 'head'), last='image')
