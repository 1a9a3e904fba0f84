"""The captions of a batch, made by a process that is killed again and again. Prints what it took, as JSON.

    python -m tests.orchestration.killed_job ROOT SEED KILLS

Everything is imported once; each life is a fork, killed at a random moment after its first request, until none is.
"""

import json
import os
import random
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg

from caption_assets.assets.raw_clips import raw_clips
from caption_assets.assets.vl_captions import vl_captions
from caption_assets.assets.windows import windows
from caption_assets.engines import registry
from caption_assets.engines.dispatcher import stream
from caption_assets.engines.protocol import Engine, EngineSpec, Reply, Request
from caption_assets.orchestration.resources import EngineResource, RootResource, settings_resource
from caption_assets.settings import Settings

BATCH = "b"
IN_FLIGHT = 4
SECONDS_A_REQUEST = 0.01
SETTINGS = {"window.window_size": 4, "window.remainder_threshold": 4, "decode.workers": 1, "dedupe.mode": "off"}
ASKED = "asked.log"


class SlowEngine:
    """The engine inside, with several requests in flight; writes each request down before it begins."""

    capacity = IN_FLIGHT

    def __init__(self, inner: Engine, log: Path):
        self._inner = inner
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._pool = ThreadPoolExecutor(1)

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        os.write(self._log, f"{request.request_id}\n".encode())
        return self._pool.submit(self._answer, request, reply)

    def _answer(self, request: Request, reply: Reply) -> None:
        time.sleep(SECONDS_A_REQUEST)
        for completion in stream(self._inner, [request]):
            reply(completion)

    def close(self) -> None:
        self._pool.shutdown()
        os.close(self._log)


def run(root: Path, asset: Any) -> None:
    entry = registry.ENGINES["signal"]

    def load(spec: EngineSpec) -> Engine:
        return SlowEngine(entry.load(spec), root / ASKED)

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


def life(root: Path, asset: Any, seconds: float | None) -> int:
    """Run an asset in a fork; kill it so many seconds after its first request. Return its wait status."""
    before = asked(root)
    pid = os.fork()
    if not pid:
        run(root, asset)
    if seconds is not None:
        while asked(root) == before and os.waitpid(pid, os.WNOHANG) == (0, 0):
            time.sleep(0.002)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def asked(root: Path) -> list[str]:
    path = root / ASKED
    return path.read_text().split() if path.exists() else []


def main() -> None:
    root, seed, kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    draw = random.Random(seed)
    for asset in (raw_clips, windows):
        assert life(root, asset, None) == 0
    per_life = []
    for _ in range(kills):
        n = len(asked(root))
        assert life(root, vl_captions, draw.uniform(0, 0.25)) == signal.SIGKILL
        per_life.append(asked(root)[n:])
    n = len(asked(root))
    assert life(root, vl_captions, None) == 0
    per_life.append(asked(root)[n:])
    print(json.dumps(per_life))


if __name__ == "__main__":
    main()
