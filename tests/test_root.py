from pathlib import Path

import pytest

from caption_assets.root import RootError, RootFolder


def test_the_folder_given_beats_the_variable_and_the_variable_beats_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CAPTION_ASSETS_ROOT", raising=False)
    assert RootFolder.at().path == tmp_path / "data"
    monkeypatch.setenv("CAPTION_ASSETS_ROOT", str(tmp_path / "from variable"))
    assert RootFolder.at().path == RootFolder.at("").path == tmp_path / "from variable"
    assert RootFolder.at("given").path == tmp_path / "given"


def test_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RootFolder.at("~/x").path == tmp_path / "x"


@pytest.mark.parametrize("url", ["s3://bucket/x", "gs://bucket", "file:///tmp"])
def test_an_object_store_is_refused(url: str) -> None:
    with pytest.raises(RootError, match="local or mounted"):
        RootFolder.at(url)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(RootError, match="is a file"):
        RootFolder.at(tmp_path / "x")


def test_a_name_that_the_database_cannot_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RootError, match="must not hold '\\?'"):
        RootFolder.at(tmp_path / "what?")


def test_every_kind_of_file_has_its_folder_and_none_is_made_by_asking(tmp_path: Path) -> None:
    root = RootFolder.at(tmp_path / "r")
    folders = [root.uploads, root.ledger, root.frames("b"), root.previews("b"), root.exports("b")]
    assert [folder.relative_to(root.path).as_posix() for folder in folders] == [
        "uploads", "ledger", "frames/b", "previews/b", "exports/b",
    ]  # fmt: skip
    assert not root.path.exists()


def test_the_ledger_stores_paths_below_the_root(tmp_path: Path) -> None:
    root = RootFolder.at(tmp_path)
    assert root.relative(root.previews("a b") / "w.webp") == "previews/a b/w.webp"
