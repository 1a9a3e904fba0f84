"""The README is the first test: its commands are run as written and in order, and so are those of every page in docs/.

Commands of make are run by `.ci/run`. This file lies in a folder that is collected early, because it takes minutes.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
README = CHECKOUT / "README.md"
RUN_BY_CI = {"make demo", "make test"}
RUN_BY_THE_TEST_OF_THE_UI = {"make ui"}
NOT_FOR_A_SCRIPT = {"source .venv/bin/activate"}
MAX_README_BYTES = 8192


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    fenced = rf"^ *```{language}\n(.*?)^ *```"
    return re.findall(fenced, page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """The lines of a page's shell blocks that can be run."""
    return [line.strip() for block in blocks(page, "bash") for line in block.splitlines() if line.strip()]


PAGES = [page for page in sorted((CHECKOUT / "docs").glob("*.md")) if commands(page)]
"""Pages whose commands continue those of the README."""


def run(lines: Sequence[str], folder: Path) -> str:
    """Run lines in one shell in `folder`; return what they printed."""
    script = "set -euxo pipefail\n" + "\n".join(lines)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("CAPTION_ASSETS_ROOT", None)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**environment, "DAGSTER_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the commands of the README were run, and what they printed."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("clips", "dagster.yaml", "workspace.yaml"):
        source = CHECKOUT / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)
    elsewhere = RUN_BY_CI | RUN_BY_THE_TEST_OF_THE_UI | NOT_FOR_A_SCRIPT
    return folder, run([line for line in commands(README) if line not in elsewhere], folder)


def test_the_readme_is_short_and_shows_the_two_commands_first():
    assert README.stat().st_size <= MAX_README_BYTES
    assert commands(README)[:2] == ["make demo", "make test"]


def test_every_make_command_of_the_readme_is_run_by_ci():
    shown = {line for line in commands(README) if line.startswith("make ")}
    assert shown == RUN_BY_CI | RUN_BY_THE_TEST_OF_THE_UI
    ci = (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert {line.split(" 2>")[0] for line in ci if line.startswith("make ")} >= RUN_BY_CI
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^ui:.*\n\t\$\(BIN\)/dagster dev$", makefile, flags=re.MULTILINE)


def test_the_two_commands_create_the_environment_where_it_is_missing():
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    needs = {target: set(required.split()) for target, required in re.findall(r"^([\w./-]+):(.*)$", makefile, re.M)}

    def all_that(target: str) -> set[str]:
        return needs.get(target, set()).union(*(all_that(required) for required in needs.get(target, set())))

    for target in ("demo", "test"):
        assert ".venv/bin/python" in all_that(target)


def test_every_other_command_of_the_readme_works_as_written_and_in_order(readme: tuple[Path, str]):
    folder, printed = readme
    assert re.search(r"^keep  [A-Z_]+  ", printed, flags=re.MULTILINE)  # why
    assert (folder / "exported" / "holiday" / "captions.parquet").is_file()


def test_the_caption_under_the_picture_is_the_one_that_is_made(readme: tuple[Path, str]):
    quoted = re.search(
        r"!\[.*?\]\(docs/preview-bigbuckbunny.webp\)\n\n((?:> .*\n)+)", README.read_text(encoding="utf-8")
    )
    assert quoted is not None
    lines = (readme[0] / "data" / "exports" / "holiday" / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    captions = {row["clip_path"]: row["caption"] for row in map(json.loads, lines)}
    assert quoted[1].replace("> ", "").replace("\n", " ").strip() == captions["bigbuckbunny.mp4"]


def test_the_python_of_the_readme_runs(readme: tuple[Path, str]):
    [program] = blocks(README, "python")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=readme[0], capture_output=True, text=True, timeout=300, check=True
    )
    assert len(done.stdout.splitlines()) == 2, "a line for each window of the batch"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_works_after_those_of_the_readme(page: Path, readme: tuple[Path, str], tmp_path: Path):
    folder = shutil.copytree(readme[0], tmp_path / "folder")
    printed = run(commands(page), folder)
    if page.name == "usage.md":
        assert re.search(r"^matched +True$", printed, flags=re.MULTILINE)  # reproduce
        assert (folder / "data" / "exports" / "city" / "captions.jsonl").is_file()
