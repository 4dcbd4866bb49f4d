"""The backend that 'auto' takes."""

import numpy as np
import pytest
from stream_agent.engine.autotune import best, choose_backend, Measured
from stream_agent.engine.backends import BackendConfig, BackendError, usable
from stream_agent.engine.engine import Engine
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import newest_image_pattern
from support.graphs import SR
import torch
from torch import nn


def measured(name, respond, step, threads=1, error=0.0):
    return Measured(name, threads, None, respond, step, error)


def test_the_first_answer_wins_among_fast_steps():
    quick = measured('quick', respond=0.1, step=1.2)
    fast = measured('fast', respond=0.2, step=1.0)
    slow = measured('slow', respond=0.01, step=2.0)
    assert best([slow, fast, quick], 'float32') is quick


def test_further_threads_have_to_be_worth_it():
    one = measured('one', respond=0.1, step=1.0)
    hardly = measured('one', respond=0.095, step=0.95, threads=2)
    clearly = measured('one', respond=0.05, step=0.5, threads=2)
    assert best([one, hardly], 'float32') is one
    assert best([one, clearly], 'float32') is clearly


def test_a_runtime_that_computes_something_else_is_not_taken():
    right = measured('right', respond=0.2, step=1.0)
    wrong = measured('wrong', respond=0.1, step=0.5, error=0.5)
    assert best([wrong, right], 'float32') is right
    with pytest.raises(BackendError) as error:
        best([wrong], 'float32')
    assert str(error.value) == ('wrong computes another function than the network: its outputs '
                                "differ by 5.0e-01; take 'eager'")


def test_auto_measures_all_that_can_be_used_and_takes_the_best():
    torch.manual_seed(0)
    network = RolloutNetwork(SR, newest_image_pattern(SR)).eval()
    engine = Engine(network, backend='auto', threads=0)
    assert {one.name for one in engine.measured} == set(usable('cpu', 'float32'))
    assert all(0 < one.respond <= one.step and one.error < 1e-5 for one in engine.measured)
    chosen = best(engine.measured, 'float32')
    assert (engine.backend_name, engine.threads) == (chosen.name, chosen.threads)


class Branching(nn.Module):
    """What a trace freezes: a branch on values."""

    def forward(self, value):
        return value if float(value[0, 0]) * 1e3 % 2 > 1 else -value


class Untraceable(nn.Module):
    """What no exporter takes, and no graph of tensors."""

    def forward(self, value):
        return value.new_tensor(np.sort(value.numpy(), axis=1).tolist())


def with_transform(module):
    """Return a network in which a module of a user's stands behind a streaming edge."""
    network = RolloutNetwork(SR, newest_image_pattern(SR)).eval()
    program = network.programs['out']
    ((transform,), *others) = program.terms
    changed = transform._replace(module=nn.Sequential(transform.module, module))
    network.programs['out'] = program._replace(terms=((changed,), *others))
    return network


def test_what_a_runtime_cannot_express_is_left_to_others():
    engine = Engine(with_transform(Untraceable()), backend='auto', threads=1)
    assert engine.backend_name in ('eager', 'packed')
    with pytest.raises(BackendError) as error:
        Engine(with_transform(Untraceable()), backend='onnxruntime')
    assert str(error.value).startswith("backend 'onnxruntime' c")


def test_a_runtime_that_freezes_a_branch_is_refused():
    torch.manual_seed(3)
    network = with_transform(Branching())
    with pytest.raises(BackendError) as error:
        Engine(network, backend='onnxruntime')
    assert str(error.value).startswith(
        "backend 'onnxruntime' computes another function than the network: its outputs differ")


def test_a_given_number_of_threads_is_kept():
    network = RolloutNetwork(SR, newest_image_pattern(SR)).eval()
    chosen, tried = choose_backend(torch.device('cpu'), BackendConfig(network), threads=2)
    assert {one.threads for one in tried} == {2}
    assert str(chosen).startswith(f'{chosen.name}, 2 threads: respond ')
