"""The Python interface: one page, true examples, and nothing loaded before it is used."""

import ast
import doctest
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import caption_assets


def test_the_examples_of_the_page_are_true():
    assert doctest.testmod(caption_assets).failed == 0


@pytest.mark.parametrize("name", caption_assets.__all__)
def test_every_public_name_is_there(name: str):
    assert getattr(caption_assets, name) is not None


def test_an_unknown_name_is_named():
    with pytest.raises(AttributeError, match="'caption_assets' has no attribute 'captions'"):
        caption_assets.captions  # noqa: B018


def test_type_checkers_see_the_names_that_are_loaded():
    tree = ast.parse(Path(str(caption_assets.__file__)).read_text(encoding="utf-8"))
    typed = {
        alias.name: str(node.module)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == {name: f"caption_assets.{home}" for name, home in caption_assets._HOMES.items()}
    assert files(caption_assets).joinpath("py.typed").is_file()


def test_importing_the_package_loads_nothing_else():
    program = "import json, sys; import caption_assets; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    loaded = set(json.loads(done.stdout))
    assert not {name for name in loaded if name.startswith("caption_assets.")}
    assert not loaded & {"dagster", "duckdb", "av", "polars", "pydantic", "numpy", "click"}
