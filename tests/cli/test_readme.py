"""The README is the first test: every command in it is run here, or by `.ci/run` if it is a make command.

It lies in a folder that is collected early: begun last, it would run alone for two minutes.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
RUN_BY_CI = {"make demo", "make test", "make check"}
RUN_BY_THE_BACKFILL_TEST = {"make ui"}
NOT_FOR_A_SCRIPT = {"source .venv/bin/activate"}


def commands() -> list[str]:
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", README, flags=re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    for name in ("clips", "dagster.yaml", "workspace.yaml"):
        source = CHECKOUT / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)
    return folder


def test_the_readme_shows_the_two_commands_first():
    assert commands()[:2] == ["make demo", "make test"]


def test_every_make_command_is_run_by_ci():
    shown = {line for line in commands() if line.startswith("make ")}
    assert shown == RUN_BY_CI | RUN_BY_THE_BACKFILL_TEST
    ci = (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert {line.split(" 2>")[0] for line in ci if line.startswith("make ")} == RUN_BY_CI
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^ui:.*\n\t\$\(BIN\)/dagster dev$", makefile, flags=re.MULTILINE)


def test_every_other_command_works_as_written_and_in_order(checkout: Path):
    elsewhere = RUN_BY_CI | RUN_BY_THE_BACKFILL_TEST | NOT_FOR_A_SCRIPT
    lines = [line for line in commands() if line not in elsewhere]
    assert len(lines) > 10
    script = "set -euxo pipefail\n" + "\n".join(lines)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("CAPTION_ASSETS_ROOT", None)
    done = subprocess.run(
        ["bash", "-c", script], cwd=checkout, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "keep" in done.stdout  # why
    assert re.search(r"^matched +True$", done.stdout, flags=re.MULTILINE)  # reproduce
    assert (checkout / "exported" / "waves" / "captions.parquet").is_file()
    assert (checkout / "data" / "exports" / "city" / "captions.jsonl").is_file()


def test_the_links_and_pictures_of_the_readme_are_there():
    targets = re.findall(r"\]\((?!https?://)([^)]+)\)", README)
    assert targets
    missing = [target for target in targets if not (CHECKOUT / target).exists()]
    assert not missing


def test_the_toml_example_is_valid(tmp_path: Path):
    from caption_assets.settings import Settings

    example = re.search(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    assert example is not None
    (tmp_path / "caption_assets.toml").write_text(example[1], encoding="utf-8")
    settings = Settings.load(tmp_path)
    assert (settings.caption.prompt_variant, settings.enhance.enabled) == ("av", False)
