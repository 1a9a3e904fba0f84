"""Which accelerator this machine has, found out without loading a driver: a process that did could not be forked."""

import os
import re
from pathlib import Path

DEVICES = Path("/dev")
WSL_DRIVER = Path("/usr/lib/wsl/lib/libcuda.so.1")


def gpu_pool() -> str | None:
    """Return the name of the pool in which work on this process's GPUs takes turns; None where there is no GPU.

    A code location that is started with CUDA_VISIBLE_DEVICES=1 has the pool `gpu_1`: one for each GPU of a host, and
    none waits for another. Dagster gives a place in a pool to one run at a time (`concurrency` in dagster.yaml): a run
    keeps its model until it ends, and holds its batches as long, so that steps must not wait one by one.
    """
    if not has_cuda():
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    return "gpu" + "".join(f"_{name}" for name in re.split(r"\W+", visible) if name)


def has_cuda() -> bool:
    """Tell whether there is an NVIDIA GPU that this process may use: its device file is there and not hidden."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1", "NoDevFiles"):
        return False
    gpus = any(path.name.removeprefix("nvidia").isdigit() for path in DEVICES.glob("nvidia*"))
    return gpus or ((DEVICES / "dxg").exists() and WSL_DRIVER.exists())
