"""The programs in examples/ run as they stand."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
EXAMPLES = CHECKOUT / "examples"
MAX_LINES = 60


def run(command: Sequence[str | Path], folder: Path) -> str:
    environment = {**os.environ, "DAGSTER_HOME": str(folder)}
    environment.pop("CAPTION_ASSETS_ROOT", None)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder of clips in it."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "mine").mkdir()
    shutil.copy(CHECKOUT / "clips" / "bigbuckbunny.mp4", folder / "mine")
    return folder


def table(folder: Path, batch: str) -> list[dict[str, object]]:
    lines = (folder / "data" / "exports" / batch / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_there_are_three_and_they_are_short():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in EXAMPLES.glob("*.py")}
    assert set(lengths) == {"from_python.py", "inside_dagster.py", "openai_server.py"}
    assert all(length < MAX_LINES for length in lengths.values())


def test_from_python_and_then_inside_another_dagster_project(folder: Path):
    printed = run([sys.executable, EXAMPLES / "from_python.py", "mine"], folder)
    [row] = table(folder, "from-python")
    assert f"bigbuckbunny.mp4 0.0 to 5.3 s: {row['caption']}" in printed
    assert "keep LONGEST: 1" in printed

    program = EXAMPLES / "inside_dagster.py"
    printed = run([sys.executable, program, "from-python"], folder)
    assert printed.startswith("from-python: the, ")
    run([Path(sys.executable).parent / "dagster", "definitions", "validate", "-f", program], folder)


def test_with_a_server_of_its_own(folder: Path):
    run([sys.executable, EXAMPLES / "openai_server.py", "mine"], folder)
    [row] = table(folder, "by-server")
    assert (row["caption"], row["engine"]) == ("A rabbit stretches on a meadow in the sun.", "openai")
