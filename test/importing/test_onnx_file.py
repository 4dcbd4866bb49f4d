"""ONNX files as exporters write them, and files that cannot be imported."""

from importing.onnx_files import file_of, read, run, saved
import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
import pytest
from stream_agent.engine import backends
from stream_agent.importing.onnx_file import original_of
from stream_agent.importing.program import ImportFault
import torch
from torch import nn

pytestmark = pytest.mark.thorough


class Attends(nn.Module):
    """Convolutions with residual and gate, norms, and torch's attention over its tokens."""

    def __init__(self, opset=20):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8),
                                  nn.Hardswish(), nn.Conv2d(8, 8, 3, padding='same'))
        self.norm, self.act, self.drop = nn.GroupNorm(2, 8), nn.GELU(), nn.Dropout(0.5)
        # Earlier, attention cannot be exported.
        self.tokens = nn.TransformerEncoderLayer(
            8, 2, 16, activation='gelu', batch_first=True) if opset > 13 else nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, image):
        maps = self.stem(image)
        maps = self.act(self.norm(maps)) + maps * maps.mean((2, 3), keepdim=True).sigmoid()
        return self.head(self.drop(self.tokens(maps.flatten(2).transpose(1, 2)).mean(1)))


def trained(module):
    torch.manual_seed(1)
    for value in [*module.parameters(), *module.buffers()]:
        if value.is_floating_point():
            value.data.uniform_(0.1, 0.5) if value.ndim < 2 else value.data.normal_(0, 0.3)
    return module.eval()


def exported(folder, module, shape, states=(), dynamo=False, opset=None, batch=1, **names):
    """Export a module, with a dynamic batch where it is greater than one."""
    file = folder / 'network.onnx'
    example = (torch.zeros(batch, *shape), *(torch.zeros(*size) for size in states))
    options = dict(names)
    axes = [{0: 'batch'}, *({1 if len(size) == 3 else 0: 'batch'} for size in states)]
    if batch > 1 and dynamo:
        options['dynamic_shapes'] = tuple(axes)
    elif batch > 1:
        options['dynamic_axes'] = dict(zip(names['input_names'], axes))
    torch.onnx.export(module, example, str(file), dynamo=dynamo, opset_version=opset, **options)
    return file


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('dynamo, opset, batch', [
    (False, 11, 1), (False, 13, 2), (False, 17, 1), (False, 20, 2), (True, 20, 2)])
def test_both_exporters_of_torch_are_read(tmp_path, dynamo, opset, batch):
    module = trained(Attends(opset))
    file = exported(tmp_path, module, (3, 16, 12), dynamo=dynamo, opset=opset, batch=batch,
                    input_names=['image'])
    program, frames = read(file), torch.randn(4, 3, 16, 12)
    with torch.no_grad():
        expected = module(frames)
    torch.testing.assert_close(run(program, frames[None])[0], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(original_of(file)(frames[:1]), expected[:1], rtol=1e-5, atol=1e-5)
    assert program.inputs == {'image': (3, 16, 12)} and not program.states
    modules = {each.module for each in program.operations}
    assert {'stem.3', 'norm', 'head'} <= modules and (dynamo or 'stem.0' in modules)
    assert {'stem_3', 'norm', 'head'} <= {each.name for each in program.operations}


class Remembers(nn.Module):
    """Two layers of GRU and an LSTM, as torch's modules take and give their states."""

    def __init__(self, batch_first=False):
        super().__init__()
        self.eye, self.head = nn.Linear(5, 4), nn.Linear(3, 2)
        self.gru, self.first = nn.GRU(4, 6, 2, batch_first=batch_first), batch_first
        self.lstm = nn.LSTM(6, 3)

    def forward(self, image, memory, h, c):
        value, memory = self.gru(self.eye(image).unsqueeze(1 if self.first else 0), memory)
        value, (h, c) = self.lstm(value.transpose(0, 1) if self.first else value, (h, c))
        return c, self.head(value[-1]), memory, h


def unrolled(module, frames, states):
    """Return a module's second output for frames, (T, B, *shape)."""
    outputs, (memory, h, c) = [], states
    for frame in frames:
        c, output, memory, h = module(frame, memory, h, c)
        outputs.append(output)
    return torch.stack(outputs)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('dynamo, batch, first', [(False, 1, False), (False, 2, True),
                                                  (True, 1, True)])
def test_recurrent_layers_become_cells_with_states_of_their_own(tmp_path, dynamo, batch, first):
    module = trained(Remembers(first))
    file = exported(tmp_path, module, (5,), [(2, batch, 6), (1, batch, 3), (1, batch, 3)], dynamo,
                    17 if not dynamo else None, batch,
                    input_names=['image', 'memory', 'h', 'c'],
                    output_names=['c_next', 'command', 'memory_next', 'h_next'])
    program, frames = read(file), torch.randn(5, 2, 5)
    with torch.no_grad():
        expected = unrolled(module, frames, [torch.zeros(n, 2, size)
                                             for n, size in ((2, 6), (1, 3), (1, 3))])
    torch.testing.assert_close(run(program, frames), expected, rtol=1e-5, atol=1e-5)
    original = original_of(file)
    answers = torch.cat([original(frame[:1]) for frame in frames])
    torch.testing.assert_close(answers, expected[:, 0], rtol=1e-5, atol=1e-5)
    kinds = {each.name: each.kind for each in program.operations}
    assert sorted((kinds[state.next], state.shape) for state in program.states.values()) == [
        ('gru_cell', (6,)), ('gru_cell', (6,)), ('lstm_cell', (6,))]


@pytest.mark.filterwarnings('ignore')
def test_a_cell_that_the_exporter_writes_out_keeps_its_state(tmp_path):
    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(5, 3)

        def forward(self, image, h):
            h = self.cell(image, h)
            return h[:, :2], h

    module = trained(Policy())
    file = exported(tmp_path, module, (5,), [(1, 3)], opset=17)
    program, frames, h = read(file), torch.randn(4, 1, 5), torch.zeros(1, 3)
    for frame, found in zip(frames, run(program, frames)):
        with torch.no_grad():
            expected, h = module(frame, h)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert [state.shape for state in program.states.values()] == [(3,)]


def cell_file(folder, frames=1, given=('h',), opset=14, lengths=None, **attributes):
    """Write a file of one GRU."""
    values = np.random.default_rng(2).standard_normal((1, 12, 5)).astype(np.float32)
    weights = {'w': values, 'r': values[:, :, :4].copy(), 'b': values[:, :, :2].reshape(1, -1)}
    operands = ['x', 'w', 'r', 'b', 'lengths' if lengths else '', *given]
    node = helper.make_node('GRU', operands, ['', 'hn'], hidden_size=4,
                            **{'linear_before_reset': 1} | attributes)
    last = helper.make_node('Gemm', ['flat', 'head'], ['y'])
    graph = helper.make_graph(
        [node, helper.make_node('Reshape', ['hn', 'shape'], ['flat']), last], 'g',
        [helper.make_tensor_value_info('x', 1, [frames, 1, 5]),
         *(helper.make_tensor_value_info(name, 1, [1, 1, 4]) for name in given)],
        [helper.make_tensor_value_info(name, 1, None) for name in ('y', 'hn')],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (
            weights | {'lengths': np.array(lengths or [], np.int32), 'shape': np.array([1, -1]),
                       'head': np.eye(4, 2, dtype=np.float32)}
        ).items()])
    return saved(folder, graph, opset)


def test_a_gru_has_its_gates_in_torchs_order(tmp_path):
    file = cell_file(tmp_path, lengths=[1])
    program, original, frames = read(file), original_of(file), torch.randn(6, 1, 1, 5)
    # The image is (1, batch, 5) here.
    expected = [original(frame) for frame in frames]
    torch.testing.assert_close(run(program, frames)[:, 0], torch.cat(expected))
    assert program.states['h'].shape == (4,)


@pytest.mark.parametrize('options, said', [
    ({'linear_before_reset': 0}, "(linear_before_reset=0), another cell than torch's"),
    ({'frames': 3}, 'takes 3 frames at once; export the network for one frame, with its state'),
    ({'given': ()}, 'starts from a constant in every frame, and so forgets'),
    ({'lengths': [2]}, 'takes sequence lengths'), ({'clip': 1.0}, "bounds than torch's cell"),
    ({'direction': 'reverse'}, "runs 'reverse'; frames come forward only")])
def test_a_cell_that_is_not_torchs_is_refused(tmp_path, options, said):
    with pytest.raises(ImportFault) as refused:
        read(cell_file(tmp_path, **options))
    assert said in str(refused.value)


def plain(folder, inputs, outputs, nodes, initial=None, opset=17, **functions):
    """Write a file of these inputs and outputs: sizes by name, with the batch."""
    graph = helper.make_graph(
        [helper.make_node(kind, list(of), list(to), name, **options)
         for kind, of, to, name, options in nodes], 'g',
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name)
         for name, value in (initial or {}).items()])
    return saved(folder, graph, opset)


KERNEL = np.random.default_rng(4).standard_normal((4, 3, 3, 3)).astype(np.float32)
CONV = ('Conv', 'xk', 'y', '/eye/conv/Conv', {})


def agrees(file, shape, inputs=None, frames=None):
    """Compare what is read with what the file gives, and return the program."""
    program, original = read(file, inputs), original_of(file, inputs)
    frames = torch.randn(3, 1, *shape) if frames is None else frames
    found = run(program, frames)[:, 0].flatten(1)
    expected = torch.cat([original(frame).flatten(1) for frame in frames])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    return program


def test_a_file_as_paddlepaddle_writes_it(tmp_path):
    def constant(name, value):
        return helper.make_node('Constant', [], [name], value=numpy_helper.from_array(value))

    norm = [np.abs(KERNEL[:, 0, 0, 0]) + i for i in range(4)]
    nodes = [constant('k', KERNEL), *(constant(f'n{i}', value) for i, value in enumerate(norm)),
             helper.make_node('Conv', ['x', 'k'], ['a'], pads=[1, 1, 1, 1]),
             helper.make_node('BatchNormalization', ['a', 'n0', 'n1', 'n2', 'n3'], ['b']),
             helper.make_node('HardSigmoid', ['b'], ['c'], alpha=0.2),
             helper.make_node('HardSigmoid', ['b'], ['d'], alpha=1 / 6),
             helper.make_node('Mul', ['c', 'd'], ['e']),
             helper.make_node('Shape', ['e'], ['size']),
             constant('zero', np.array([0])), constant('one', np.array([1])),
             helper.make_node('Slice', ['size', 'zero', 'one'], ['frames']),
             constant('rest', np.array([-1])),
             helper.make_node('Concat', ['frames', 'rest'], ['shape'], axis=0),
             helper.make_node('Reshape', ['e', 'shape'], ['y'])]
    graph = helper.make_graph(
        nodes, 'g', [helper.make_tensor_value_info('x', 1, ['?', 3, '?', '?'])],
        [helper.make_tensor_value_info('y', 1, ['?', '?'])])
    file = saved(tmp_path, graph, 11)
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(model, file)
    with pytest.raises(ImportFault, match="input 'x' has open sizes, 3x[?]x[?]; give them, such "
                                          'as --input 3x224x224'):
        read(file)
    for name in ('x', 'input'):
        assert agrees(file, (3, 6, 5), {name: (3, 6, 5)}).inputs == {name: (3, 6, 5)}


@pytest.mark.parametrize('names, own', [
    (('input.1', 'onnx::Gemm_1', 'onnx::Gemm_2'), ['input', 'state', 'state_2']),
    (('x.1', 'h.3', '5'), ['x', 'h', 'state']),
    (('a b', 'a-b', 'a_b'), ['a_b', 'a_b_2', 'a_b_3'])])
def test_inputs_without_a_name_of_their_own_get_one(tmp_path, names, own):
    image, *states = names
    nodes = [('Relu', [image], 'y', '', {}),
             *(('Tanh', [name], [f'{i}_next'], '', {}) for i, name in enumerate(states)),
             ('Concat', ['y', *states], 'z', '', {'axis': 1})]
    file = plain(tmp_path, {name: (1, [1, 3 + i]) for i, name in enumerate(names)},
                 ['z', '0_next', '1_next'], nodes)
    program = read(file)
    assert [*program.inputs, *program.states] == own
    assert read(file, {own[0]: (3,), own[1]: (4,), names[2]: (5,)}) == program


def test_sizes_that_the_file_has_otherwise_are_refused(tmp_path):
    file = plain(tmp_path, {'x': (1, [1, 3, 8, 8])}, 'y', [CONV], {'k': KERNEL})
    assert agrees(file, (3, 8, 8), {'x': (3, 8, 8)}).output == 'eye_conv'
    with pytest.raises(ImportFault, match="'x' is 3x8x8 in the file, not 3x9x8; leave the sizes"):
        read(file, {'input': (3, 9, 8)})
    with pytest.raises(ImportFault, match="no input 'xx'; did you mean 'x'"):
        read(file, {'xx': (3, 8, 8)})


def test_a_sequence_of_one_channel_has_its_batch_in_front(tmp_path):
    file = plain(tmp_path, {'x': (1, [1, 1, 9])}, 'y', [('Conv', 'xk', 'y', '', {})],
                 {'k': KERNEL[:, :1, 0]})
    assert agrees(file, (1, 9)).inputs == {'x': (1, 9)}


def test_a_batch_that_is_fixed_at_four_is_one_of_frames(tmp_path):
    nodes = [('Conv', 'xk', 'a', '', {}), ('Reshape', ['a', 's'], 'y', '', {})]
    file = plain(tmp_path, {'x': (1, [4, 3, 8, 8])}, 'y', nodes,
                 {'k': KERNEL, 's': np.array([4, -1])})
    program, frames = read(file), torch.randn(4, 3, 8, 8)
    found = run(program, frames[None])[0]
    torch.testing.assert_close(found[:1], original_of(file)(frames[:1])[:1], rtol=1e-5, atol=1e-5)
    assert found.shape == (4, 144)


def test_pixels_of_bytes_become_numbers(tmp_path):
    nodes = [('Cast', 'x', 'a', '', {'to': 1}), ('Div', ['a', 'white'], 'b', '', {}),
             ('Conv', 'bk', 'y', '', {})]
    file = plain(tmp_path, {'x': (TensorProto.UINT8, ['n', 3, 8, 8])}, 'y', nodes,
                 {'k': KERNEL, 'white': np.float32(255)})
    program = agrees(file, (), frames=torch.randint(0, 256, (3, 1, 3, 8, 8)).float())
    assert original_of(file).whole == {'x'} and "input 'x' was uint8" in program.notices[0]


@pytest.mark.parametrize('kind', [np.float16, np.float64])
def test_other_precisions_become_float32_and_it_is_said(tmp_path, kind):
    code = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        [helper.make_node('Conv', ['x', 'k'], ['a']), helper.make_node('Relu', ['a'], ['y'])], 'g',
        [helper.make_tensor_value_info('x', code, [1, 3, 8, 8])],
        [helper.make_tensor_value_info('y', code, None)],
        [numpy_helper.from_array(KERNEL.astype(kind), 'k')])
    file = saved(tmp_path, graph, 17)
    program, frame = read(file), torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(run(program, frame[None])[0].flatten(1),
                               original_of(file)(frame).flatten(1), rtol=1e-2, atol=1e-2)
    assert 'weights became float32' in program.notices[0]
    assert all(value.dtype == torch.float32 for each in program.operations
               for value in each.weights.values())


def test_weights_may_be_inputs_too_or_shared_by_name(tmp_path):
    nodes = [('Identity', 'k', 'l', '', {}), ('Conv', 'xk', 'a', '', {}),
             ('Conv', 'xl', 'b', '', {}), ('Add', 'ab', 'y', '', {})]
    file = plain(tmp_path, {'x': (1, [1, 3, 8, 8]), 'k': (1, [4, 3, 3, 3])}, 'y', nodes,
                 {'k': KERNEL})
    assert [*agrees(file, (3, 8, 8)).inputs] == ['x']


def test_functions_of_the_file_are_read(tmp_path):
    file = plain(tmp_path, {'x': (1, [1, 3, 8, 8])}, 'y', [CONV], {'k': KERNEL})
    model = onnx.load(file)
    model.functions.append(helper.make_function(
        'own', 'Twice', ['a'], ['b'], [helper.make_node('Add', ['a', 'a'], ['b'])],
        [helper.make_opsetid('', 17)]))
    model.opset_import.append(helper.make_opsetid('own', 1))
    model.graph.node[0].output[0] = 'z'
    model.graph.node.append(helper.make_node('Twice', ['z'], ['y'], domain='own'))
    onnx.save(model, file)
    assert [each.kind for each in agrees(file, (3, 8, 8)).operations] == ['convolution', 'add']


STATES = {
    'no such input': ({'a': [1, 3]}, [('Relu', 'a', 'y', '', {}), (
        'Concat', 'ay', 'z', '', {'axis': 1})], 'yz',
        "output 'z' looks like a state, but no input has its shape [6]"),
    'constant output': ({'a': [1, 3]}, [('Relu', 'a', 'y', '', {}), (
        'Relu', 'c', 'z', '', {})], 'yz', "output 'z' does not depend on the input")}


@pytest.mark.parametrize('name', STATES)
def test_states_that_do_not_fit_are_refused(tmp_path, name):
    inputs, nodes, outputs, said = STATES[name]
    file = plain(tmp_path, {key: (1, sizes) for key, sizes in inputs.items()}, outputs, nodes,
                 {'c': np.ones((1, 2), np.float32)})
    with pytest.raises(ImportFault) as refused:
        read(file)
    assert said in str(refused.value)


def test_an_unknown_operator_is_named_with_its_module(tmp_path):
    nodes = [CONV[:2] + ('a',) + CONV[3:], ('Det', 'a', 'y', '/neck/neck.0/Det', {})]
    file = plain(tmp_path, {'x': (1, [1, 3, 8, 8])}, 'y', nodes, {'k': KERNEL})
    with pytest.raises(ImportFault, match="operator 'Det' of module 'neck.0' is not in the "):
        read(file)
    model = onnx.load(file)
    model.graph.node[1].op_type, model.graph.node[1].domain = 'Own', 'my.company'
    model.opset_import.append(helper.make_opsetid('my.company', 1))
    onnx.save(model, file)
    with pytest.raises(ImportFault, match="operator 'Own' of module 'neck.0' is not in the "):
        read(file)


def test_a_decision_by_values_is_refused(tmp_path):
    def branch(kind):
        return helper.make_graph([helper.make_node(kind, ['x'], [kind])], kind, [],
                                 [helper.make_tensor_value_info(kind, 1, None)])

    nodes = [('ReduceMax', 'x', 'm', '', {'keepdims': 0}), ('Greater', 'mz', 'c', '', {}),
             ('If', 'c', 'y', '/choice/If', {
                 'then_branch': branch('Relu'), 'else_branch': branch('Neg')})]
    file = plain(tmp_path, {'x': (1, [1, 3])}, 'y', nodes, {'z': np.float32(0)})
    with pytest.raises(ImportFault, match="'If' of module 'choice' is not in the vocabulary; "
                                          'forward decides by values; write it without'):
        read(file)


def external(folder, location='network.data'):
    """Write a file whose weights are in another one."""
    file = plain(folder, {'x': (1, [1, 3, 8, 8])}, 'y', [CONV], {'k': KERNEL})
    model = onnx.load(file)
    onnx.save_model(model, file, save_as_external_data=True, location='network.data',
                    size_threshold=0)
    model = onnx.load(file, load_external_data=False)
    for pair in model.graph.initializer[0].external_data:
        if pair.key == 'location':
            pair.value = location
    file.write_bytes(model.SerializeToString())
    return file


def test_external_data_is_read_beside_the_file_only(tmp_path):
    agrees(external(tmp_path), (3, 8, 8))
    (tmp_path / 'network.data').write_bytes(b'short')
    with pytest.raises(ImportFault, match='external data cannot be read'):
        read(tmp_path / 'network.onnx')
    (tmp_path / 'network.data').unlink()
    with pytest.raises(ImportFault, match="weights are in 'network.data', which is missing"):
        read(tmp_path / 'network.onnx')
    inside = tmp_path / 'inside'
    inside.mkdir()
    (tmp_path / 'network.data').write_bytes(KERNEL.tobytes())
    with pytest.raises(ImportFault, match='outside of its folder'):
        read(external(inside, '../network.data'))
    with pytest.raises(ImportFault, match='outside of its folder'):
        read(external(inside, str(tmp_path / 'network.data')))


BROKEN = {
    'empty': b'', 'text': b'not a network', 'zip': b'PK\x03\x04' + bytes(100),
    'zeros': bytes(200), 'truncated': None, 'without nodes': onnx.ModelProto(
        ir_version=8).SerializeToString()}


@pytest.mark.parametrize('name', BROKEN)
def test_a_file_that_is_no_network_is_refused(tmp_path, name):
    file = plain(tmp_path, {'x': (1, [1, 3, 8, 8])}, 'y', [CONV], {'k': KERNEL})
    content = file.read_bytes()
    file.write_bytes(content[:len(content) // 2] if BROKEN[name] is None else BROKEN[name])
    with pytest.raises(ImportFault, match=f"'{file}': (is not an ONNX file|holds no network)"):
        read(file)


@pytest.mark.parametrize('change', [
    {'node': b'\xff'}, {'dims': 7}, {'kind': 99}, {'op_type': 'DepthToSpace'}])
def test_a_damaged_file_is_refused(tmp_path, change):
    file = plain(tmp_path, {'x': (1, [1, 3, 8, 8])}, 'y', [CONV], {'k': KERNEL})
    model = onnx.load(file)
    if 'dims' in change:
        model.graph.initializer[0].dims[0] = change['dims']
    if 'kind' in change:
        model.graph.initializer[0].data_type = change['kind']
    if 'op_type' in change:
        model.graph.node[0].op_type = change['op_type']
    content = model.SerializeToString()
    file.write_bytes(content.replace(b'/eye/', b'/e\xffe/') if 'node' in change else content)
    with pytest.raises(ImportFault, match=f"'{file}': .*; export the network again"):
        read(file)


def test_a_file_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ImportFault, match='cannot be read .No such file'):
        read(tmp_path / 'none.onnx')


def test_sizes_that_do_not_fit_are_refused(tmp_path):
    file = plain(tmp_path, {'x': (1, [1, 5, 8, 8])}, 'y', [CONV], {'k': KERNEL})
    with pytest.raises(ImportFault, match="module 'eye.conv' has weights that do not fit"):
        read(file)


def test_missing_packages_are_said(tmp_path, monkeypatch):
    file = file_of(tmp_path, [('Relu', [], {})], (3, 4))
    monkeypatch.setattr(backends, 'is_installed', lambda name: name != 'onnx')
    with pytest.raises(ImportFault, match='lacks: onnx; pip install onnx'):
        read(file)
