"""Which folders are batches and what becomes of each file in them."""

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.ledger.schema import UploadRow
from caption_assets.uploads.batches import (
    BatchNameError,
    FoundFile,
    check_batch_name,
    find_files,
    is_recorded,
    list_batches,
    printable,
)
from tests.ledger.story import row_of

GOOD_NAMES = [
    "a",
    "a b",
    "2026-11-21",
    "it's",
    'x"y',
    "[1]",
    "*",
    "100%",
    "ünï",
    "视频",
    "🎬",
    "a.b",
    "a..b",
    "x" * 200,
    "-a",
    "_a",
    "~",
]
BAD_NAMES = {
    "": "empty or start with a dot",
    ".": "start with a dot",
    "..": "start with a dot",
    ".hidden": "start with a dot",
    "a/b": "must not hold",
    "a\\b": "must not hold",
    "a...b": "must not hold",
    "a\nb": "control characters",
    "a\tb": "control characters",
    "a\0b": "control characters",
    "a\x7f": "control characters",
    " a": "start or end with a space",
    "a ": "start or end with a space",
    "\u00a0a": "start or end with a space",
    "\udcff": "not valid UTF-8",
    "x" * 201: "longer than 200 bytes",
    "ü" * 101: "longer than 200 bytes",
}


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_good_batch_name_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    assert check_batch_name(name) == name
    (tmp_path / name).mkdir()
    assert list_batches(tmp_path) == ([name], [])


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_batch_name_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(BatchNameError, match=BAD_NAMES[name]):
        check_batch_name(name)


@given(st.text(max_size=20))
def test_a_name_that_is_taken_makes_a_folder_below_uploads(name: str) -> None:
    try:
        check_batch_name(name)
    except BatchNameError:
        return
    assert (Path("/uploads") / name).parent == Path("/uploads")
    assert os.path.normpath(f"/uploads/{name}") == f"/uploads/{name}"


def test_folders_are_batches_and_a_folder_that_cannot_be_one_is_told(tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden", "bad\nname"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.mp4").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")  # noqa: PTH102 - bytes
    names, refused = list_batches(tmp_path)
    assert names == ["a", "b"]
    assert [reason.rpartition(": ")[2].partition(";")[0] for reason in refused] == [
        "it is not valid UTF-8",
        "it must not hold control characters such as a newline",
        "a file outside a batch is not captioned",
        "a linked folder is no batch",
    ]


def test_without_an_uploads_folder_there_is_no_batch(tmp_path: Path) -> None:
    assert list_batches(tmp_path / "none") == ([], [])


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    (tmp_path / "uploads" / "b").mkdir(parents=True)
    return tmp_path / "uploads"


def put(uploads: Path, path: str, content: bytes = b"x") -> Path:
    file = uploads / "b" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def found(uploads: Path) -> dict[str, FoundFile]:
    files = find_files(uploads, "b")
    assert [file.path for file in files] == sorted(file.path for file in files)
    return {file.path: file for file in files}


def test_every_file_is_reported_below_its_batch(uploads: Path) -> None:
    for path in ("z.mp4", "a/b/c.MOV", "a/x.webm", "notes.pdf", "noext"):
        put(uploads, path, b"1234")
    files = found(uploads)
    assert list(files) == ["a/b/c.MOV", "a/x.webm", "noext", "notes.pdf", "z.mp4"]
    assert [path for path, file in files.items() if file.problem] == ["noext", "notes.pdf"]
    assert "not a video file name; accepted: .mp4" in str(files["noext"].problem)
    assert files["z.mp4"].bytes == 4
    assert files["z.mp4"].mtime_ns == (uploads / "b" / "z.mp4").stat().st_mtime_ns


def test_hidden_names_and_the_ready_mark_are_no_files_of_the_batch(uploads: Path) -> None:
    for path in (".x.mp4", ".hidden/x.mp4", "_READY", "a/.x.mp4"):
        put(uploads, path)
    assert found(uploads) == {}
    put(uploads, "a/_READY")
    assert list(found(uploads)) == ["a/_READY"], "the mark has its meaning at the top only"


@pytest.mark.parametrize(
    "name", ["new\nline.mp4", "quo'te\".mp4", "视频.mp4", "a b.mp4", "%[1]*?.mp4", "-x.mp4", "a\\b.mp4"]
)
def test_files_may_have_any_name(uploads: Path, name: str) -> None:
    put(uploads, name)
    assert found(uploads)[name].problem is None


def test_a_name_that_is_not_utf8_is_a_row_that_can_be_written(uploads: Path) -> None:
    Path(os.fsdecode(os.fsencode(uploads) + b"/b/\xff.mp4")).touch()
    (file,) = find_files(uploads, "b")
    assert file.path == "\\xff.mp4"
    assert "not valid UTF-8" in str(file.problem)
    assert printable("ü") == "ü"


def test_links_are_followed_inside_uploads_and_nowhere_else(uploads: Path, tmp_path: Path) -> None:
    target = put(uploads, "real.mp4", b"1234")
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (uploads / "other").mkdir()
    folder = uploads / "b"
    (folder / "inside.mp4").symlink_to(target)
    (folder / "outside.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "relative.mp4").symlink_to("../../secret.mp4")
    (folder / "twice.mp4").symlink_to(folder / "outside.mp4")
    (folder / "dangling.mp4").symlink_to(folder / "none")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    (folder / "folder.mp4").symlink_to(uploads / "other")
    (folder / "out").symlink_to(tmp_path)
    files = found(uploads)
    assert files["inside.mp4"] == FoundFile("inside.mp4", 4, target.stat().st_mtime_ns)
    for name in ("outside.mp4", "relative.mp4", "twice.mp4", "out"):
        assert "leaves uploads/ is not followed" in str(files[name].problem), name
    assert files["dangling.mp4"] == FoundFile(
        "dangling.mp4", None, None, problem="cannot be read: it is a symbolic link to nothing"
    )
    assert str(files["loop.mp4"].problem).startswith("cannot be read")
    assert files["folder.mp4"].problem == "not a regular file"
    assert len(files) == 9, "nothing below a linked folder is listed"


def test_pipes_and_sockets_are_rows_and_are_never_opened(uploads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(uploads / "b" / "pipe.mp4")
    put(uploads, "clip.mp4")
    os.mkfifo(uploads / "b" / "clip.txt")
    monkeypatch.chdir(uploads / "b")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.mp4")
        files = found(uploads)
    assert files["pipe.mp4"].problem == files["socket.mp4"].problem == files["clip.txt"].problem == "not a regular file"
    assert files["clip.mp4"].sidecar is None
    assert files["clip.mp4"].problem is None


def test_a_sidecar_belongs_to_its_video_and_is_no_row(uploads: Path) -> None:
    put(uploads, "a/clip.mp4")
    sidecar = put(uploads, "a/clip.txt")
    os.utime(sidecar, ns=(1, 5_000_000_000))
    put(uploads, "clip.txt")  # beside no video
    files = found(uploads)
    assert list(files) == ["a/clip.mp4", "clip.txt"]
    assert files["a/clip.mp4"].sidecar == sidecar
    assert files["a/clip.mp4"].sidecar_mtime_ns == 5_000_000_000
    assert files["clip.txt"].problem


@pytest.mark.parametrize("name", ["clip.TXT", "clip.Json"])
def test_a_sidecar_in_capitals_is_one_too(uploads: Path, name: str) -> None:
    put(uploads, "clip.MP4")
    sidecar = put(uploads, name)
    assert [(file.path, file.sidecar) for file in find_files(uploads, "b")] == [("clip.MP4", sidecar)]


def test_of_two_sidecars_the_text_counts(uploads: Path) -> None:
    for name in ("clip.mp4", "clip.json", "clip.txt"):
        put(uploads, name)
    assert [(f.path, f.sidecar and f.sidecar.name) for f in find_files(uploads, "b")] == [("clip.mp4", "clip.txt")]


def test_the_columns_come_from_the_json_also_beside_a_text(uploads: Path) -> None:
    for number, name in enumerate(("clip.mp4", "clip.json", "clip.txt", "alone.mp4", "alone.json")):
        os.utime(put(uploads, name), ns=(1, number))
    alone, both = find_files(uploads, "b")
    for file, caption, columns in ((alone, "alone.json", "alone.json"), (both, "clip.txt", "clip.json")):
        assert file.sidecar and file.columns
        assert (file.sidecar.name, file.columns.name) == (caption, columns)
    assert [(f.sidecar_mtime_ns, f.columns_mtime_ns) for f in (alone, both)] == [(4, 4), (2, 1)]


def test_a_linked_sidecar_is_not_read_and_not_passed_over_in_silence(uploads: Path, tmp_path: Path) -> None:
    put(uploads, "clip.mp4")
    (tmp_path / "secret").write_text("secret")
    (uploads / "b" / "clip.txt").symlink_to(tmp_path / "secret")
    files = found(uploads)
    assert files["clip.mp4"].sidecar is None
    assert "leaves uploads/" in str(files["clip.txt"].problem)


def test_a_folder_that_cannot_be_listed_is_a_row_and_the_rest_goes_on(
    uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(uploads, "locked/x.mp4")
    put(uploads, "open/x.mp4")
    scandir = os.scandir

    def denied(path: Path):  # type: ignore[no-untyped-def]
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    files = found(uploads)
    assert list(files) == ["locked", "open/x.mp4"]
    assert "cannot be listed" in str(files["locked"].problem)


def test_a_batch_that_is_not_there_or_is_a_link_is_not_found(uploads: Path) -> None:
    (uploads / "link").symlink_to(uploads / "b")
    for name in ("none", "link"):
        with pytest.raises(FileNotFoundError, match="no such batch"):
            find_files(uploads, name)


ROW = row_of(
    UploadRow, bytes=10, mtime_ns=20, sidecar_mtime_ns=30, columns_mtime_ns=None, sha256="0" * 64, status="ok"
)  # fmt: skip


def test_a_file_is_recorded_while_its_size_and_times_are_those_of_its_row() -> None:
    file = FoundFile("a.mp4", 10, 20, None, 30)
    assert is_recorded(file, ROW)
    assert is_recorded(file, replace(ROW, status="quarantined", error="no video stream in the file"))
    assert not is_recorded(file, None)
    for column in ("bytes", "mtime_ns", "sidecar_mtime_ns", "columns_mtime_ns"):
        changed: dict[str, Any] = {column: 11}
        assert not is_recorded(file, replace(ROW, **changed))


def test_a_file_that_came_back_or_about_which_nothing_was_found_out_is_not_recorded() -> None:
    file = FoundFile("a.mp4", 10, 20, None, 30)
    assert not is_recorded(file, replace(ROW, status="gone"))
    assert not is_recorded(file, replace(ROW, status="quarantined", sha256=None, error="stopped after 600 s"))


def test_an_unusable_file_is_recorded_while_its_problem_is_the_same() -> None:
    file = FoundFile("dangling", None, None, problem="a link to nothing")
    unknown: dict[str, Any] = dict.fromkeys(("bytes", "mtime_ns", "sidecar_mtime_ns", "sha256"))
    row = replace(ROW, status="quarantined", **unknown)
    assert is_recorded(file, replace(row, error="a link to nothing"))
    assert not is_recorded(file, replace(row, error="something else"))
