"""What pages say is so: links, references that are made from the code, and the place of each rule."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from caption_assets.cli.main import cli
from caption_assets.ledger.schema import TABLES
from caption_assets.settings import Settings, setting_names

CHECKOUT = Path(__file__).parents[1]
DOCS, PACKAGE = CHECKOUT / "docs", CHECKOUT / "caption_assets"
PAGES = [*sorted(CHECKOUT.glob("*.md")), *sorted(DOCS.glob("*.md")), CHECKOUT / "benchmarks" / "README.md"]
OF_ALL_PAGES = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings have on GitHub."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_paths(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            if inner.hidden:
                continue
            yield from command_paths(inner, (*path, name))
    else:
        yield " ".join(path)


@OF_ALL_PAGES
def test_links_and_pictures_lead_somewhere(page: Path):
    lost = []
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", text_of(page)):
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            lost.append(target)
    assert not lost


@OF_ALL_PAGES
def test_toml_examples_are_settings(page: Path, tmp_path: Path):
    for example in re.findall(r"^```toml\n(.*?)^```", text_of(page), flags=re.MULTILINE | re.DOTALL):
        (tmp_path / "caption_assets.toml").write_text(example, encoding="utf-8")
        assert Settings.load(tmp_path) != Settings.of({})


def test_the_reference_pages_are_what_the_code_says():
    script = DOCS / "make_reference.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_has_a_line_with_its_meaning():
    lines = dict(re.findall(r"^\| `([\w.]+)` \|.*\| (.*) \|$", text_of(DOCS / "settings.md"), flags=re.MULTILINE))
    assert set(lines) == {name for name, _ in setting_names()}
    assert all(lines.values())


def test_every_command_has_a_section_and_an_example():
    reference, usage = text_of(DOCS / "commands.md"), text_of(DOCS / "usage.md")
    for path in command_paths(cli):
        assert f"\n## caption-assets {path}\n" in reference
        assert f"caption-assets {path}" in usage


def test_every_option_says_what_it_does():
    for line in re.findall(r"^\| `--.*$", text_of(DOCS / "commands.md"), flags=re.MULTILINE):
        assert not line.endswith("|  |"), line


def test_every_table_of_the_ledger_has_a_section():
    assert anchors(DOCS / "ledger.md") >= set(TABLES)


def test_the_rooms_are_drawn_in_the_order_in_which_they_may_import():
    drawing = re.search(r"```text\n(.*?)```", text_of(DOCS / "architecture.md"), flags=re.DOTALL)
    assert drawing is not None
    drawn = [re.findall(r"\w+", line.split("·")[0]) for line in drawing[1].splitlines()]
    contracts = tomllib.loads(text_of(CHECKOUT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert drawn == [re.findall(r"caption_assets\.(\w+)", layer) for layer in layers]


def test_every_file_that_the_architecture_names_is_there():
    named = set(re.findall(r"`([\w/]+\.(?:py|sql))`", text_of(DOCS / "architecture.md")))
    assert len(named) > 30
    assert not [name for name in named if not (PACKAGE / name).is_file()]


def test_every_rule_is_in_the_file_that_the_architecture_names():
    rules = re.findall(r"^\| .*\? \| `([^`]+)` \| `([^`]+)` \|$", text_of(DOCS / "architecture.md"), flags=re.MULTILINE)
    assert len(rules) >= 15
    assert not [(file, name) for file, name in rules if name not in text_of(PACKAGE / file)]


def test_the_glossary_gives_each_term_one_meaning():
    terms = re.findall(r"^\| \*\*(.+?)\*\*.*? \| (.+) \|$", text_of(DOCS / "glossary.md"), flags=re.MULTILINE)
    names = [name for name, _ in terms]
    assert len(names) >= 30
    assert len(set(names)) == len(names)
    assert [name.lower() for name in names] == sorted(name.lower() for name in names)
