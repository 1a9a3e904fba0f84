"""Bringing a user's files into uploads: what goes where, and what is refused."""

import os
from pathlib import Path

import pytest

from caption_assets.uploads.link import Upload, UploadError, bring_in, plan_upload


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    return tmp_path / "root" / "uploads"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    for path in ("a.mp4", "a.txt", "sub/b.mp4", ".hidden.mp4", ".git/c.mp4"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder


def names(upload: Upload) -> list[str]:
    return [relative for _, relative in upload.files]


def lying_in(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_folder_stands_for_its_files_that_are_not_hidden_and_names_the_batch(clips: Path, uploads: Path) -> None:
    upload = plan_upload([clips], uploads)
    assert (upload.batch, names(upload)) == ("clips", ["a.mp4", "a.txt", "sub/b.mp4"])
    assert bring_in(upload, uploads) == 3
    assert lying_in(uploads) == {f"clips/{name}": name for name in names(upload)}
    assert (uploads / "clips/a.mp4").samefile(clips / "a.mp4"), "linked, not copied"


def test_the_same_command_again_brings_nothing(clips: Path, uploads: Path) -> None:
    for new in (3, 0):
        assert bring_in(plan_upload([clips], uploads), uploads) == new
    assert lying_in(uploads).keys() == {"clips/a.mp4", "clips/a.txt", "clips/sub/b.mp4"}


def test_what_another_command_brings_meanwhile_stays_or_is_refused_for_other_content(
    clips: Path, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = plan_upload([clips], uploads)
    bring_in(upload, uploads)
    monkeypatch.setattr("os.path.lexists", lambda path: False)  # it came after the question
    assert bring_in(upload, uploads) == 0
    assert (uploads / "clips/a.mp4").samefile(clips / "a.mp4"), "linked, not copied"
    (uploads / "clips/a.mp4").unlink()
    (uploads / "clips/a.mp4").write_text("of somebody else")
    with pytest.raises(UploadError, match=r"a\.mp4 exists with other content"):
        bring_in(upload, uploads)
    assert (uploads / "clips/a.mp4").read_text() == "of somebody else"


def test_a_new_file_in_the_folder_is_brought_the_next_time(clips: Path, uploads: Path) -> None:
    bring_in(plan_upload([clips], uploads), uploads)
    (clips / "new.mp4").touch()
    assert bring_in(plan_upload([clips], uploads), uploads) == 1


def test_a_batch_may_be_named(clips: Path, uploads: Path) -> None:
    assert plan_upload([clips], uploads, "named").batch == "named"
    for bad in ("", "../x", ".x"):
        with pytest.raises(UploadError, match="choose one with --batch"):
            plan_upload([clips], uploads, bad)


def test_a_folder_that_cannot_name_a_batch_asks_for_a_name(tmp_path: Path, uploads: Path) -> None:
    (tmp_path / "a...b").mkdir()
    with pytest.raises(UploadError, match="choose one with --batch"):
        plan_upload([tmp_path / "a...b"], uploads)


def test_files_without_a_batch_always_find_the_same_one(
    clips: Path, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = plan_upload([clips / "a.mp4", clips / "sub/b.mp4"], uploads)
    assert one.batch.startswith("run-")
    monkeypatch.chdir(clips)
    again = plan_upload([Path("sub/../sub/b.mp4"), Path("a.mp4")], uploads)
    assert again == one
    assert plan_upload([clips / "a.mp4"], uploads).batch != one.batch


def test_a_file_whose_name_is_not_utf8_can_be_brought(tmp_path: Path, uploads: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4"))
    path.touch()
    upload = plan_upload([path], uploads)
    assert bring_in(upload, uploads) == 1


def test_two_files_that_want_one_name_are_refused(clips: Path, uploads: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.mp4").touch()
    with pytest.raises(UploadError, match=r"have the same name 'a\.mp4'; use two batches"):
        plan_upload([clips / "a.mp4", tmp_path / "other/a.mp4"], uploads)


def test_a_file_that_is_named_twice_is_one(clips: Path, uploads: Path) -> None:
    assert names(plan_upload([clips, clips / "a.mp4", clips], uploads, "b")) == ["a.mp4", "a.txt", "sub/b.mp4"]


def test_a_path_that_is_not_there_is_refused(clips: Path, uploads: Path, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    for name in ("none", "dangling"):
        with pytest.raises(UploadError, match=f"{name}: no such file or folder"):
            plan_upload([clips, tmp_path / name], uploads)


def test_a_pipe_is_refused(tmp_path: Path, uploads: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UploadError, match="neither a file nor a folder"):
        plan_upload([tmp_path / "pipe.mp4"], uploads)


def test_paths_in_a_batch_already_run_that_batch_and_bring_nothing(clips: Path, uploads: Path, tmp_path: Path) -> None:
    bring_in(plan_upload([clips], uploads, "mine"), uploads)
    (tmp_path / "shortcut").symlink_to(uploads)
    for path in ("mine", "mine/sub", "mine/a.mp4", "mine/../mine/a.mp4"):
        assert plan_upload([uploads / path], uploads) == Upload("mine", ()), path
        assert plan_upload([tmp_path / "shortcut" / path], uploads) == Upload("mine", ()), path
    outside = plan_upload([uploads / "mine/../../../clips/a.mp4"], uploads)
    assert names(outside) == ["a.mp4"], "a path that only starts there lies elsewhere"


def test_files_of_one_batch_can_be_brought_into_another(clips: Path, uploads: Path) -> None:
    bring_in(plan_upload([clips], uploads, "one"), uploads)
    upload = plan_upload([uploads / "one"], uploads, "two")
    assert bring_in(upload, uploads) == 3


@pytest.mark.parametrize("above", ["", "..", "../.."])
def test_a_folder_that_holds_the_uploads_is_refused(clips: Path, uploads: Path, above: str) -> None:
    bring_in(plan_upload([clips], uploads), uploads)
    with pytest.raises(UploadError, match="name the folders with the videos"):
        plan_upload([uploads / above], uploads)


def test_another_file_of_that_name_is_never_overwritten(clips: Path, uploads: Path) -> None:
    target = uploads / "clips/a.mp4"
    target.parent.mkdir(parents=True)
    target.write_text("other content")
    with pytest.raises(UploadError, match="exists with other content"):
        bring_in(plan_upload([clips], uploads), uploads)
    assert target.read_text() == "other content"
    target.write_text("A.MP4")  # of the same size
    with pytest.raises(UploadError, match="exists with other content"):
        bring_in(plan_upload([clips], uploads), uploads)


@pytest.fixture
def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)


@pytest.mark.usefixtures("no_hard_links")
def test_where_no_link_is_possible_files_are_copied_with_their_times(clips: Path, uploads: Path) -> None:
    os.utime(clips / "a.mp4", ns=(1, 123_456_789_000))
    assert bring_in(plan_upload([clips], uploads), uploads) == 3
    copied = uploads / "clips/a.mp4"
    assert copied.read_text() == "a.mp4"
    assert not copied.samefile(clips / "a.mp4")
    assert copied.stat().st_mtime_ns == 123_456_789_000
    assert [p for p in uploads.rglob("*") if p.name.endswith(".tmp")] == []
    os.utime(copied, ns=(1, 123_000_000_000))  # a file system with whole seconds
    assert bring_in(plan_upload([clips], uploads), uploads) == 0


@pytest.mark.usefixtures("no_hard_links")
def test_a_pipe_in_a_folder_that_cannot_be_linked_is_refused_and_not_read(clips: Path, uploads: Path) -> None:
    os.mkfifo(clips / "pipe.mp4")
    with pytest.raises(UploadError, match=r"pipe\.mp4 is no regular file"):
        bring_in(plan_upload([clips], uploads), uploads)


@pytest.mark.usefixtures("no_hard_links")
def test_a_link_inside_a_folder_is_never_copied_through(clips: Path, uploads: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_text("secret")
    (clips / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    bring_in(plan_upload([clips], uploads), uploads)
    assert (uploads / "clips/link.mp4").is_symlink()


def test_links_inside_a_folder_stay_links_and_a_link_that_is_named_is_its_file(
    clips: Path, uploads: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.mp4").write_text("secret")
    (clips / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    bring_in(plan_upload([clips], uploads), uploads)
    assert (uploads / "clips/link.mp4").is_symlink()
    assert bring_in(plan_upload([clips], uploads), uploads) == 0
    bring_in(plan_upload([clips / "link.mp4"], uploads, "named"), uploads)
    brought = uploads / "named/link.mp4"
    assert not brought.is_symlink()
    assert brought.read_text() == "secret"
