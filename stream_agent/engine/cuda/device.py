"""
What runs the halves of a step: a GPU that records them once, or the CPU, for tests.

Both follow the same plans on the same buffers. The CPU runs operations in an arbitrary order that
a plan's streams and events allow, so a dependency that a plan forgets shows in its results.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
import time
from typing import NamedTuple
from weakref import ref

from stream_agent.engine.cuda.branches import BranchPlan
import torch
from torch import Tensor

Run = Callable[[], object]

# As many as torch has streams to give; more operations than these share them.
MOST_STREAMS = 32
# Before a recording: cuDNN looks for its fastest algorithm, libraries take their workspaces.
WARM_UPS = 3
# Long enough for the CPU to launch what is measured, so that the device never waits for it.
HEAD_START_CYCLES = 10_000_000


class Half(NamedTuple):
    """Operations that are launched together; ``runs`` by the indices of the plan."""

    plan: BranchPlan
    runs: tuple[Run, ...]


@dataclass(frozen=True, eq=False)
class RecordedGraph:
    """
    A half that can be run, and all that its operations read and write.

    A CUDA graph knows addresses only, so the tensors that lie there need an owner.
    """

    half: Half
    run: Run

    def __call__(self) -> None:
        self.run()


class HostDevice:
    """Runs halves on the CPU, in an order by the seed where the plan leaves it open."""

    #: Whether cuDNN's fused operations are there.
    fuses = False

    def __init__(self, seed: int = 0) -> None:
        self.torch_device = torch.device('cpu')
        self._random = Random(seed)

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return zeros that device and host can both reach fast."""
        return torch.zeros(shape, dtype=dtype)

    def record(self, half: Half) -> RecordedGraph:
        """Return what runs a half; like a GPU, it owns no operation by itself."""
        plan, runs = half.plan, [ref(run) for run in half.runs]
        return RecordedGraph(half, torch.inference_mode()(lambda: self._run(plan, runs)))

    def _run(self, plan: BranchPlan, runs: list[ref[Run]]) -> None:
        """Run every operation once, as soon as those before it on its stream and its events."""
        streams: dict[int, list] = {}
        for launch in plan.launches:
            streams.setdefault(launch.stream, []).append(launch)
        done: set[int] = set()
        while streams:
            stream = self._random.choice([
                stream for stream, launches in streams.items() if done.issuperset(
                    launches[0].waits)])
            operation = streams[stream].pop(0).operation
            runs[operation]()()
            done.add(operation)
            if not streams[stream]:
                del streams[stream]

    def launch(self, run: Run) -> None:
        """Start what was recorded, after all that was started before."""
        run()

    def answer(self, run: Run) -> None:
        """Start what was recorded, and wait for it."""
        run()

    def wait(self) -> None:
        """Wait for all that was started."""

    def seconds(self, runs: list[Run], head_start: bool = True) -> float:
        """Return the seconds that some runs take, one after the other."""
        start = time.perf_counter()
        for run in runs:
            run()
        return time.perf_counter() - start


class GraphDevice:
    """
    Records halves as CUDA graphs and replays them.

    All graphs are replayed on one stream, each after the one before, so they can share the
    memory of their temporary values; results stay in buffers that were there before. Streams
    exist before anything is recorded.
    """

    fuses = True

    def __init__(self, device: torch.device) -> None:
        self.torch_device = device
        self._streams = [torch.cuda.Stream(device) for _ in range(MOST_STREAMS)]
        self._main = self._streams[0]
        self._on_stream = [torch.cuda.stream(stream) for stream in self._streams]
        self._pool = torch.cuda.graph_pool_handle()
        self._answered = torch.cuda.Event()

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return zeros in pinned memory."""
        return torch.zeros(shape, dtype=dtype, pin_memory=True)

    @torch.inference_mode()
    def record(self, half: Half) -> RecordedGraph:
        """Warm a half up on the very streams that it is recorded on, and record it."""
        if not half.runs:
            return RecordedGraph(half, lambda: None)
        # Weights and buffers may have been filled on the stream of the caller.
        self.wait()
        for _ in range(WARM_UPS):
            with self._on_stream[0]:
                self._issue(half)
        self.wait()
        graph = torch.cuda.CUDAGraph()
        forget_workspaces()
        try:
            # Other threads may continue meanwhile. The main stream is the current one
            # already, as torch does not leave it where a capture fails; and torch up to 2.10
            # would make seeds here that only inference mode could write.
            with self._on_stream[0], torch.inference_mode(False), torch.cuda.graph(
                    graph, pool=self._pool, stream=self._main,
                    capture_error_mode='thread_local'), torch.inference_mode():
                self._issue(half)
        finally:
            forget_workspaces()
        return RecordedGraph(half, graph.replay)

    def _issue(self, half: Half) -> None:
        """Give every operation to its stream; the current stream is the main one."""
        fork = self._main.record_event()
        events: dict[int, torch.cuda.Event] = {}
        for launch in half.plan.launches:
            stream = self._streams[launch.stream]
            if launch.forks:
                stream.wait_event(fork)
            for other in launch.waits:
                stream.wait_event(events[other])
            if launch.stream:
                with self._on_stream[launch.stream]:
                    half.runs[launch.operation]()
            else:
                half.runs[launch.operation]()
            if launch.recorded:
                events[launch.operation] = stream.record_event()
        for other in half.plan.joins:
            self._main.wait_event(events[other])

    def launch(self, run: Run) -> None:
        """Start what was recorded, after all that was started before, and do not wait."""
        with self._on_stream[0]:
            run()

    def answer(self, run: Run) -> None:
        """
        Start what was recorded, and wait for it.

        The event's own wait spins in the driver, where there are as many cores as waiting
        threads; asking it again and again from Python would cost more than it takes.
        """
        with self._on_stream[0]:
            run()
        self._answered.record(self._main)
        self._answered.synchronize()

    def wait(self) -> None:
        """Wait for all that was started."""
        torch.cuda.synchronize(self.torch_device)

    def seconds(self, runs: list[Run], head_start: bool = True) -> float:
        """
        Return the device's seconds for some runs, one after the other.

        :param head_start: Whether the device begins when the first runs are launched already, so
            that the time is the device's alone.
        """
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with self._on_stream[0]:
            if head_start and hasattr(torch.cuda, '_sleep'):  # private, but torch tests with it
                torch.cuda._sleep(HEAD_START_CYCLES)
            start.record(self._main)
            for run in runs:
                run()
            end.record(self._main)
        end.synchronize()
        return start.elapsed_time(end) / 1e3


Device = HostDevice | GraphDevice


def forget_workspaces() -> None:
    """
    Let cuBLAS take new workspaces, from the memory of the graph that is being recorded.

    Torch frees those that it keeps for a stream when a graph of that stream is destroyed, or when
    torch.compile records one; graphs that were recorded with them would keep writing there.
    """
    getattr(torch._C, '_cuda_clearCublasWorkspaces', lambda: None)()


def device_of(tensor: Tensor) -> Device:
    """Return what works where a tensor lies."""
    return GraphDevice(tensor.device) if tensor.device.type == 'cuda' else HostDevice()
