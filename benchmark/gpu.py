"""
How fast the engine is on a GPU, next to its targets and to what a user would pick instead.

Outputs are checked against the CPU first. Times of the device are taken by its events, in
alternation, after a warm-up; medians unless stated. float32 without TF32 unless stated. Each
section prints what it finds at once; one that fails says why, and the next one goes on.
"""

from collections.abc import Callable
import gc
import json
import sys
import time

from gpu_report import (
    chip, commit, cpu_run, engine_run, FRAMES, GpuBench, GRAPHS, LARGEST_PEER_ERROR, table)
from harness import alternate, parse, run_benchmark
import numpy as np
from stream_agent.engine.cuda.graphs import CudaGraphBackend
from stream_agent.engine.cuda.program import Variant
from stream_agent.engine.torch_globals import computing
from stream_agent.network.preprocessing import Preprocessing
import torch

LARGEST_ERROR = 1e-5
BACK_TO_BACK = 20


def outputs(bench: GpuBench, precision: str = 'float32') -> None:
    """Compare with the CPU in one precision, and time every variant of kernels."""
    for name, count in FRAMES.items():
        frames = bench.frames(name, count)
        wanted, values = cpu_run(bench, name, 'streaming', frames)
        backend = bench.backend(name, precision=precision)
        what = f'{name}, {precision}'
        error = np.abs(engine_run(backend, frames) - wanted).max()
        bench.row(f'{name}_{precision}_error', f'{what}: largest error of an output '
                  f'(up to {np.abs(wanted).max():.2g})', error, '',
                  LARGEST_ERROR if precision == 'float32' else None)
        inner = max(
            float((value.float().cpu() - values[node]).abs().max()
                  / values[node].abs().max().clamp_min(1e-9))
            for node, value in backend.program.values(count).items() if node != 'image')
        bench.row(f'{name}_{precision}_inner_error',
                  f'{what}: largest error of a node over its largest value', inner)
        for variant, seconds in sorted(backend.measured.items(), key=lambda pair: pair[1]):
            bench.row(f'{name}_{precision}_{variant}_us', f'{what}: step on the device, {variant}',
                      seconds * 1e6, 'us')
            if precision == 'float32' and not bench.quick:
                single = bench.backend(name, among=[variant])
                error = np.abs(engine_run(single, frames) - wanted).max()
                bench.row(f'{name}_{variant}_error', f'{what}: largest error of an output, '
                          f'{variant}', error, '', LARGEST_ERROR)


def round_trip(bench: GpuBench) -> None:
    """Time frames on the host to outputs on the host, next to an empty network."""
    from gpu_peers import Recorded
    backend = bench.backend('policy')
    empty = Recorded(bench.network('policy'), bench.device, empty=True)
    cameras = {(120, 160, 3): None, (480, 640, 3): None}
    preprocessing = Preprocessing((3, 120, 160))
    generator = np.random.default_rng(0)
    for camera in cameras:
        cameras[camera] = (
            bench.backend('policy', preprocessing=preprocessing, camera=camera,
                          among=[backend.program.variant]),
            generator.integers(0, 256, (1, *camera), np.uint8))
    frames = bench.frames('policy', 8)

    def timed(answer: Callable, frame: np.ndarray, settle: Callable) -> float:
        start = time.perf_counter()
        answer(frame)
        seconds = time.perf_counter() - start
        settle()
        bench.device.wait()
        return seconds

    turn = iter(range(10**9))
    competitors = {
        'network': lambda: timed(backend.respond, frames[next(turn) % 8], backend.settle),
        'empty': lambda: timed(empty.step, frames[next(turn) % 8], lambda: None)}
    for camera, (engine, pixels) in cameras.items():
        competitors[f'pixels {camera[1]}x{camera[0]}'] = (
            lambda engine=engine, pixels=pixels: timed(
                engine.respond_pixels, pixels, engine.settle))
    gc.collect()
    seconds = alternate(competitors, 300 if bench.quick else 3000, warm_up=100)
    for name, values in seconds.items():
        p50, p99 = np.percentile(values, [50, 99]) * 1e6
        goals = (60.0, 120.0) if name == 'network' else (None, None)
        bench.row(f'round_trip_{name}_p50_us', f'policy, frame to output, {name}: p50', p50,
                  'us', goals[0])
        bench.row(f'round_trip_{name}_p99_us', f'policy, frame to output, {name}: p99', p99,
                  'us', goals[1])
    bench.row('round_trip_over_empty', 'policy, frame to output: network / empty, p50',
              np.median(seconds['network']) / np.median(seconds['empty']), '', 2.0)


def step_seconds(backend: CudaGraphBackend) -> float:
    """Return the device's seconds for a step, of some that follow each other at once."""
    return backend.device.seconds(backend.program.steps(BACK_TO_BACK)) / BACK_TO_BACK


def steps(bench: GpuBench, name: str, over_recorded: float | None,
          over_eager: float | None) -> None:
    """Time whole steps on the device, next to sequential ones."""
    from gpu_peers import Eager, Recorded
    streaming = bench.backend(name)
    unforked = bench.backend(name, forked=False, among=[streaming.program.variant])
    own = bench.backend(name, 'sequential', among=[Variant(fused=bench.device.fuses), Variant()])
    recorded, eager = (make(bench.network(name, 'sequential'), bench.device)
                       for make in (Recorded, Eager))
    frames = bench.frames(name, FRAMES[name])
    wanted, _ = cpu_run(bench, name, 'sequential', frames)
    for what, outputs in (('recorded', [recorded.step(frame) for frame in frames]),
                          ('eager', [eager.step(frame) for frame in frames]),
                          ('own sequential', engine_run(own, frames))):
        error = np.abs(np.stack(outputs) - wanted).max()
        if error > LARGEST_PEER_ERROR:
            raise RuntimeError(f'{what}: outputs differ from the CPU by {error:.3g}')
    device = bench.device
    seconds = alternate({
        'streaming': lambda: step_seconds(streaming),
        'streaming, one stream': lambda: step_seconds(unforked),
        'sequential, this engine': lambda: step_seconds(own),
        'sequential, one CUDA graph': lambda: device.seconds(
            [recorded.launch] * BACK_TO_BACK) / BACK_TO_BACK,
        'sequential, eager': lambda: device.seconds([eager.launch] * 5, head_start=False) / 5},
        10 if bench.quick else 50)
    medians = {what: float(np.median(values)) for what, values in seconds.items()}
    for what, value in medians.items():
        bench.row(f'{name}_{what}_us', f'{name}, step: {what}', value * 1e6, 'us')
    bench.row(f'{name}_over_recorded', f'{name}: streaming / sequential CUDA graph',
              medians['streaming'] / medians['sequential, one CUDA graph'], '', over_recorded)
    bench.row(f'{name}_over_eager', f'{name}: streaming / eager',
              medians['streaming'] / medians['sequential, eager'], '', over_eager)


def nodes_alone(bench: GpuBench) -> None:
    """Compare a forked step with its most expensive node alone."""
    for name in GRAPHS:
        backend = bench.backend(name)
        single = bench.backend(name, among=[backend.program.variant._replace(batched=False)])
        alone = single.program.alone()
        rounds = 5 if bench.quick else 20
        seconds = alternate({
            'step': lambda: step_seconds(backend),
            **{node: lambda run=run: single.device.seconds([run] * BACK_TO_BACK) / BACK_TO_BACK
               for node, run in alone.items()}}, rounds)
        medians = {node: float(np.median(values)) for node, values in seconds.items()}
        step = medians.pop('step')
        node = max(medians, key=medians.get)
        bench.row(f'{name}_node_alone_us', f'{name}: most expensive node alone ({node})',
                  medians[node] * 1e6, 'us')
        bench.row(f'{name}_step_over_node', f'{name}: forked step / that node',
                  step / medians[node], '', 1.6)


def batch_axis(bench: GpuBench) -> None:
    """Time what a batch costs the host, and the device."""
    sizes = (1, 4, 16, 64)
    variant = Variant(fused=bench.backend('policy').program.variant.fused)
    engines = {size: bench.backend('policy', batch_size=size, among=[variant])
               for size in sizes}
    frames = bench.frames('policy', 6, 4)
    wanted, _ = cpu_run(bench, 'policy', 'streaming', frames)
    error = np.abs(engine_run(engines[4], frames) - wanted).max()
    bench.row('batch_error', 'policy, 4 cameras: largest error of an output', error, '',
              LARGEST_ERROR)

    def launched(engine: CudaGraphBackend) -> float:
        program = engine.program
        start = time.perf_counter()
        engine.device.launch(program.respond[0][1 % len(program.settle)])
        engine.device.launch(program.settle[1 % len(program.settle)])
        seconds = time.perf_counter() - start
        bench.device.wait()
        return seconds

    host = alternate({size: lambda engine=engine: launched(engine)
                      for size, engine in engines.items()}, 50 if bench.quick else 500)
    device = alternate({size: lambda engine=engine: step_seconds(engine)
                        for size, engine in engines.items()}, 5 if bench.quick else 20)
    for size in sizes:
        bench.row(f'batch_{size}_host_us', f'policy, {size} cameras: host, to launch a step',
                  np.median(host[size]) * 1e6, 'us')
        bench.row(f'batch_{size}_device_us', f'policy, {size} cameras: device, a step',
                  np.median(device[size]) * 1e6, 'us')
    bench.row('batch_host_ratio', 'policy: host cost of 64 cameras / of one',
              np.median(host[64]) / np.median(host[1]), '', 1.1)


def peers(bench: GpuBench, name: str) -> None:
    """Time whole sequential steps in other runtimes."""
    from gpu_peers import time_peers
    time_peers(bench, name)


def measure(device: str, quick: bool, as_json: bool) -> None:
    """Run all sections and print the results."""
    bench = GpuBench(device, quick, as_json)
    title = f'{chip(bench.torch_device)}; commit {commit()}'
    bench.say(title)
    torch.set_num_threads(1)
    with computing(tf32=False):
        bench.section('Outputs', outputs)
        bench.section('Round trip', round_trip)
        bench.section('DSR6, steps', lambda bench: steps(bench, 'dsr6', 1 / 3, 1 / 30))
        bench.section('Deep graph, steps', lambda bench: steps(bench, 'deep', 1 / 5, None))
        bench.section('Policy graph, steps', lambda bench: steps(bench, 'policy', None, None))
        bench.section('Most expensive node', nodes_alone)
        bench.section('Batch axis', batch_axis)
        for precision in () if quick else ('tf32', 'bfloat16'):
            bench.section(f'Outputs in {precision}',
                          lambda bench, precision=precision: outputs(bench, precision))
        for name in GRAPHS:
            bench.section(f'Other runtimes, {name}', lambda bench, name=name: peers(bench, name))
    bench.say(f'\n{table(bench, title)}')
    if as_json:
        print(json.dumps({**bench.figures, 'chip': title}))


def main() -> None:
    """Measure the GPU, or say that there is none."""
    arguments = parse(__doc__)
    if not torch.cuda.is_available():
        print('benchmark/gpu.py measures a CUDA GPU, and torch finds none on this machine; run '
              'it where nvidia-smi lists one, with a CUDA build of torch', file=sys.stderr)
        raise SystemExit(2)
    measure('cuda', arguments.quick, arguments.json)


if __name__ == '__main__':
    run_benchmark(main)
