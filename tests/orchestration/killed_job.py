"""The captions of a batch, made by a process that is killed again and again. Prints what each life did, as JSON.

    python -m tests.orchestration.killed_job ROOT SEED KILLS

Everything is imported once. Each life is a fork that ends in one of the ways of `DEATHS`, until the last is left alone.
A life that is to be killed stops answering after a while, so that it never ends by itself.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg

from caption_assets.assets.raw_clips import raw_clips
from caption_assets.assets.vl_captions import vl_captions
from caption_assets.assets.windows import windows
from caption_assets.engines import registry
from caption_assets.engines.dispatcher import stream
from caption_assets.engines.protocol import Engine, EngineSpec, Reply, Request
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import CandidateRow
from caption_assets.orchestration.resources import EngineResource, RootResource, settings_resource
from caption_assets.pipeline import stage_run
from caption_assets.root import RootFolder
from caption_assets.settings import Settings

BATCH = "b"
IN_FLIGHT = 4
SECONDS_A_REQUEST = 0.01
SETTINGS = {"window.window_size": 4, "window.remainder_threshold": 4, "decode.workers": 1, "dedupe.mode": "off"}
COMMIT_EVERY_S = 0.05
"""Much shorter than in real life, so that kills meet commits."""

ANSWERS = 15
"""That a life which is to be killed gets: enough for a commit."""

DEATHS = ("anywhere", "in a commit", "after a commit")
"""When a life is killed: a random moment after its first request, as its first commit writes, or after it."""

ASKED = "asked.log"


class SlowEngine:
    """The engine inside, with several requests in flight; writes each request down before it begins.

    answers: how many it gives before it waits to be killed; None for all.
    """

    capacity = IN_FLIGHT

    def __init__(self, inner: Engine, log: Path, answers: int | None):
        self._inner = inner
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._pool = ThreadPoolExecutor(1)
        self._left = answers

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        os.write(self._log, f"{request.request_id}\n".encode())
        return self._pool.submit(self._answer, request, reply)

    def _answer(self, request: Request, reply: Reply) -> None:
        if self._left == 0:
            threading.Event().wait()
        if self._left is not None:
            self._left -= 1
        time.sleep(SECONDS_A_REQUEST)
        for completion in stream(self._inner, [request]):
            reply(completion)

    def close(self) -> None:
        self._pool.shutdown()
        os.close(self._log)


def run(root: Path, asset: Any, answers: int | None) -> None:
    entry = registry.ENGINES["signal"]
    stage_run.COMMIT_EVERY_S = COMMIT_EVERY_S

    def load(spec: EngineSpec) -> Engine:
        return SlowEngine(entry.load(spec), root / ASKED, answers)

    registry.ENGINES["signal"] = registry.EngineEntry(  # type: ignore[index]
        "signal", "", entry.identify, load, text_from_frames=True
    )
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("video_batch", [BATCH])
        result = dg.materialize(
            [raw_clips, windows, vl_captions],
            selection=[asset],
            instance=instance,
            partition_key=BATCH,
            resources={
                "root": RootResource(path=str(root)),
                "engine": EngineResource(engine="signal"),
                "settings": settings_resource(Settings.of(SETTINGS)),
            },
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
    os._exit(0 if result.success else 1)


def life(root: Path, asset: Any, death: str | None, draw: random.Random) -> int:
    """Run an asset in a fork that ends in the way `death`; return its wait status."""
    n_asked, n_committed = len(asked(root)), len(committed(root))
    pid = os.fork()
    if not pid:
        run(root, asset, None if death is None else ANSWERS)
    ended = (0, 0)

    def wait_for(condition: Callable[[], bool]) -> None:
        nonlocal ended
        while ended == (0, 0) and not condition():
            time.sleep(0.001)
            ended = os.waitpid(pid, os.WNOHANG)

    if death is not None:
        wait_for(lambda: len(asked(root)) > n_asked)
        before = state_of_ledger(root)
        if death == "in a commit":
            wait_for(lambda: state_of_ledger(root) != before)
        elif death == "after a commit":
            wait_for(lambda: len(committed(root)) > n_committed)
        else:
            time.sleep(draw.uniform(0, 0.25))
        time.sleep(draw.uniform(0, 0.02))
        if ended == (0, 0):
            os.kill(pid, signal.SIGKILL)
    return (os.waitpid(pid, 0) if ended == (0, 0) else ended)[1]


def asked(root: Path) -> list[str]:
    path = root / ASKED
    return path.read_text().split() if path.exists() else []


def state_of_ledger(root: Path) -> list[tuple[str, int, int]]:
    """Return what changes as soon as a transaction writes: the files of the database, and their sizes and times."""
    found = []
    for path in sorted((root / "ledger").glob("ledger.duckdb*")):
        with suppress(FileNotFoundError):
            found.append((path.name, path.stat().st_size, path.stat().st_mtime_ns))
    return found


def committed(root: Path) -> list[str]:
    """Return the tasks that have a candidate in the ledger, asked in a fork: a process that forks keeps none open."""
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        rows = Ledger(RootFolder.at(root)).select(CandidateRow, "caption_candidates")
        with os.fdopen(writer, "w") as out:
            json.dump([row.task_id for row in rows], out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        tasks: list[str] = json.load(answer)
    os.waitpid(pid, 0)
    return tasks


def main() -> None:
    root, seed, kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    draw = random.Random(seed)
    for asset in (raw_clips, windows):
        assert life(root, asset, None, draw) == 0
    lives: list[dict[str, Any]] = []
    known: list[str] = []
    for number in range(kills + 1):
        death = DEATHS[number % len(DEATHS)] if number < kills else None
        n_asked = len(asked(root))
        assert life(root, vl_captions, death, draw) == (signal.SIGKILL if death else 0)
        now = committed(root)
        lives.append({"death": death, "known": known, "asked": asked(root)[n_asked:], "committed": now})
        known = now
    print(json.dumps(lives))


if __name__ == "__main__":
    main()
