"""Networks of torch, read as operations of the vocabulary: the same values, or a clear refusal."""

from functools import partial
import pickle
from types import SimpleNamespace
import zipfile

import pytest
from stream_agent.engine.engine import Engine
from stream_agent.importing.cutting import cut
from stream_agent.importing.exported import (
    read_module, read_pt2, reading_of, reading_of_pt2)
from stream_agent.importing.graph_making import make_network
from stream_agent.importing.program import ImportFault
from stream_agent.importing.running import Whole
from stream_agent.importing.simplify import simplified
from stream_agent.importing.tracing import HANDLERS
import torch
from torch import nn
from torch.nn import functional

pytestmark = pytest.mark.thorough

IMAGE = (3, 8, 10)


class Does(nn.Module):
    """A forward written as a function of the module's parts and the input."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, input):
        return self.function(self, input)


def drawn(module, mean=0.0):
    """Return a module whose weights and statistics are not those it is made with."""
    torch.manual_seed(3)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.is_floating_point():
            with torch.no_grad():
                value.uniform_(0.5, 1.5) if 'var' in name else value.normal_(mean, 0.4)
    return module.eval()


@torch.no_grad()
def check(module, shape=IMAGE, batches=(1, 3)):
    """Compare what is read with the module, sample by sample where that takes one at a time."""
    program = read_module(module, {'input': shape})
    whole = Whole(program)
    for count in batches:
        images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(count))
        wanted = torch.cat([module(image[None]).reshape(1, -1) for image in images])
        found = whole(images).reshape(count, -1)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    return program


def channels(*numbers):
    return torch.tensor(numbers).view(-1, 1, 1)


LAYERS = {
    'same': (nn.Conv2d(3, 4, 3, padding='same'), IMAGE),
    'same, even': (nn.Conv2d(3, 4, (2, 4), padding='same', dilation=(2, 1)), IMAGE),
    'valid': (nn.Conv2d(3, 4, 3, padding='valid'), IMAGE),
    'grouped': (nn.Conv2d(3, 6, 3, 2, (1, 0), (1, 2), 3, bias=False), IMAGE),
    'one axis': (nn.Conv1d(3, 4, 3, 2, 1), (3, 9)),
    'transposed': (nn.ConvTranspose2d(3, 6, 3, 2, (0, 1), (1, 0), 3, False, (1, 2)), IMAGE),
    'batch norm': (nn.BatchNorm2d(3, eps=0.1), IMAGE),
    'batch norm without weights': (nn.BatchNorm2d(3, affine=False), IMAGE),
    'batch norm of numbers': (nn.BatchNorm1d(7), (7,)),
    'layer norm': (nn.LayerNorm([8, 10], eps=0.1), IMAGE),
    'layer norm without weights': (nn.LayerNorm(10, elementwise_affine=False), IMAGE),
    'group norm': (nn.GroupNorm(2, 4), (4, 5, 6)),
    'instance norm': (nn.InstanceNorm2d(3, affine=True, eps=0.1), IMAGE),
    'instance norm with statistics': (nn.InstanceNorm2d(3, track_running_stats=True), IMAGE),
    'root mean square norm': (nn.RMSNorm(10), IMAGE),
    'slopes': (nn.PReLU(3), IMAGE), 'one slope': (nn.PReLU(), IMAGE),
    'weight norm': (nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), IMAGE),
    'attention, sequence first': (Does(lambda self, x: self.part(*[x.transpose(0, 1)] * 3)[0],
                                       part=nn.MultiheadAttention(8, 2)), (6, 8)),
    'attention, dead weights': (Does(lambda self, x: self.part(x, x, x)[0],
                                     part=nn.MultiheadAttention(8, 2, batch_first=True)), (6, 8)),
    'attention, weights': (Does(lambda self, x: self.part(x, x, x)[1],
                                part=nn.MultiheadAttention(8, 2, batch_first=True)), (6, 8)),
    'attention, mask': (Does(lambda self, x: self.part(
        x, x, x, attn_mask=torch.ones(6, 6).triu(1).bool(), need_weights=False)[0],
        part=nn.MultiheadAttention(8, 2, batch_first=True)), (6, 8)),
    'attention, queries': (Does(lambda self, x: self.part(self.own.expand(len(x), -1, -1), x, x)[
        0], part=nn.MultiheadAttention(8, 2, batch_first=True),
                                own=nn.Parameter(torch.zeros(1, 3, 8))), (6, 8)),
    'transformer': (nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)), (6, 8)),
    'twice': (Does(lambda self, x: self.part(self.part(x)), part=nn.Conv2d(3, 3, 3)), IMAGE),
    'embedding of places': (Does(lambda self, x: x + self.part(torch.arange(10)).mean(-1),
                                 part=nn.Embedding(10, 4)), IMAGE)}


@pytest.mark.parametrize('name', LAYERS)
def test_layers_give_what_they_gave(name):
    module, shape = LAYERS[name]
    check(drawn(module), shape)


ACTIVATIONS = [
    nn.ReLU6(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SELU(), nn.CELU(0.7), nn.GELU(),
    nn.GELU('tanh'), nn.SiLU(), nn.Mish(), nn.Hardswish(), nn.Hardsigmoid(),
    nn.Hardtanh(-0.5, 0.4), nn.Softplus(2.0), nn.Softmax(1), nn.LogSoftmax(1), nn.LogSigmoid(),
    nn.GLU(2), nn.Dropout2d(), nn.Softsign(), nn.Threshold(0.0, 0.0)]


def windows(self, x):
    """Attention in four windows, which are counted in the batch's axis for a while."""
    batch = len(x)
    parts = x.view(batch, 3, 2, 4, 2, 5).permute(0, 2, 4, 3, 5, 1).reshape(-1, 20, 3)
    parts = parts + functional.scaled_dot_product_attention(parts, parts, parts)
    parts = functional.conv1d(parts.transpose(1, 2), torch.ones(4, 3, 3), padding=1)
    return parts.reshape(batch, 2, 2, 4, 4, 5).permute(0, 3, 1, 4, 2, 5).reshape(batch, 4, 8, 10)


def written_into(self, x):
    """Write in place, through views."""
    x = x.clone()
    x[:, 0] *= 2
    x[:, :, 2:4] = 1.0
    return x.add_(1)


def without_gradients(self, x):
    with torch.no_grad():
        return x * 2


FORWARDS = {
    'alpha': lambda self, x: torch.sub(torch.add(x, x * 2, alpha=0.3), x.tanh(), alpha=2),
    'from a number': lambda self, x: (1 - x) + 2 / (x.abs() + 1),
    'rsub': lambda self, x: torch.rsub(x, channels(1.0, 2.0, 3.0), alpha=2),
    'from a constant': lambda self, x: channels(1.0, 2.0, 3.0) - x,
    'normalised': lambda self, x: (x / 255 - channels(0.4, 0.5, 0.6)) / channels(0.2, 0.3, 0.4),
    'bounds': lambda self, x: functional.relu6(x) + x.clamp(min=-0.2).clamp(max=0.5),
    'ends': lambda self, x: x[:, :-1, 1:, -3:],
    'steps': lambda self, x: torch.cat([x[..., ::2, ::2], x[..., 1::2, 1::2]], 1),
    'chunk': lambda self, x: x.chunk(4, 3)[3] - x.split([7, 3], 3)[1][..., :1],
    'unbind': lambda self, x: torch.stack(x.unbind(1)[::-1], -1),
    'select': lambda self, x: x[:, 1] + x[:, -1],
    'first of the batch': lambda self, x: x[0].mean((1, 2)),
    'view of one': lambda self, x: x.view(1, -1) + x.view(x.size(0), -1) + x.flatten(1),
    'one number': lambda self, x: x.mean(),
    'sums': lambda self, x: x.sum((2, 3), keepdim=True) * x + x.mean(1, keepdim=True),
    'extremes': lambda self, x: x.max(1)[0] - x.amin(1) + (
        torch.max(x, -x) * torch.min(x, x * 2))[:, 0],
    'strides left out': lambda self, x: functional.max_pool2d(x, 2) + functional.avg_pool2d(x, 2),
    'max pool': lambda self, x: functional.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    'average pool': lambda self, x: functional.avg_pool2d(x, 3, 2, 1, True, False),
    'divisor': lambda self, x: functional.avg_pool2d(x, 3, 2, 1, False, False, 4),
    'pools of one axis': lambda self, x: functional.max_pool1d(x[:, :, 0], 3, 2, 1)
    + functional.avg_pool1d(x[:, :, 1], 3, 2, 1, False, False),
    'adaptive': lambda self, x: functional.adaptive_avg_pool2d(x, (None, 3))
    * functional.adaptive_max_pool2d(x, (8, 3)),
    'zeros around': lambda self, x: functional.pad(x, (1, 2, 0, 1)),
    'other channels': lambda self, x: functional.pad(x, (0, 0, 0, 0, 1, 1), value=0.5),
    'cropped': lambda self, x: functional.pad(x, (-1, 2)),
    'nearest': lambda self, x: functional.interpolate(x, scale_factor=1.3),
    'bilinear': lambda self, x: functional.interpolate(x, scale_factor=1.3, mode='bilinear'),
    'bilinear, sizes': lambda self, x: functional.interpolate(
        x, scale_factor=1.3, mode='bilinear', recompute_scale_factor=True),
    'corners': lambda self, x: functional.interpolate(x, (13, 17), mode='bilinear',
                                                      align_corners=True),
    'pixel shuffle': lambda self, x: functional.pixel_shuffle(
        functional.pixel_unshuffle(x, 2)[:, :, :, :4], 2),
    'channel shuffle': lambda self, x: functional.channel_shuffle(torch.cat([x, x * 2], 1), 3),
    'attention': lambda self, x: functional.scaled_dot_product_attention(
        x, x * 2, x + 1, is_causal=True, scale=0.3),
    'attention, three axes': lambda self, x: functional.scaled_dot_product_attention(
        x[:, 0], x[:, 1], x[:, 2], attn_mask=torch.arange(8)[:, None] >= torch.arange(8)),
    'places': lambda self, x: x + torch.arange(10) + torch.linspace(0, 1, 8)[:, None],
    'sizes of the batch': lambda self, x: torch.cat(
        [x, torch.zeros(len(x), 1, 8, 10), torch.ones_like(x[:, :1]),
         x.new_full((len(x), 1, 8, 10), 2.0)], 1),
    'powers': lambda self, x: x ** 2 + x.square() + (x.abs() + 1).rsqrt() + (x.abs() + 1) ** -1.3,
    'products': lambda self, x: torch.einsum('bchw,bdhw->bcd', x, x) @ (x @ x.mT)[:, 0, :3, :3],
    'product with a vector': lambda self, x: x @ torch.arange(10.0),
    'constant product': lambda self, x: torch.ones(4, 8).cumsum(1) @ x,
    'vector norm': lambda self, x: functional.normalize(x, dim=1),
    'variance': lambda self, x: x.var(1) + x.std((2, 3), unbiased=False)[:, :1, None],
    'log of a sum': lambda self, x: x.logsumexp(1),
    'other order': lambda self, x: x[:, [2, 1, 0]] + x.flip(1, 3) + x.roll((1, -2), (2, 3)),
    'constant mask': lambda self, x: x.masked_fill(torch.eye(8, 10).bool(), -torch.inf).softmax(-1)
    + torch.where(torch.eye(8, 10) > 0, x, 1.0),
    'added mask': lambda self, x: (x - 1e9 * torch.eye(8, 10)).softmax(-1) * (
        x + torch.zeros(8, 10).masked_fill(torch.eye(8, 10).bool(), -torch.inf)).softmax(-1),
    'written into': written_into, 'windows': windows, 'no gradients': without_gradients,
    'repeated': lambda self, x: x.repeat(1, 2, 1, 3) * x.mean(3, keepdim=True).repeat(1, 2, 1, 30),
    'expanded': lambda self, x: x.mean(1, keepdim=True).expand(-1, 5, -1, -1).flatten(1),
    'batch of two views': lambda self, x: torch.cat([x, x.flip(3)], 0).mean(0),
    'batch in second place': lambda self, x: functional.conv2d(
        x.transpose(0, 1), torch.ones(2, 1, 3, 3)).flatten(),
    'no batch': lambda self, x: functional.conv2d(x.squeeze(0), torch.ones(4, 3, 3, 3)),
    'whole numbers': lambda self, x: (x.float() / 255).double().float(),
    'squeeze and excite': lambda self, x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    'enlarged constant': lambda self, x: x + functional.interpolate(
        torch.arange(6.0).view(1, 1, 2, 3), (8, 10), mode='bicubic')}


FORWARDS |= {repr(act): partial(lambda act, self, x: act(x), act.eval()) for act in ACTIVATIONS}


@pytest.fixture(scope='module')
def pieces():
    """Return what all functions give, as read and by themselves; one export is for all."""
    whole = Whole(read_module(Does(lambda self, x: torch.cat(
        [function(self, x).reshape(1, -1) for function in FORWARDS.values()], 1)),
        {'input': IMAGE}))
    images = torch.randn(3, *IMAGE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = {name: torch.cat([function(None, image[None]).reshape(1, -1)
                                   for image in images]) for name, function in FORWARDS.items()}
        for one in images:  # a batch of one gives the same as a batch of three
            torch.testing.assert_close(whole(one[None]), whole(images)[(images == one).all(
                (1, 2, 3))], rtol=1e-4, atol=1e-5)
        found = whole(images).split([value.shape[1] for value in wanted.values()], 1)
    return {name: (one, wanted[name]) for name, one in zip(wanted, found)}


@pytest.mark.parametrize('name', FORWARDS)
def test_functions_give_what_they_gave(pieces, name):
    found, wanted = pieces[name]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize('backend', [
    'onnxruntime', pytest.param('openvino', marks=pytest.mark.child_process)])
def test_back_ends_compute_all_functions(backend):
    pytest.importorskip(backend)
    module = Does(lambda self, x: torch.cat(
        [function(self, x).reshape(1, -1) for function in FORWARDS.values()], 1))
    program = simplified(read_module(module, {'input': IMAGE}))
    costs = {operation.name: 1.0 for operation in program.operations}
    network = make_network(program, cut(program, costs))
    image = torch.randn(1, *IMAGE, generator=torch.Generator().manual_seed(5))
    found = Engine(network.eval(), 'cpu', backend=backend).respond(image[0].numpy())
    torch.testing.assert_close(torch.as_tensor(found).flatten(), module(image).flatten(),
                               rtol=1e-4, atol=1e-4)


def test_only_what_the_output_needs_is_read():
    module = drawn(Does(lambda self, x: (self.first(x), self.unused(x))[0],
                        first=nn.Conv2d(3, 2, 1), unused=nn.Conv2d(3, 2, 1)))
    assert [each.kind for each in check(module).operations] == ['convolution']


def test_tied_weights_are_one_tensor():
    module = drawn(nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10)))
    module[1].weight = module[0].weight
    first, second = check(module).operations
    assert first.weights['weight'] is second.weights['weight']
    assert first.weights['bias'] is not second.weights['bias']


def test_buffers_and_tensors_outside_the_state_are_read():
    module = Does(lambda self, x: (x - self.mean) * self.scale, scale=channels(1.0, 2.0, 3.0))
    module.register_buffer('mean', channels(0.1, 0.2, 0.3), persistent=False)
    check(module)


def test_operations_are_named_as_their_modules():
    block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(), nn.BatchNorm2d(3))
    module = drawn(Does(lambda self, x: self.layer1(x).relu() + x, layer1=nn.Sequential(block)))
    assert [(each.name, each.module) for each in check(module).operations] == [
        ('layer1_0_0', 'layer1.0.0'), ('layer1_0_2', 'layer1.0.2'), ('relu', ''), ('add', '')]


@pytest.mark.parametrize('kind', ['float64', 'float16'])
def test_other_precisions_are_converted_with_a_notice(kind):
    program = read_module(nn.Conv2d(3, 2, 1).to(getattr(torch, kind)), {'input': IMAGE})
    assert program.notices == (f'{kind} weights: converted to float32',)
    assert program.operations[0].weights['layer.weight'].dtype == torch.float32


# States.

class Memory(nn.Module):
    """Eyes and a recurrent module; forward takes and gives its state."""

    def __init__(self, cell, together=False):
        super().__init__()
        self.eyes, self.cell, self.together = nn.Linear(80, 5), cell, together
        self.head = nn.Linear(4, 2)

    def forward(self, image, h, c=None):
        value = self.eyes(image.flatten(2).mean(1))
        if self.together:
            state = self.cell(value[None], h if c is None else (h, c))
            value, state = state[0][-1], state[1]
        else:
            state = self.cell(value, h if c is None else (h, c))
            value = state if c is None else state[0]
        return (self.head(value), *(state if isinstance(state, tuple) else (state,)))


STATES = {'GRU cell': (Memory(nn.GRUCell(5, 4)), {'h': (4,)}),
          'LSTM cell': (Memory(nn.LSTMCell(5, 4)), {'h': (4,), 'c': (4,)}),
          'plain cell': (Memory(nn.RNNCell(5, 4, nonlinearity='relu')), {'h': (4,)}),
          'GRU': (Memory(nn.GRU(5, 4), True), {'h': (4,)}),
          'GRU without biases': (Memory(nn.GRU(5, 4, bias=False), True), {'h': (1, 4)}),
          'GRU of two layers': (Memory(nn.GRU(5, 4, 2), True), {'h': (2, 4)}),
          'LSTM of two layers': (Memory(nn.LSTM(5, 4, 2), True), {'h': (2, 4), 'c': (2, 4)}),
          'plain layers': (Memory(nn.RNN(5, 4, 2), True), {'h': (2, 4)})}


class Stack(nn.Module):
    """Keeps the last frames in a buffer, and a number that nobody reads."""

    def __init__(self, first=0.0):
        super().__init__()
        self.register_buffer('frames', torch.full((1, 9, 8, 10), first))
        self.register_buffer('count', torch.tensor(0), persistent=False)

    def forward(self, image):
        self.frames = torch.cat([self.frames[:, 3:], image], 1)
        self.count += 1
        return self.frames.mean((2, 3)) ** 2


class Sequence(Memory):
    """Takes a batch of sequences."""

    def forward(self, image, h):
        steps = image.shape[1]
        value, h = self.cell(self.eyes(image.flatten(3).mean(2)).transpose(0, 1), h)
        return self.head(value).transpose(0, 1).reshape(-1, steps, 2), h


class Shifted(nn.Module):
    """Writes into its buffer in place, whole and in part."""

    def __init__(self):
        super().__init__()
        self.register_buffer('rows', torch.zeros(1, 3, 10))

    def forward(self, image):
        self.rows.copy_(torch.roll(self.rows, 1, 1) * 0.5)
        self.rows[:, 0] = image.mean((1, 2))
        return self.rows.flatten(1)


STATES |= {'frames in a buffer': (Stack(), {}), 'buffer in place': (Shifted(), {}),
           'sequence of one': (Sequence(nn.GRU(5, 4)), {'h': (4,)})}


@pytest.mark.parametrize('name', STATES)
def test_states_are_handed_on(name, tmp_path):
    module, states = STATES[name]
    module = module if isinstance(module, (Stack, Shifted)) else drawn(module)
    reading = reading_of(module, {'input': IMAGE, **states})
    whole, given = Whole(reading.program), ()
    assert [*reading.program.inputs] == ['input'] and not reading.program.notices
    for frame in torch.randn(4, 1, *IMAGE):
        with torch.no_grad():
            found, *given = whole(frame, *given)
        torch.testing.assert_close(found.flatten(), reading.original(frame).flatten())


def test_a_file_gives_what_the_module_gave(tmp_path):
    module = drawn(Memory(nn.GRU(5, 4, 2), True))
    batch = torch.export.Dim('batch')
    example = torch.full((3, *IMAGE), 77.125), torch.zeros(2, 3, 4)
    exported = torch.export.export(module, example, dynamic_shapes=({0: batch}, {1: batch}))
    torch.export.save(exported, tmp_path / 'policy.pt2')
    reading = reading_of_pt2(tmp_path / 'policy.pt2')
    of_module = reading_of(module, {'image': IMAGE, 'h': (2, 4)})
    assert reading.program.states == of_module.program.states
    for frame in torch.randn(3, 1, *IMAGE):
        torch.testing.assert_close(reading.original(frame), of_module.original(frame))
    for one, other in zip(reading.program.operations, of_module.program.operations, strict=True):
        assert (one.name, one.kind, one.of, one.options, one.module) == (
            other.name, other.kind, other.of, other.options, other.module)
        assert all(torch.equal(one.weights[key], other.weights[key]) for key in other.weights)
    # It can be handed on by pickle; neither the example nor source paths are in it.
    data = pickle.dumps(reading.program)
    assert b'.py' not in data and torch.tensor(77.125).numpy().tobytes() not in data


def test_sizes_that_a_file_leaves_open_are_given(tmp_path):
    height = torch.export.Dim('height', min=4, max=64)
    torch.export.save(torch.export.export(nn.Conv2d(3, 2, 3), (torch.zeros(1, *IMAGE),),
                                          dynamic_shapes=({2: height},)), tmp_path / 'open.pt2')
    program = read_pt2(tmp_path / 'open.pt2', {'input': (3, 12, 10)})
    assert program.operations[0].shape == (2, 10, 8)
    for inputs, said in ((None, 'its height is dynamic; give --input 3xHx10'),
                         ({'input': (3, 12, 11)}, '3x12x11 does not fit the file, which takes '
                          '1x3xNx10 with its batch'),
                         ({'imput': IMAGE}, "no input 'imput'; did you mean 'input'?")):
        with pytest.raises(ImportFault) as refused:
            read_pt2(tmp_path / 'open.pt2', inputs)
        assert said in str(refused.value)


def test_whole_numbers_are_taken_as_they_are(tmp_path):
    module = Does(lambda self, x: x.float().mean((2, 3)) / 255)
    torch.export.save(torch.export.export(module, (torch.zeros(1, *IMAGE, dtype=torch.uint8),)),
                      tmp_path / 'whole.pt2')
    reading = reading_of_pt2(tmp_path / 'whole.pt2')
    frame = torch.randint(256, (1, *IMAGE)).float()
    assert reading.original.whole
    torch.testing.assert_close(Whole(reading.program)(frame), reading.original(frame))


# What is refused.

def keeps(self, x):
    self.last = self.last * 0.5 + x.mean((2, 3))
    return self.last


def lost(self, image, h):
    return Memory.forward(self, image, h)[0]


def module_of(forward, base=Memory, *arguments):
    return type('Policy', (base,), {'forward': forward})(*arguments)


GRU = nn.GRU(80, 4)
REFUSED = {
    'unknown': (Does(lambda self, x: self.part(x), part=Does(lambda self, x: x.cumsum(1))),
                "operator 'cumsum' of module 'part' (Does) is not in the vocabulary; replace it "
                'by operations of these kinds: absolute, '),
    'taken apart by torch': (nn.Hardshrink(), 'of forward of Hardshrink is not in the vocab'),
    'reflection': (nn.Conv2d(3, 2, 3, padding=1, padding_mode='reflect'),
                   "pads by reflection; only zeros are known; use padding_mode='zeros'"),
    'three axes': (Does(lambda self, x: functional.conv3d(x[:, None], torch.ones(1, 1, 2, 2, 2))),
                   'is not in the vocabulary'),
    'batch norm in training': (nn.Sequential(nn.BatchNorm2d(3)), "module '0' (BatchNorm2d) is a "
                               "batch norm that uses the batch's own statistics; call .eval()"),
    'batch norm without statistics': (nn.BatchNorm2d(3, track_running_stats=False).eval(),
                                      "uses the batch's own statistics; call .eval() before the "
                                      'export, and leave track_running_stats on'),
    'dropout in training': (nn.Sequential(nn.Dropout()), "module '0' (Dropout) drops out in each "
                            'call; call .eval() before the export'),
    'dropout in evaluation': (Does(lambda self, x: functional.dropout(x)).eval(),
                              'pass training=self.training'),
    'attention in training': (Does(
        lambda self, x: self.part(x[:, 0]), part=nn.TransformerEncoderLayer(10, 2)),
        "'part.self_attn' (MultiheadAttention) drops out in each call"),
    'noise': (Does(lambda self, x: x + torch.rand(10)), "operator 'rand' of forward of Does draws "
              'random numbers in each call'),
    'if': (Does(lambda self, x: x if x.sum() > 0 else -x), 'Does: forward decides by the values'),
    'item': (Does(lambda self, x: x * x.sum().item()), 'takes a number out of a tensor'),
    'choice': (Does(lambda self, x: torch.where(x > 0, x, 2 * x)), "operator 'gt'"),
    'sizes by values': (Does(lambda self, x: x.nonzero().float().mean(0)), "operator 'nonzero' of "
                        'forward of Does is not in the vocabulary'),
    'rounded': (Does(lambda self, x: x.int().float()), 'rounds to int32'),
    'script': (torch.jit.script(nn.ReLU()), 'a ScriptModule cannot be exported; give the module'),
    'sizes': (nn.Linear(11, 2), 'forward failed for input 3x8x10: '),
    'two outputs': (Does(lambda self, x: (x.mean((2, 3)), x.mean(2))), "output '2' looks like a "
                    'state, but no input has its shape [3, 10]'),
    'constant output': (Does(lambda self, x: torch.ones(1, 2)), 'does not depend on the input'),
    'no initial state': (Does(lambda self, x: self.part(x.flatten(2).mean(1)[None])[0][-1],
                              part=GRU), "operator 'gru' of module 'part' (GRU) starts from a "
                         'constant in every call, so that the policy forgets after each frame'),
    'several steps': (Does(lambda self, x: self.part(
        x.flatten(2).transpose(0, 1), x[:, 0, :1, :4])[0], part=GRU), "'part' (GRU) takes 3 "
        'frames at once; export it for one frame, with its state as input and output'),
    'both directions': (Does(lambda self, x: self.part(
        x.flatten(2).mean(1)[None], x[0, :2, :1, :4])[0], part=nn.GRU(80, 4, bidirectional=True)),
        'reads frames of the future (bidirectional)'),
    'plain attribute': (Does(keeps, last=torch.zeros(1, 3)), 'keeps a tensor for the next frame '
                        'as a plain attribute, self.last; make it a buffer'),
    'buffer that is not zero': (Stack(1.0), "'frames' is a buffer that forward overwrites, and "
                                'its first value is not zero')}


@pytest.mark.parametrize('name', REFUSED)
def test_what_cannot_be_read_is_refused(name):
    module, said = REFUSED[name]
    with pytest.raises(ImportFault) as refused:
        read_module(module, {'input': IMAGE})
    assert said in str(refused.value)


def test_what_nobody_has_met_is_refused_at_its_place(monkeypatch):
    monkeypatch.setitem(HANDLERS, 'tanh', lambda tracer, given, like: given['unknown'])
    with pytest.raises(ImportFault) as refused:
        read_module(nn.Sequential(nn.Tanh()), {'input': IMAGE})
    assert str(refused.value).startswith("operator 'tanh' of module '0' (Tanh) cannot be read (")


CELL = nn.GRUCell(5, 4)


@pytest.mark.parametrize('module, inputs, said', [
    (module_of(lost, Memory, CELL), {'image': IMAGE, 'h': (4,)}, 'state is not handed on'),
    (module_of(lambda self, image, h: (image.mean((2, 3)) + h, h), Memory, CELL),
     {'image': IMAGE, 'h': (3,)}, "the state 'h' is not handed on"),
    (Memory(CELL), {'image': IMAGE}, "forward takes 'h', of which no shape is given"),
    (Memory(CELL), {'imige': IMAGE, 'h': (4,)}, "no parameter 'imige'; did you mean 'image'?"),
    (module_of(lambda self, *, image: image.mean((2, 3)), Memory, CELL), {'image': IMAGE},
     "forward takes 'image' by keyword only; wrap it in a module"),
    (Sequence(nn.GRU(5, 4)), {'image': (6, *IMAGE), 'h': (4,)}, 'takes 6 frames at once')],
    ids=['lost', 'as it came', 'no shape', 'misspelt', 'keyword', 'frames'])
def test_inputs_that_do_not_fit_are_refused(module, inputs, said):
    with pytest.raises(ImportFault) as refused:
        read_module(module, inputs)
    assert said in str(refused.value)


def test_a_state_may_be_the_last_frame_or_a_pair_or_in_front():
    program = read_module(module_of(lambda self, x, last: (x - last, x), Memory, CELL),
                          {'x': IMAGE, 'last': IMAGE})
    assert program.states['last'].shape == IMAGE
    pair = module_of(lambda self, image, state: (
        self.cell(image.flatten(2).mean(1)[:, :5], state)[0],
        self.cell(image.flatten(2).mean(1)[:, :5], state)), Memory, nn.LSTMCell(5, 4))
    assert [*read_module(pair, {'image': IMAGE, 'h': (4,), 'c': (4,)}).states] == ['h', 'c']
    front = module_of(lambda self, h, image: Memory.forward(self, image, h)[::-1], Memory,
                      nn.GRU(5, 4, 2), True)
    program = read_module(front, {'image': IMAGE, 'h': (2, 4)})
    assert ([*program.inputs], program.states['h'].shape) == (['image'], (2, 4))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Files that hold no exported program, by what they are."""
    folder, module = tmp_path_factory.mktemp('files'), nn.ReLU()
    paths = SimpleNamespace(**{name: folder / f'{name}.pt2' for name in (
        'absent', 'rubbish', 'half', 'archive', 'weights', 'script', 'damaged', 'four')})
    torch.export.save(torch.export.export(module, (torch.zeros(4, *IMAGE),)), paths.four)
    whole = paths.four.read_bytes()
    paths.rubbish.write_bytes(b'rubbish')
    paths.half.write_bytes(whole[:len(whole) // 2])
    paths.damaged.write_bytes(whole[:900] + b'\x55' * 900 + whole[1800:])
    with zipfile.ZipFile(paths.archive, 'w') as archive:
        archive.writestr('a', 'b')
    torch.save({'weight': torch.zeros(2)}, paths.weights)
    torch.jit.trace(module, torch.zeros(1, *IMAGE)).save(paths.script)
    return paths


@pytest.mark.parametrize('name, said', [
    ('absent', 'no such file; check the path'),
    ('rubbish', 'is not a file of torch.export, or it is damaged; write it by torch.export.save('),
    ('half', 'is not a file of torch.export, or it is damaged; '),
    ('damaged', 'is not a file of torch.export, or it is damaged'),
    ('archive', 'is not a file of torch.export, or it is damaged'),
    ('weights', 'holds weights or a pickled module, not an exported program; write it by '),
    ('script', 'is a TorchScript file; write it by torch.export.save('),
    ('four', "'input' [4, 3, 8, 10] takes 4 frames at once; export it for one frame")])
def test_files_that_cannot_be_read_are_refused(files, name, said):
    with pytest.raises(ImportFault) as refused:
        read_pt2(getattr(files, name))
    assert said in str(refused.value)
