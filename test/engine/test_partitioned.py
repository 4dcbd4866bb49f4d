"""The engine over several processes: it computes the same, and it ends when one of them does."""

import json
import math
import multiprocessing
import os
from pathlib import Path
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from stream_agent.engine import packed
from stream_agent.engine.backends import BackendError
from stream_agent.engine.ranks.engine import joined_ranks, PartitionedEngine
from stream_agent.engine.ranks.exchange import RankError
from stream_agent.engine.ranks.local_ranks import make_job, measure_nodes, start_ranks
from stream_agent.engine.ranks.step import keep_weights
from stream_agent.theory.patterns import (
    newest_image_pattern, sequential_pattern, streaming_pattern)
from stream_agent.theory.planning.costs import check_costs
from stream_agent.theory.planning.partition import PartitionError
from support import ranks_job
from support.graphs import EVERY_LAYER
from support.jobs import wait_for
from support.ranks_job import LOOPS, network_of, SEVERAL_INPUTS, spread
import torch
from torch import distributed

ROOT = Path(__file__).parents[2]
ALL_AGAIN = 'see what its process printed, and start all ranks again'


@pytest.fixture(scope='module')
def context():
    """Return what starts processes that have torch imported already."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['networkx', 'torch.distributed'])
    return context


@pytest.fixture
def start(context, tmp_path):
    """Start ranks, and end those that are left."""
    processes = []

    def start_ranks(job, ranks, *arguments):
        with socket.socket() as found:
            found.bind(('127.0.0.1', 0))
            port = found.getsockname()[1]
        for rank in range(ranks):
            processes.append(context.Process(
                target=job, args=(rank, ranks, port, tmp_path, *arguments)))
            processes[-1].start()
        return processes

    yield start_ranks
    for process in processes:
        process.kill()
        process.join()


@pytest.fixture
def running(start, tmp_path):
    """Return two ranks that step, and what each says in the end."""
    processes = start(ranks_job.drive, 2, math.inf)
    wait_for((tmp_path / 'running').exists)

    def said(rank):
        processes[rank].join(20)
        return (tmp_path / f'rank{rank}.txt').read_text()

    return processes, said


def check_found(path, ranks):
    found = json.loads(path.read_text())
    assert list(found) == [name for name, *_ in ranks_job.cases(ranks)]
    assert sum(case['messages'] > 2 for case in found.values()) >= len(found) - 2
    different = {name for name, case in found.items() if not case['equal']}
    assert different <= {'every frame, packed', 'schedule, packed'}
    assert max(case['distance'] for case in found.values()) < 1e-6
    assert min(case['change'] for case in found.values()) > 0.1


@pytest.mark.real_time
@pytest.mark.any_time
def test_two_processes_of_torchrun_compute_the_same(tmp_path):
    path = tmp_path / 'found.json'
    subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
         ranks_job.__file__, str(path)], check=True, timeout=100,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, (ROOT, ROOT / 'test'))),
             'OMP_NUM_THREADS': '1'})
    check_found(path, 2)


@pytest.mark.slow
@pytest.mark.child_process
def test_three_processes_compute_the_same(start, tmp_path):
    for process in start(ranks_job.compare_all, 3):
        process.join(60)
    check_found(tmp_path / 'found.json', 3)


@pytest.mark.child_process
def test_a_rank_that_dies_is_named(running):
    processes, said = running
    processes[1].kill()
    start = time.monotonic()
    assert re.fullmatch(
        rf"rank 1 did not (take an order|take '\w+'|send '\w+') and is gone; {ALL_AGAIN}", said(0))
    assert time.monotonic() - start < 10


@pytest.mark.child_process
def test_a_rank_that_hangs_is_named_after_the_timeout(running):
    processes, said = running
    os.kill(processes[1].pid, signal.SIGSTOP)
    assert re.fullmatch(
        rf"rank 1 did not (take an order|take '\w+'|send '\w+') within 1 s; {ALL_AGAIN}", said(0))
    # Once it is awake, it does not stay behind.
    os.kill(processes[1].pid, signal.SIGCONT)
    assert re.fullmatch(
        rf"rank 0 did not (send an order|take '\w+'|send '\w+') and is gone; {ALL_AGAIN}", said(1))


@pytest.mark.child_process
def test_no_rank_stays_when_rank_0_dies(running):
    processes, said = running
    processes[0].kill()
    assert re.fullmatch(
        rf"rank 0 did not (send an order|take '\w+'|send '\w+') and is gone; {ALL_AGAIN}", said(1))


@pytest.mark.child_process
def test_a_rank_that_cannot_start_is_named_and_nothing_is_left():
    network = network_of(LOOPS, newest_image_pattern(LOOPS))
    with pytest.raises(RankError) as error:
        start_ranks(make_job(2, '/nowhere/policy.safetensors'), network)
    assert str(error.value) == (
        'rank 1 ended with exit code 1; see what its process printed')
    assert not distributed.is_initialized()
    pid = os.getpid()
    words = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    assert not any('engine.ranks.worker' in Path(f'/proc/{word}/cmdline').read_text()
                   for word in words)


@pytest.mark.child_process
def test_a_fault_of_rank_0_lets_the_others_go(start, tmp_path):
    for process in start(ranks_job.drive, 2, 8):
        process.join(20)
        assert process.exitcode == 0
    assert (tmp_path / 'rank0.txt').read_text() == 'a fault of the program'
    assert (tmp_path / 'rank1.txt').read_text() == 'left in peace'


@pytest.fixture
def alone(tmp_path):
    """Be the only process of a group."""
    distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0,
                                   world_size=1)
    yield
    distributed.destroy_process_group()


def engine_over(ranks, seed=1):
    pattern = newest_image_pattern(LOOPS)
    return PartitionedEngine(network_of(LOOPS, pattern), spread(LOOPS, pattern, ranks, seed))


def test_calls_out_of_order_say_what_to_call(alone):
    engine = engine_over(1)
    (image,) = ranks_job.images(1)
    with pytest.raises(RuntimeError) as error:
        engine.settle()
    assert str(error.value) == 'settle: there is nothing to settle; call respond(frame) first'
    engine.respond(image)
    with pytest.raises(RuntimeError) as error:
        engine.respond(image)
    assert str(error.value) == (
        'respond: the frame before is not settled; call settle() first')
    with pytest.raises(RuntimeError) as error:
        engine.serve()
    assert str(error.value) == (
        'serve: this is rank 0, which gets the frames; call respond(frame)')


@pytest.mark.parametrize('frame, message', [
    (np.zeros((1, 8, 8)), 'respond: the frame is float64; it needs to be a float32 array, as '
     'preprocessing makes it'),
    (np.zeros((1, 8, 9), np.float32),
     'respond: the frame has the shape [1, 8, 9]; the network takes [1, 8, 8]')])
def test_a_frame_that_does_not_fit_is_sent_to_nobody(alone, frame, message):
    engine = engine_over(1)
    with pytest.raises(ValueError) as error:
        engine.step(frame)
    assert str(error.value) == message
    engine.step(ranks_job.images(1)[0])


def test_frames_and_outputs_belong_to_the_caller(alone):
    pattern = streaming_pattern(LOOPS)
    plan = spread(LOOPS, pattern, 1, 1)
    kept, spoilt = (PartitionedEngine(network_of(LOOPS, pattern), plan) for _ in range(2))
    for image in ranks_job.images(6):
        expected = kept.step(image)
        frame = image.copy()
        output = spoilt.step(frame)
        assert np.array_equal(output, expected)
        frame[:], output[:] = np.nan, np.nan


def test_frames_go_to_rank_0(alone, monkeypatch):
    engine = engine_over(1)
    monkeypatch.setattr(engine, 'rank', 2)
    with pytest.raises(RuntimeError) as error:
        engine.step(ranks_job.images(1)[0])
    assert str(error.value) == (
        'respond: this is rank 2, and frames go to rank 0; call serve()')


def test_a_partition_over_more_ranks_than_there_are_is_refused(alone):
    with pytest.raises(PartitionError) as error:
        engine_over(3)
    assert str(error.value) == (
        'partition: it is over 3 ranks, but there are 1 processes; start them with torchrun '
        '--nproc-per-node 3')


def test_a_partition_for_another_pattern_is_refused(alone):
    plan = spread(LOOPS, newest_image_pattern(LOOPS), 2, 1)
    with pytest.raises(PartitionError) as error:
        PartitionedEngine(network_of(LOOPS, sequential_pattern(LOOPS)), plan)
    assert str(error.value) == (
        'partition: the edge n2->n3 has R = 0, but leads from rank 0 to rank 1; put both on one '
        'rank, or let the edge stream')


def test_an_backend_of_whole_halves_is_refused(alone):
    pattern = newest_image_pattern(LOOPS)
    with pytest.raises(BackendError) as error:
        PartitionedEngine(network_of(LOOPS, pattern), spread(LOOPS, pattern, 1, 0),
                          backend='onnxruntime')
    assert str(error.value) == (
        "backend 'onnxruntime' computes no single nodes; ranks take eager or packed")
    with pytest.raises(BackendError) as error:
        PartitionedEngine(network_of(LOOPS, pattern), spread(LOOPS, pattern, 1, 0),
                          precision='bfloat16')
    assert str(error.value) == "backend 'eager': it works in float32, not in bfloat16"


@pytest.mark.parametrize('backend', ['eager', *['packed'] * packed.is_available()])
@pytest.mark.parametrize('graph', [LOOPS, SEVERAL_INPUTS], ids=['one input', 'several inputs'])
def test_every_node_is_measured(graph, backend):
    costs = measure_nodes(network_of(graph, newest_image_pattern(graph)), backend=backend,
                          frames=3)
    check_costs(costs, graph)
    assert all(0 < seconds < 0.1 for seconds in costs.nodes.values())


def test_a_process_without_a_rank_is_told_how_to_start(monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(RankError) as error, joined_ranks():
        pass
    assert str(error.value) == (
        'this process has no rank; start it with torchrun --nproc-per-node RANKS SCRIPT')


def test_a_rank_keeps_the_weights_of_its_own_nodes(alone):
    pattern = newest_image_pattern(LOOPS)
    network = network_of(LOOPS, pattern)
    plan = spread(LOOPS, pattern, 1, 0)
    PartitionedEngine(network, plan)
    assert not any(weight.is_meta for weight in network.parameters())
    keep_weights(network, ['n2', 'memory'], torch.device('cpu'))
    kept = {name for name, weight in network.named_parameters() if not weight.is_meta}
    assert {name.split('.')[1] for name in kept} == {'twice', 'n4-n2', 'n5-memory', 'memory'}


def test_a_rank_keeps_the_bodies_of_its_own_nodes():
    for kept, is_meta in ((['tokens'], False), (['memory'], True)):
        network = network_of(EVERY_LAYER, newest_image_pattern(EVERY_LAYER))
        keep_weights(network, kept, torch.device('cpu'))
        assert {weight.is_meta for weight in network.bodies.parameters()} == {is_meta}
