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
