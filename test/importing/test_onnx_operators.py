"""Operators of ONNX one by one, as files have them, compared with ONNX Runtime on the file."""

from importing.onnx_files import both, file_of, read, X
import numpy as np
import onnx
from onnx import helper
import pytest
from stream_agent.importing.program import ImportFault

RANDOM = np.random.default_rng(3)


def weights(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


MAPS, ROWS, TOKENS = (4, 9, 7), (4, 10), (6, 8)

ONE_OPERATOR = {
    'same_upper': ('Conv', MAPS, [weights(6, 4, 3, 2)], {'auto_pad': 'SAME_UPPER'}),
    'same_lower': ('Conv', MAPS, [weights(6, 4, 4, 2), weights(6)], {
        'auto_pad': 'SAME_LOWER', 'strides': [2, 3]}),
    'valid': ('Conv', MAPS, [weights(6, 4, 3, 3)], {'auto_pad': 'VALID', 'dilations': [2, 1]}),
    'begins_then_ends': ('Conv', MAPS, [weights(6, 2, 3, 3)], {'pads': [0, 1, 2, 3], 'group': 2}),
    'one_axis': ('Conv', ROWS, [weights(6, 4, 3), weights(6)], {'pads': [2, 0], 'strides': [2]}),
    'transposed': ('ConvTranspose', MAPS, [weights(4, 3, 3, 3), weights(3)], {
        'strides': [2, 2], 'pads': [1, 1, 1, 1], 'output_padding': [1, 0]}),
    'transposed_lopsided': ('ConvTranspose', MAPS, [weights(4, 3, 3, 4)], {
        'strides': [2, 1], 'pads': [0, 2, 1, 1], 'group': 2}),
    'transposed_same': ('ConvTranspose', MAPS, [weights(4, 3, 3, 3)], {
        'strides': [2, 2], 'auto_pad': 'SAME_UPPER'}),
    'transposed_to_size': ('ConvTranspose', MAPS, [weights(4, 3, 3, 3)], {
        'strides': [2, 2], 'output_shape': [18, 14]}),
    'transposed_row': ('ConvTranspose', ROWS, [weights(4, 3, 3)], {
        'strides': [2], 'pads': [0, 1]}),
    'max_ceil': ('MaxPool', MAPS, [], {'kernel_shape': [3, 2], 'strides': [2, 2], 'ceil_mode': 1}),
    'max_lopsided': ('MaxPool', MAPS, [], {
        'kernel_shape': [3, 3], 'strides': [2, 2], 'pads': [0, 0, 1, 1], 'dilations': [2, 1]}),
    'max_same': ('MaxPool', MAPS, [], {'kernel_shape': [2, 2], 'auto_pad': 'SAME_UPPER'}),
    'max_row': ('MaxPool', ROWS, [], {'kernel_shape': [3], 'strides': [2], 'pads': [1, 1]}),
    'average': ('AveragePool', MAPS, [], {
        'kernel_shape': [3, 3], 'strides': [2, 2], 'pads': [1, 1, 1, 1]}),
    'average_of_pads': ('AveragePool', MAPS, [], {
        'kernel_shape': [3, 3], 'strides': [2, 2], 'pads': [1, 1, 1, 1], 'ceil_mode': 1,
        'count_include_pad': 1}),
    'average_lopsided': ('AveragePool', MAPS, [], {
        'kernel_shape': [3, 2], 'strides': [2, 2], 'pads': [0, 1, 2, 0]}),
    'average_lopsided_of_pads': ('AveragePool', MAPS, [], {
        'kernel_shape': [3, 2], 'pads': [0, 1, 2, 0], 'count_include_pad': 1}),
    'average_row': ('AveragePool', ROWS, [], {'kernel_shape': [4], 'pads': [1, 2]}),
    'global_average': ('GlobalAveragePool', MAPS, [], {}),
    'global_maximum': ('GlobalMaxPool', MAPS, [], {}),
    'batch_norm': ('BatchNormalization', MAPS, [weights(4), weights(4), weights(4),
                                                weights(4) ** 2], {'epsilon': 1e-2}),
    'batch_norm_of_features': ('BatchNormalization', (5,), [
        weights(5), weights(5), weights(5), weights(5) ** 2], {}),
    'instance_norm': ('InstanceNormalization', MAPS, [weights(4), weights(4)], {'epsilon': 1e-3}),
    'layer_norm': ('LayerNormalization', MAPS, [weights(9, 7), weights(7)], {'axis': 2}),
    'gemm': ('Gemm', (5,), [weights(3, 5), weights(3)], {'transB': 1, 'alpha': 0.5, 'beta': 2.0}),
    'gemm_plain': ('Gemm', (5,), [weights(5, 3)], {}),
    'gemm_number': ('Gemm', (5,), [weights(5, 3), weights(1)], {'beta': 0.25}),
    'matmul': ('MatMul', TOKENS, [weights(8, 3)], {}),
    'matmul_of_stacked': ('MatMul', TOKENS, [weights(1, 8, 3)], {}),
    'matmul_per_head': ('MatMul', (2, 3, 5), [weights(2, 5, 4)], {}),
    'clip': ('Clip', MAPS, [np.float32(-0.25), np.float32(0.5)], {}),
    'clip_above': ('Clip', MAPS, ['', np.float32(0.5)], {}),
    'hard_sigmoid': ('HardSigmoid', MAPS, [], {}),
    'hard_sigmoid_of_torch': ('HardSigmoid', MAPS, [], {'alpha': 1 / 6}),
    'hard_swish': ('HardSwish', MAPS, [], {}),
    'leaky': ('LeakyRelu', MAPS, [], {'alpha': 0.2}),
    'prelu': ('PRelu', MAPS, [weights(4, 1, 1)], {}),
    'prelu_number': ('PRelu', MAPS, [weights(1)], {}),
    'elu': ('Elu', MAPS, [], {'alpha': 0.5}),
    'selu': ('Selu', MAPS, [], {}),
    'celu': ('Celu', MAPS, [], {'alpha': 0.7}),
    'mish': ('Mish', MAPS, [], {}),
    'softsign': ('Softsign', MAPS, [], {}),
    'softplus': ('Softplus', MAPS, [], {}),
    'erf': ('Erf', MAPS, [], {}),
    'gelu': ('Gelu', MAPS, [], {}),
    'gelu_tanh': ('Gelu', MAPS, [], {'approximate': 'tanh'}),
    'softmax': ('Softmax', MAPS, [], {'axis': 1}),
    'softmax_by_default': ('Softmax', MAPS, [], {}),
    'add_channels': ('Add', MAPS, [weights(4, 1, 1)], {}),
    'subtract_stacked': ('Sub', MAPS, [weights(1, 4, 1, 1)], {}),
    'divide_by_number': ('Div', MAPS, [np.float32(6)], {}),
    'add_wider': ('Add', (4, 1, 7), [weights(3, 1)], {}),
    'maximum': ('Max', MAPS, [np.float32(0.1)], {}),
    'minimum_of_channels': ('Min', MAPS, [weights(4, 1, 1)], {}),
    'square': ('Pow', MAPS, [np.float32(2)], {}),
    'cube': ('Pow', MAPS, [np.float32(3)], {}),
    'reciprocal': ('Reciprocal', MAPS, [], {}),
    'negative': ('Neg', MAPS, [], {}),
    'transpose': ('Transpose', MAPS, [], {'perm': [0, 3, 1, 2]}),
    'flatten': ('Flatten', MAPS, [], {}),
    'reshape': ('Reshape', MAPS, [np.array([0, 2, -1, 7])], {}),
    'squeeze': ('Squeeze', (4, 1, 7), [np.array([2])], {}),
    'unsqueeze': ('Unsqueeze', MAPS, [np.array([1, -1])], {}),
    'slice': ('Slice', MAPS, [np.array([1, -5]), np.array([2 ** 63 - 1, -1]), np.array([1, 2])],
              {}),
    'slice_of_steps': ('Slice', MAPS, [np.array([1]), np.array([100]), np.array([3]),
                                       np.array([2])], {}),
    'slice_backwards': ('Slice', MAPS, [np.array([-1]), np.array([-100]), np.array([2]),
                                        np.array([-2])], {}),
    'select': ('Gather', MAPS, [np.array(-1)], {'axis': 2}),
    'gather_some': ('Gather', MAPS, [np.array([1, 2])], {'axis': 1}),
    'gather_any': ('Gather', MAPS, [np.array([3, 0])], {'axis': 1}),
    'expand': ('Expand', (4, 1, 7), [np.array([1, 1, 3, 1])], {}),
    'tile': ('Tile', (4, 2), [np.array([1, 1, 3])], {}),
    'pad_lopsided': ('Pad', MAPS, [np.array([0, 0, 0, 1, 0, 0, 1, 2])], {}),
    'pad_number': ('Pad', MAPS, [np.array([0, 0, 0, 1, 0, 0, 1, 2]), np.float32(0.5)], {}),
    'pad_axes': ('Pad', MAPS, [np.array([1, 2]), np.float32(0), np.array([-1])], {}),
    'depth_to_space': ('DepthToSpace', (8, 3, 4), [], {'blocksize': 2}),
    'depth_to_space_columns': ('DepthToSpace', (8, 3, 4), [], {'blocksize': 2, 'mode': 'CRD'}),
    'space_to_depth': ('SpaceToDepth', (3, 4, 6), [], {'blocksize': 2}),
    'mean_of_maps': ('ReduceMean', MAPS, [np.array([-1, 2])], {'keepdims': 0}),
    'sum_of_channels': ('ReduceSum', MAPS, [np.array([1])], {}),
    'maximum_of_maps': ('ReduceMax', MAPS, [np.array([2, 3])], {}),
    'minimum_of_maps': ('ReduceMin', MAPS, [np.array([2, 3])], {'keepdims': 0}),
    'length': ('ReduceL2', MAPS, [np.array([1])], {}),
    'log_softmax': ('LogSoftmax', MAPS, [], {'axis': 1}),
    'group_norm': ('GroupNormalization', MAPS, [weights(4), weights(4)], {'num_groups': 2}),
    'nearest_by_scale': ('Resize', MAPS, ['', np.array([1, 1, 2, 3], np.float32)], {
        'mode': 'nearest', 'coordinate_transformation_mode': 'asymmetric',
        'nearest_mode': 'floor'}),
    'nearest_by_default': ('Resize', MAPS, ['', np.array([1, 1, 2, 2], np.float32)], {}),
    'linear': ('Resize', MAPS, ['', '', np.array([13, 20])], {'mode': 'linear', 'axes': [2, 3]}),
    'linear_by_scale': ('Resize', MAPS, ['', np.array([1, 1, 1.5, 1.7], np.float32)], {
        'mode': 'linear', 'coordinate_transformation_mode': 'pytorch_half_pixel'}),
    'linear_by_corners': ('Resize', MAPS, ['', '', np.array([18, 9])], {
        'axes': [2, 3], 'mode': 'linear', 'coordinate_transformation_mode': 'align_corners'}),
    'linear_row': ('Resize', ROWS, ['', np.array([1, 1, 2], np.float32)], {'mode': 'linear'}),
}


@pytest.mark.parametrize('name', ONE_OPERATOR)
def test_an_operator_gives_what_onnx_runtime_gives(tmp_path, name):
    kind, shape, constants, attributes = ONE_OPERATOR[name]
    file = file_of(tmp_path, [(kind, constants, attributes)], shape)
    for found, expected in both(file, shape):
        near(found, expected)


EARLIER = {
    'softmax_of_all_after': (11, 'Softmax', MAPS, [], {'axis': 2}),
    'group_norm_by_group': (18, 'GroupNormalization', MAPS, [weights(2), weights(2)], {
        'num_groups': 2}),
    'log_softmax': (11, 'LogSoftmax', MAPS, [], {'axis': 2}),
    'softmax_by_default': (11, 'Softmax', MAPS, [], {}),
    'clip_by_attributes': (9, 'Clip', MAPS, [], {'min': -0.5, 'max': 0.25}),
    'pad_by_attributes': (9, 'Pad', MAPS, [], {'pads': [0, 0, 1, 0, 0, 0, 0, 2]}),
    'slice_by_attributes': (9, 'Slice', MAPS, [], {
        'starts': [1], 'ends': [8], 'axes': [2]}),
    'squeeze_by_attributes': (11, 'Squeeze', (4, 1, 7), [], {'axes': [2]}),
    'mean_by_attributes': (11, 'ReduceMean', MAPS, [], {'axes': [2, 3]}),
    'upsample': (9, 'Upsample', MAPS, [np.array([1, 1, 2, 2], np.float32)], {}),
    'resize_10': (10, 'Resize', MAPS, [np.array([1, 1, 3, 2], np.float32)], {}),
    'resize_11': (11, 'Resize', MAPS, [
        np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32)], {'mode': 'linear'}),
    'batch_norm': (9, 'BatchNormalization', MAPS, [weights(4), weights(4), weights(4),
                                                   weights(4) ** 2], {}),
    'dropout': (11, 'Dropout', MAPS, [], {'ratio': 0.5})}


@pytest.mark.parametrize('name', EARLIER)
def test_an_operator_of_an_earlier_version_too(tmp_path, name):
    opset, kind, shape, constants, attributes = EARLIER[name]
    file = file_of(tmp_path, [(kind, constants, attributes)], shape, opset=opset)
    for found, expected in both(file, shape):
        near(found, expected)


CHAINS = {
    'linear_of_tokens': (TOKENS, [('MatMul', [weights(8, 3)], {}), ('Add', [weights(3)], {})]),
    'layer_norm_written_out': (TOKENS, [
        ('ReduceMean', [np.array([-1])], {}), ('Sub', ['x', 0], {}), ('Mul', [1, 1], {}),
        ('ReduceMean', [np.array([-1])], {}), ('Add', [np.float32(1e-5)], {}), ('Sqrt', [], {}),
        ('Div', [1, 5], {})]),
    'group_norm': (MAPS, [
        ('Reshape', [np.array([0, 2, -1])], {}),
        ('InstanceNormalization', [np.ones(2, np.float32), np.zeros(2, np.float32)], {}),
        ('Reshape', [np.array([-1, 4, 9, 7])], {}), ('Mul', [weights(4, 1, 1)], {}),
        ('Add', [weights(4, 1, 1)], {})]),
    'gelu_by_the_error_function': (TOKENS, [
        ('Div', [np.float32(2 ** 0.5)], {}), ('Erf', [], {}), ('Add', [np.float32(1)], {}),
        ('Mul', ['x', 2], {}), ('Mul', [np.float32(0.5)], {})]),
    'gelu_in_another_order': (TOKENS, [
        ('Mul', [np.float32(2 ** -0.5)], {}), ('Erf', [], {}), ('Add', [np.float32(1)], {}),
        ('Mul', ['x', np.float32(0.5)], {}), ('Mul', [3, 2], {})]),
    'no_gelu': (TOKENS, [
        ('Mul', [np.float32(0.7)], {}), ('Erf', [], {}), ('Add', [np.float32(1)], {}),
        ('Mul', ['x', 2], {}), ('Mul', [np.float32(0.5)], {})]),
    'softplus_of_torch': (TOKENS, [
        ('Mul', [np.float32(20)], {}), ('Softplus', [], {}), ('Greater', [0, np.float32(20)], {}),
        ('Where', [2, 0, 1], {})]),
    'shuffle': (MAPS, [
        ('Reshape', [np.array([-1, 2, 2, 9, 7])], {}),
        ('Transpose', [], {'perm': [0, 2, 1, 3, 4]}),
        ('Reshape', [np.array([-1, 4, 9, 7])], {})]),
    'attention': (TOKENS, [
        ('Transpose', [], {'perm': [0, 2, 1]}), ('Mul', [np.float32(0.3)], {}),
        ('MatMul', ['x', 1], {}), ('Softmax', [], {'axis': -1}), ('MatMul', [3, 'x'], {})]),
    'heads_in_the_batch': (TOKENS, [
        ('Transpose', [], {'perm': [1, 0, 2]}), ('Reshape', [np.array([6, -1, 4])], {}),
        ('Transpose', [], {'perm': [1, 0, 2]}), ('Transpose', [], {'perm': [0, 2, 1]}),
        ('MatMul', [2, 3], {}), ('Softmax', [], {}), ('MatMul', [5, 2], {}),
        ('Transpose', [], {'perm': [1, 0, 2]}), ('Reshape', [np.array([6, -1, 8])], {}),
        ('MatMul', [weights(8, 5)], {}), ('Transpose', [], {'perm': [1, 0, 2]})]),
    'constant_queries_in_the_batch': (TOKENS, [
        ('Reshape', [np.array([-1, 6, 2, 4])], {}), ('Transpose', [], {'perm': [0, 2, 3, 1]}),
        ('Reshape', [np.array([-1, 4, 6])], {}), ('MatMul', [weights(2, 1, 4), 2], {}),
        ('Reshape', [np.array([-1, 2, 6])], {})]),
    'index_of_the_default_exporter': (MAPS, [
        ('Transpose', [], {'perm': [1, 0, 2, 3]}), ('GatherND', [np.array([[3], [0], [1]])], {}),
        ('Transpose', [], {'perm': [1, 0, 2, 3]})]),
    'masks': (TOKENS, [
        ('MatMul', [weights(8, 6)], {}),
        ('Where', [np.tri(6) > 0, 0, np.float32(-np.inf)], {}), ('Softmax', [], {}),
        ('Where', [np.tri(6).T > 0, np.float32(0.5), 2], {}),
        ('Add', [np.where(np.tri(6) > 0, 0, -np.inf).astype(np.float32)], {}),
        ('Softmax', [], {})]),
    'pad_then_maximum': (MAPS, [
        ('Pad', [np.array([0, 0, 0, 0, 0, 0, 1, 1]), np.float32(-np.inf)], {}),
        ('MaxPool', [], {'kernel_shape': [2, 2], 'strides': [2, 2]})]),
}


@pytest.mark.parametrize('name, batch', [
    (name, batch) for name in CHAINS for batch in (1, 'dynamic')
    # Of which the file itself is for a batch of one.
    if (name, batch) != ('constant_queries_in_the_batch', 'dynamic')])
def test_a_chain_of_operators_too(tmp_path, name, batch):
    shape, nodes = CHAINS[name]
    file = file_of(tmp_path, nodes, shape, batch=batch)
    for found, expected in both(file, shape, batch):
        near(found, expected)


@pytest.mark.parametrize('shape, attributes', [
    ((2, 5, 4), {}), ((2, 5, 4), {'scale': 0.3, 'is_causal': 1}),
    ((5, 8), {'q_num_heads': 2, 'kv_num_heads': 2})])
def test_attention_as_one_operator_too(tmp_path, shape, attributes):
    nodes = [('Mul', [np.float32(1.5)], {}), ('Attention', ['x', 0, 'x'], attributes)]
    for found, expected in both(file_of(tmp_path, nodes, shape, opset=23), shape):
        near(found, expected)


@pytest.mark.parametrize('equation, constant', [
    ('bij,bkj->bik', None), ('bij,bkj->bki', None), ('bij,jk->bik', (8, 3)),
    ('bij,bij->bi', None), ('bij,hij->bhi', (2, 6, 8)), ('kj,bij->bki', (3, 8)),
    ('bij,jkl->blik', (8, 3, 2))])
def test_sums_of_products_too(tmp_path, equation, constant):
    second = 0 if constant is None else weights(*constant)
    if equation.startswith('kj'):
        nodes = [('Einsum', [second, X], {'equation': equation})]
    else:
        nodes = [('Neg', [], {}), ('Einsum', ['x', second], {'equation': equation})]
    for found, expected in both(file_of(tmp_path, nodes, TOKENS), TOKENS):
        near(found, expected)


@pytest.mark.parametrize('name, kind', [
    ('gelu_by_the_error_function', 'gelu'), ('gelu_in_another_order', 'gelu'),
    ('attention', 'attention'), ('heads_in_the_batch', 'attention')])
def test_what_exporters_write_out_is_recognised(tmp_path, name, kind):
    shape, nodes = CHAINS[name]
    kinds = [each.kind for each in read(file_of(tmp_path, nodes, shape)).operations]
    assert kind in kinds and not {'erf', 'softmax'} & {*kinds}


def test_parts_and_their_concatenation_too(tmp_path):
    nodes = [helper.make_node('Split', ['x'], ['a', 'b', 'c'], axis=1, num_outputs=3),
             helper.make_node('Split', ['a', 'sizes'], ['d', 'e'], axis=2),
             helper.make_node('Concat', ['e', 'd'], ['f'], axis=2),
             helper.make_node('Concat', ['c', 'f', 'b', 'more'], ['y'], axis=1)]
    file = file_of(tmp_path, nodes, (8, 5), initial={
        'sizes': np.array([1, 4]), 'more': weights(1, 2, 5)})
    for found, expected in both(file, (8, 5), 1):
        near(found, expected)


REFUSED = {
    'outside': ('TopK', MAPS, [np.array([2])], {}, "operator 'TopK' of node 'n0' is not in the "
                'vocabulary; replace it by one of: '),
    'largest': ('ArgMax', MAPS, [], {}, 'is not in the vocabulary; end the network before it'),
    'adaptive': ('GatherND', MAPS, [np.array([[0, 1], [0, 2]])], {}, 'an adaptive pool whose '
                 'sizes do not divide looks like that: import the torch module'),
    'mirrored': ('Pad', MAPS, [np.array([0, 0, 1, 1, 0, 0, 1, 1])], {'mode': 'reflect'},
                 "pads by 'reflect'; only zeros"),
    'cubic': ('Resize', MAPS, ['', np.array([1, 1, 2, 2], np.float32)], {'mode': 'cubic'},
              "resizes by 'cubic'"),
    'nearest_otherwise': ('Resize', MAPS, ['', np.array([1, 1, 2, 2], np.float32)], {
        'nearest_mode': 'ceil'}, "resizes by 'nearest', 'half_pixel'"),
    'linear_otherwise': ('Resize', MAPS, ['', np.array([1, 1, 2, 2], np.float32)], {
        'mode': 'linear', 'coordinate_transformation_mode': 'asymmetric'}, 'resizes by'),
    'across_frames': ('Softmax', MAPS, [], {'axis': 0}, 'across the frames of a batch'),
    'mean_of_frames': ('ReduceMean', MAPS, [np.array([0])], {}, 'across the frames of a batch'),
    'any_order': ('Gather', (70,), [np.arange(70)[::-1].copy()], {'axis': 1},
                  'takes 70 elements by their indices; export the network with slices'),
    'three_axes': ('Conv', (2, 5, 5, 5), [weights(3, 2, 2, 2, 2)], {}, 'works over 3 axes'),
    'quantised': ('QuantizeLinear', MAPS, [np.float32(0.1), np.uint8(3)], {},
                  'the file is quantised'),
    'drops_out': ('Dropout', MAPS, [np.float32(0.5), np.bool_(True)], {},
                  'drops out also in evaluation; call .eval() before exporting'),
    'own_statistics': ('BatchNormalization', MAPS, [
        weights(4), weights(4), weights(4), weights(4) ** 2], {'training_mode': 1},
        "uses the batch's own statistics; call .eval() before exporting"),
    'to_whole_numbers': ('Cast', MAPS, [], {'to': onnx.TensorProto.INT64},
                         'turns values into int64'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_the_vocabulary_does_not_have_is_refused(tmp_path, name):
    kind, shape, constants, attributes, said = REFUSED[name]
    kinds = {'Cast': onnx.TensorProto.INT64, 'ArgMax': onnx.TensorProto.INT64,
             'QuantizeLinear': onnx.TensorProto.UINT8}
    file = file_of(tmp_path, [(kind, constants, attributes)], shape,
                   gives=kinds.get(kind, onnx.TensorProto.FLOAT), outputs={'TopK': 2}.get(kind, 1))
    with pytest.raises(ImportFault) as refused:
        read(file)
    assert said in str(refused.value) and str(file) in str(refused.value)
