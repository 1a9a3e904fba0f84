"""Which accelerator this machine has, found out without loading a driver: a process that did could not be forked."""

import os
from pathlib import Path

DEVICES = Path("/dev")
WSL_DRIVER = Path("/usr/lib/wsl/lib/libcuda.so.1")


def has_cuda() -> bool:
    """Tell whether there is an NVIDIA GPU that this process may use: its device file is there and not hidden."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1", "NoDevFiles"):
        return False
    gpus = any(path.name.removeprefix("nvidia").isdigit() for path in DEVICES.glob("nvidia*"))
    return gpus or ((DEVICES / "dxg").exists() and WSL_DRIVER.exists())
