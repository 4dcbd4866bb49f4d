"""Trainings side by side, in processes of their own, that stop together."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
import multiprocessing
from multiprocessing import resource_tracker
from multiprocessing.synchronize import Event
import os
import signal
import threading
from typing import Any, TypeVar

from stream_agent.learning.progress import listen_to, StopRequests
from stream_agent.learning.settings import TrainingError

T = TypeVar('T')
POLL_PERIOD = 0.2

_idle = threading.Event()


class WorkerPool(ProcessPoolExecutor):
    """
    Workers that never hear Ctrl-C, from their interpreter's first instant on.

    A terminal sends it to all processes; one that is still starting would print a traceback.

    :param begin: Called in every worker with ``arguments`` before its first job.
    """

    def __init__(self, workers: int, begin: Callable, *arguments: object) -> None:
        # A fresh interpreter each, since torch does not survive a fork.
        super().__init__(workers, multiprocessing.get_context('spawn'), begin, arguments)
        # Starting it would let Ctrl-C through again.
        resource_tracker.ensure_running()

    def submit(self, *args: Any, **kwargs: Any) -> Future:
        # New processes inherit what is blocked here; a request in between comes afterwards.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(*args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_side_by_side(work: Callable[..., T], jobs: Sequence, workers: int) -> list[T | None]:
    """
    Do every job in a worker; a request to stop is passed on to them.

    :param work: Called with one job; returns soon after it was asked to stop.
    :returns: The results of the jobs; None for those not started before the stop.
    :raises TrainingError: If a worker was killed.
    :raises KeyboardInterrupt: If asked to stop a second time; the workers are killed.
    """
    told = multiprocessing.get_context('spawn').Event()
    with WorkerPool(workers, begin_worker, told) as pool:
        futures = [pool.submit(unless_told, work, job) for job in jobs]
        try:
            with StopRequests() as stop:
                while wait(futures, POLL_PERIOD).not_done:
                    if stop.requested and not told.is_set():
                        told.set()
                        for future in futures:
                            future.cancel()
        except KeyboardInterrupt:
            for worker in multiprocessing.active_children():
                worker.kill()
            raise
    try:
        return [None if future.cancelled() else future.result() for future in futures]
    except BrokenProcessPool:
        raise TrainingError('a worker was killed, perhaps as memory ran out; the same command '
                            'resumes from the last files, and --workers 1 needs less') from None


def begin_worker(told: Event) -> None:
    """Make this process a worker, which ends with the process that started it."""
    listen_to(told)
    _idle.set()
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """End this process after its parent; a running training stops and saves first."""
    if parent := multiprocessing.parent_process():
        parent.join()
    _idle.wait()
    os._exit(1)


def unless_told(work: Callable[..., T], job: object) -> T | None:
    """Do a job, unless the stop came before it; the pool fetches one in advance."""
    _idle.clear()
    try:
        return None if StopRequests().requested else work(job)
    finally:
        _idle.set()
