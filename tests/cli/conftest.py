from pathlib import Path

import pytest

from caption_assets.root import ROOT_VARIABLE
from tests.cli.command import Command
from tests.orchestration.running import copy_root, run_job
from tests.video.films import make_film

SETTINGS = {
    "caption.caption_num": 4,
    "caption.sampling_params": {"temperature": 0.8},
    "caption.generate_stage2_caption": True,
    "retention.keep_candidate_mode": "first",
}
"""What the batch `b` of `captioned` was run with."""

SAME = [
    "caption.caption_num=4",
    'caption.sampling_params={"temperature": 0.8}',
    "caption.generate_stage2_caption=true",
    "retention.keep_candidate_mode=first",
]
"""The same on the command line."""


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    """Commands run in an empty folder, without the variables that would lead them elsewhere."""
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture(scope="session")
def captioned(tmp_path_factory) -> Path:
    """A root with the batch `b`: a.mp4 (one window) and b.mp4 (two), four candidates each and a second stage."""
    root = tmp_path_factory.mktemp("captioned")
    uploads = root / "uploads" / "b"
    uploads.mkdir(parents=True)
    make_film(uploads / "a.mp4", 30)
    make_film(uploads / "b\nb.mp4", 400)
    assert run_job(root, settings=SETTINGS).ok
    return root


@pytest.fixture
def root(captioned, tmp_path) -> Path:
    """A root of its own with the same content."""
    return copy_root(captioned, tmp_path / "root")


@pytest.fixture
def command(capsys, monkeypatch) -> Command:
    """The command line, without a root."""
    return Command(capsys, monkeypatch)


@pytest.fixture
def ask(capsys, monkeypatch, captioned) -> Command:
    """The command line on `captioned`, for commands that change nothing."""
    return Command(capsys, monkeypatch, captioned)


@pytest.fixture
def change(capsys, monkeypatch, root) -> Command:
    """The command line on `root`."""
    return Command(capsys, monkeypatch, root)
