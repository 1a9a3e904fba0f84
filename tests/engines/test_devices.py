"""Which GPU there is, and in which pool work on it takes turns."""

from pathlib import Path

import pytest

from caption_assets.engines import devices


@pytest.mark.parametrize(
    ("gpus", "visible", "pool"),
    [
        ((), None, None),
        (("nvidia0", "nvidia1"), None, "gpu"),
        (("nvidia0", "nvidia1"), "1", "gpu_1"),
        (("nvidia0", "nvidia1"), "0, 1", "gpu_0_1"),
        (("nvidia0",), "", None),
        (("nvidia0",), "-1", None),
        (("nvidiactl",), None, None),  # the driver without a GPU
    ],
)
def test_each_gpu_that_a_process_sees_has_its_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: tuple[str, ...], visible: str | None, pool: str | None
) -> None:
    for name in gpus:
        (tmp_path / name).touch()
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    monkeypatch.setattr(devices, "WSL_DRIVER", tmp_path / "none")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpu_pool() == pool
