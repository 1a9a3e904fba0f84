"""One function over many clips, in worker processes that may die.

A decoder that crashes, hangs or eats memory costs its own clip and nothing else: the worker is replaced and the others
go on. Workers are forked from a small server process that never runs the caller's `__main__`, so a script without a
guard, a notebook or a Dagster process with many threads can all use this.

    for clip, result in map_clips(probe_clip, paths, workers=4, timeout_s=300):
        if isinstance(result, WorkerFailure):
            print(clip, result.reason)
"""

import io
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import forkserver, popen_forkserver, reduction, spawn, util
from multiprocessing.context import ForkServerContext, ForkServerProcess, set_spawning_popen
from typing import Any, Literal, TypeVar

from pebble import ProcessExpired, ProcessPool

from caption_assets.cores import usable_cores
from caption_assets.settings.groups import DecodeSettings

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

DEFAULT_MEMORY_BYTES = 8 << 30
"""Address space of one worker. The largest picture that is accepted needs under 4 GiB with 16 references."""

PRELOADED_MODULES = ("av", "numpy", "simplejpeg", "caption_assets.video.decode")
"""Imported once in the server, so that a new worker starts in milliseconds. Not polars: its threads do not survive
a fork."""

IN_FLIGHT_PER_WORKER = 2
"""Tasks handed out per worker: one runs, the next waits at hand."""

MAX_ATTEMPTS_AFTER_BROKEN_POOL = 2
"""Times a task is given to a pool. A pool breaks when a worker dies between two tasks: no fault of the clip."""


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
        workers: processes; 0 calls `fn` here, one item after the other, without time or memory limit.
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
    def new_pool() -> ProcessPool:
        return ProcessPool(
            max_workers=workers, initializer=_start_worker, initargs=(memory_bytes,), context=_CleanContext()
        )

    source = iter(items)
    pool = new_pool()
    running: dict[Future[ResultT], tuple[ItemT, int]] = {}
    try:
        while True:
            while len(running) < workers * IN_FLIGHT_PER_WORKER:
                try:
                    item = next(source)
                except StopIteration:
                    break
                running[pool.schedule(fn, args=(item,), timeout=timeout_s)] = (item, 1)
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            broken = []
            for future in done:
                item, attempt = running.pop(future)
                error = future.exception() if not future.cancelled() else CancelledError()
                if isinstance(error, BrokenProcessPool):
                    broken.append((item, attempt, error))
                else:
                    yield item, future.result() if error is None else _failure(error, timeout_s)
            if broken:
                broken += [(item, attempt, BrokenProcessPool()) for item, attempt in running.values()]
                running.clear()
                _kill(pool)
                pool = new_pool()
                for item, attempt, broke in broken:
                    if attempt >= MAX_ATTEMPTS_AFTER_BROKEN_POOL:
                        yield item, _failure(broke, timeout_s)
                    else:
                        running[pool.schedule(fn, args=(item,), timeout=timeout_s)] = (item, attempt + 1)
        pool.close()  # type: ignore[no-untyped-call]
        pool.join()
    finally:
        _kill(pool)


def _kill(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


def _failure(error: BaseException, timeout_s: float | None) -> WorkerFailure:
    if isinstance(error, FutureTimeoutError) and timeout_s is not None:
        return WorkerFailure(f"stopped after {timeout_s:g} s", "timeout")
    if isinstance(error, ProcessExpired):
        code = error.exitcode
        if code is not None and code < 0:
            what = (
                "killed, perhaps for lack of memory"
                if code == -signal.SIGKILL
                else signal.strsignal(-code) or "unknown"
            )
            return WorkerFailure(f"the decoder crashed (signal {-code}: {what[0].lower()}{what[1:]})", "crashed")
        return WorkerFailure(f"the decoder ended unexpectedly (exit status {code})", "crashed")
    if isinstance(error, BrokenProcessPool):
        return WorkerFailure("the worker processes died again and again", "crashed")
    if isinstance(error, MemoryError):
        return WorkerFailure("it takes more memory than one clip is given", "raised", error)
    text = (str(error).splitlines() or [""])[0]
    # A class of ours that ends in no "Error" is a sentence of its own.
    name = type(error).__name__
    return WorkerFailure(text if text and not name.endswith("Error") else f"{name}: {text}", "raised", error)


def _start_worker(memory_bytes: int | None) -> None:
    """Prepare a fresh worker: it dies at once when told to, dies with its parent, and has its memory limited."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Python handler would wait for the decoder to return
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    if memory_bytes is not None:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _exit_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


_servers: dict[int, forkserver.ForkServer] = {}
"""The fork server of each process that asked for one: a forked child must not use its parent's."""
_servers_lock = threading.Lock()


def _server() -> forkserver.ForkServer:
    with _servers_lock:
        if os.getpid() not in _servers:
            server = forkserver.ForkServer()
            server.set_forkserver_preload(list(PRELOADED_MODULES))
            _servers[os.getpid()] = server
        return _servers[os.getpid()]


class _CleanPopen(popen_forkserver.Popen):
    """`multiprocessing.popen_forkserver.Popen` with our own server, and silent about the caller's `__main__`."""

    def _launch(self, process_obj: Any) -> None:
        preparation = spawn.get_preparation_data(process_obj._name)
        for key in ("init_main_from_name", "init_main_from_path"):
            preparation.pop(key, None)
        buffer = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(preparation, buffer)
            reduction.dump(process_obj, buffer)
        finally:
            set_spawning_popen(None)
        self.sentinel, write_end = _server().connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        parent_end = os.dup(write_end)  # open as long as this process lives: how the worker knows
        self.finalizer = util.Finalize(self, util.close_fds, (parent_end, self.sentinel))  # type: ignore[attr-defined]
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(buffer.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


class _CleanProcess(ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> _CleanPopen:  # noqa: N802 - the name multiprocessing calls
        return _CleanPopen(process_obj)


class _CleanContext(ForkServerContext):
    Process = _CleanProcess
