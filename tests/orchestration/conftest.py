import shutil
from pathlib import Path

import pytest

from tests.orchestration.running import Ran, copy_root, run_job
from tests.video.films import CLIPS, make_film

DEMO_CLIPS = ("bigbuckbunny.mp4", "cityCC0.mpg", "ocean.mp4", "ocean.webm")


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Ran:
    """The main job on the demo clips, as batch `demo`. Nobody may change its root: see `demo_copy`."""
    root = tmp_path_factory.mktemp("demo")
    uploads = root / "uploads" / "demo"
    uploads.mkdir(parents=True)
    for name in DEMO_CLIPS:
        shutil.copy2(CLIPS / name, uploads)
    return run_job(root, "demo")


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> Path:
    """A folder with a.mp4 (one window), b.mp4 (two windows, 256 and 144 frames) and c.mp4 (one)."""
    folder = tmp_path_factory.mktemp("films")
    make_film(folder / "a.mp4", 30)
    make_film(folder / "b.mp4", 400)
    make_film(folder / "c.mp4", 40)
    return folder


@pytest.fixture(scope="session")
def small(tmp_path_factory, films) -> Ran:
    """The main job on a.mp4 and b.mp4 as batch `b`. Nobody may change its root: see `copy`."""
    root = tmp_path_factory.mktemp("small")
    uploads = root / "uploads" / "b"
    uploads.mkdir(parents=True)
    for name in ("a.mp4", "b.mp4"):
        (uploads / name).hardlink_to(films / name)
    return run_job(root)


@pytest.fixture
def copy(small, tmp_path) -> Path:
    """A root of its own on which `small` has run."""
    return copy_root(small.root, tmp_path / "root")
