"""One function over many clips, in worker processes that may die.

A decoder that crashes, hangs or eats memory costs its own clip and nothing else: the worker is replaced and the others
go on. Workers are forked from a small server process, not from the caller's, which may have many threads. They never
run the caller's `__main__`, so a script without a guard or a notebook can use this.

    for clip, result in map_clips(probe_clip, paths, workers=4, timeout_s=300):
        if isinstance(result, WorkerFailure):
            print(clip, result.reason)
"""

import multiprocessing
import os
import resource
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar

from pebble import ProcessExpired, ProcessPool

from caption_assets.cores import usable_cores
from caption_assets.settings.groups import DecodeSettings

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

DEFAULT_MEMORY_BYTES = 8 << 30
"""Address space of one worker. The largest picture that is accepted needs under 4 GiB with 16 references."""

IN_FLIGHT_PER_WORKER = 2
"""Items handed out per worker: one runs, the next waits at hand."""

PRELOADED = "caption_assets.video.worker_preload"

MAX_ATTEMPTS = 2
"""Times an item is given to a pool. A pool breaks when a worker dies between two items, which is no item's fault."""


@dataclass(frozen=True)
class WorkerFailure:
    """Why there is no result. `reason` is one line for a person.

    kind: "crashed" (the process died), "timeout", or "raised" (the function raised `error`).
    """

    reason: str
    kind: Literal["crashed", "timeout", "raised"]
    error: BaseException | None = None


def map_jobs(
    fn: Callable[[ItemT], ResultT], jobs: Sequence[ItemT], decode: DecodeSettings
) -> Iterator[tuple[ItemT, ResultT | WorkerFailure]]:
    """Yield what `map_clips` does, with the processes and limits that `decode` sets, and no idle process."""
    workers = max(1, min(decode.workers or usable_cores(), len(jobs)))
    return map_clips(
        fn, jobs, workers=workers, timeout_s=decode.clip_timeout_s, memory_bytes=decode.worker_memory_mb << 20
    )


def map_clips(
    fn: Callable[[ItemT], ResultT],
    items: Iterable[ItemT],
    *,
    workers: int,
    timeout_s: float | None,
    memory_bytes: int | None = DEFAULT_MEMORY_BYTES,
) -> Iterator[tuple[ItemT, ResultT | WorkerFailure]]:
    """Yield (item, result) or (item, WorkerFailure) for every item, in the order in which they finish.

    Items are pulled only as workers come free. Closing the generator early kills what runs.

    Args:
        fn: a function at the top of an importable module (not of `__main__`); it, the items and the results travel
            between processes by pickle. Paths should be absolute. Workers see the environment of the first call.
        items: what to call it with.
        workers: processes; 0 calls `fn` in this process, one item after the other, without time or memory limit.
        timeout_s: seconds one call may take; None for no limit.
        memory_bytes: address space of one worker; None for no limit.

    Raises:
        ValueError: workers is negative, or fn cannot be imported by a worker.
    """
    if workers < 0:
        raise ValueError(f"workers is {workers}, allowed: 0 or more")
    if workers == 0:
        return ((item, _call(fn, item)) for item in items)
    if fn.__module__ == "__main__" or "<" in getattr(fn, "__qualname__", "<"):
        raise ValueError(f"{fn!r} is not at the top of an importable module, so a worker cannot run it")
    return _map_in_workers(fn, items, workers, timeout_s, memory_bytes)


def _call(fn: Callable[[ItemT], ResultT], item: ItemT) -> ResultT | WorkerFailure:
    try:
        return fn(item)
    except Exception as error:
        return _failure(error, None)


def _map_in_workers(
    fn: Callable[[ItemT], ResultT],
    items: Iterable[ItemT],
    workers: int,
    timeout_s: float | None,
    memory_bytes: int | None,
) -> Iterator[tuple[ItemT, ResultT | WorkerFailure]]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])

    def new_pool() -> ProcessPool:
        return ProcessPool(workers, initializer=_start_worker, initargs=(memory_bytes,), context=context)

    source = ((item, 1) for item in items)
    waiting: deque[tuple[ItemT, int]] = deque()
    running: dict[Future[ResultT], tuple[ItemT, int]] = {}
    pool = new_pool()
    try:
        while True:
            waiting.extend(islice(source, max(0, workers * IN_FLIGHT_PER_WORKER - len(running) - len(waiting))))
            lost = []
            try:
                while waiting:
                    scheduled = pool.schedule(fn, args=(waiting[0][0],), timeout=timeout_s)
                    running[scheduled] = waiting.popleft()
            except RuntimeError:  # the pool is broken
                lost.append(waiting.popleft())
            if not running and not lost:
                return
            for future in () if lost else wait(running, return_when=FIRST_COMPLETED).done:
                item, attempt = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    lost.append((item, attempt))
                else:
                    yield item, future.result() if error is None else _failure(error, timeout_s)
            if lost:
                lost += running.values()
                running.clear()
                _stop(pool)
                pool = new_pool()
            for item, attempt in lost:
                if attempt < MAX_ATTEMPTS:
                    waiting.append((item, attempt + 1))
                else:
                    yield item, WorkerFailure("the worker processes died again and again", "crashed")
    finally:
        _stop(pool)


def _stop(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


def _failure(error: BaseException, timeout_s: float | None) -> WorkerFailure:
    if isinstance(error, FutureTimeoutError) and timeout_s is not None:
        return WorkerFailure(f"stopped after {timeout_s:g} s", "timeout")
    if isinstance(error, ProcessExpired):
        code = error.exitcode
        if code == -signal.SIGKILL:
            return WorkerFailure("the decoder crashed (signal 9: killed, perhaps for lack of memory)", "crashed")
        if code is not None and code < 0:
            name = signal.strsignal(-code) or "unknown"
            return WorkerFailure(f"the decoder crashed (signal {-code}: {name[0].lower()}{name[1:]})", "crashed")
        return WorkerFailure(f"the decoder ended unexpectedly (exit status {code})", "crashed")
    if isinstance(error, MemoryError):
        return WorkerFailure("it takes more memory than one clip is given", "raised", error)
    text, name = (str(error).splitlines() or [""])[0], type(error).__name__
    # An exception of ours whose name does not end in "Error" is a sentence of its own.
    return WorkerFailure(text if text and not name.endswith("Error") else f"{name}: {text}", "raised", error)


def _start_worker(memory_bytes: int | None) -> None:
    """Prepare a new worker: its memory is limited, and it dies with its parent and at once when it is told to."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Pebble's handler would wait until the decoder returns
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if memory_bytes is not None:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
