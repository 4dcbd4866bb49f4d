"""Trainings side by side, in processes of their own, that stop together."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
import multiprocessing
from multiprocessing.synchronize import Event
import os
import signal
import threading
from typing import TypeVar

from stream_agent.learning.progress import listen_to, StopRequests
from stream_agent.learning.settings import TrainingError

T = TypeVar('T')
POLL_PERIOD = 0.2

_idle = threading.Event()


def run_side_by_side(work: Callable[..., T], jobs: Sequence, workers: int) -> list[T | None]:
    """
    Do every job in a worker; a request to stop is passed on to them.

    :param work: Called with one job; returns soon after it was asked to stop.
    :returns: The results of the jobs; None for those not started before the stop.
    :raises TrainingError: If a worker was killed.
    :raises KeyboardInterrupt: If asked to stop a second time; the workers are killed.
    """
    # A fresh interpreter each, since torch does not survive a fork.
    context = multiprocessing.get_context('spawn')
    told = context.Event()
    with ProcessPoolExecutor(workers, context, begin_worker, (told,)) as pool:
        # Ctrl-C reaches the workers too, which inherit that it is ignored.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        futures = [pool.submit(unless_told, work, job) for job in jobs]
        signal.signal(signal.SIGINT, before)
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
