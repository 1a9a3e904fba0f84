"""Export, import into an empty root, export again: the same bytes. And what comes from the peers themselves."""

import json
import shutil
import uuid
from pathlib import Path

import pytest

from caption_assets.cli import imports
from caption_assets.cli.imports import import_batch
from caption_assets.exchange.formats import EXPORTS
from caption_assets.exchange.selection import ExportOptions
from caption_assets.ledger.database import Ledger
from caption_assets.locks import is_being_worked_on
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from tests.orchestration.running import query, run_job, table
from tests.video.films import make_film

SETTINGS = {
    "caption.caption_num": 2,
    "caption.sampling_params": {"temperature": 0.8},
    "retention.keep_candidate_mode": "all",
}
V, E = "<__dj__video>", "<|__dj__eoc|>"


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the batch `b`: in/a.mp4 (one window, words of its own) and b.mp4 (two), two captions each."""
    root = tmp_path_factory.mktemp("captioned")
    uploads = root / "uploads" / "b"
    (uploads / "in").mkdir(parents=True)
    make_film(uploads / "in" / "a.mp4", 30)
    make_film(uploads / "b.mp4", 400)
    (uploads / "in" / "a.txt").write_text("A counter counts.")
    assert run_job(root, settings=SETTINGS).ok
    return root


def export(root: Path, form: str, out: Path, **options: bool) -> dict[str, bytes]:
    folder = RootFolder.at(root)
    done = EXPORTS[form](folder, Ledger(folder), "b", out, ExportOptions(**options))
    assert done.left == ()
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def bring(root: Path, form: str, path: Path, *assignments: str) -> int:
    settings = Settings.of({"decode.workers": 1}).with_overrides(assignments)
    return import_batch(form, path, "b", RootFolder.at(root), settings, as_json=True)


@pytest.mark.parametrize("form", ["data-juicer", "nemo-curator"])
def test_export_import_export_gives_the_same_bytes(captioned: Path, tmp_path: Path, form: str) -> None:
    one = export(captioned, form, tmp_path / "one")
    root = tmp_path / "root"
    assert bring(root, form, tmp_path / "one" / "b") == 0
    assert export(root, form, tmp_path / "two") == one
    assert {row["window_id"] for row in table(root)} == {row["window_id"] for row in table(captioned)}
    assert [row["caption"] for row in table(root)] == [row["caption"] for row in table(captioned)]
    origins = query(root, "SELECT DISTINCT origin, engine FROM caption_candidates JOIN recipes USING (recipe_id)")
    assert origins == [{"origin": form, "engine": "import"}]
    before = query(root, "SELECT count(*) AS n FROM caption_candidates")
    assert bring(root, form, tmp_path / "one" / "b") == 0, "done again, nothing is entered twice"
    assert query(root, "SELECT count(*) AS n FROM caption_candidates") == before
    if form == "data-juicer":
        assert [row["original_caption"] for row in table(root)] == [None, None, "A counter counts."]
        alone = export(captioned, form, tmp_path / "three", keep_original=False)
        assert export(root, form, tmp_path / "four", keep_original=False) == alone
    else:
        assert [row["enhanced_caption"] for row in table(root)] == [row["enhanced_caption"] for row in table(captioned)]


def test_nobody_else_works_on_a_batch_from_its_first_file_to_its_last_caption(
    captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(captioned, "data-juicer", tmp_path / "one")
    root, taken = tmp_path / "root", {}

    def watched(name: str) -> None:
        work = getattr(imports, name)

        def step(*arguments: object, **options: object) -> object:
            before = is_being_worked_on(RootFolder.at(root), "b")
            done = work(*arguments, **options)
            taken[name] = (before, is_being_worked_on(RootFolder.at(root), "b"))
            return done

        monkeypatch.setattr(imports, name, step)

    for name in ("bring_files", "execute", "enter"):
        watched(name)
    assert bring(root, "data-juicer", tmp_path / "one" / "b") == 0
    assert taken == {"bring_files": (True, True), "execute": (True, True), "enter": (True, True)}
    assert not is_being_worked_on(RootFolder.at(root), "b")


def test_the_layout_is_nemo_curator_s(captioned: Path, tmp_path: Path) -> None:
    files = export(captioned, "nemo-curator", tmp_path)
    names = {name.removeprefix("b/") for name in files}
    metas = [json.loads(files[name]) for name in files if name.startswith("b/metas/v0/")]
    assert {meta["source_video"] for meta in metas} == {"in/a.mp4", "b.mp4"}
    for meta in metas:
        name = str(uuid.UUID(meta["span_uuid"]))
        assert list(meta) == [
            "span_uuid", "source_video", "duration_span", "width_source", "height_source", "framerate_source",
            "clip_location", "width", "height", "framerate", "num_frames", "video_codec", "num_bytes", "windows",
            "valid",
        ]  # fmt: skip
        assert meta["clip_location"] == f"clips/{name}.mp4"
        assert {f"metas/v0/{name}.json", f"clips/{name}.mp4"} < names
        assert {f"processed_videos/{meta['source_video']}.json"} < names
        assert len(files[f"b/{meta['clip_location']}"]) == meta["num_bytes"]
        chunk = json.loads(files[f"b/processed_clip_chunks/{meta['source_video']}_0.json"])
        for window in meta["windows"]:
            first, last = window["start_frame"], window["end_frame"]
            assert f"previews/{name}/{first}_{last}.webp" in names
            [key] = [key for key in window if key.endswith("_caption") and "enhanced" not in key]
            assert chunk["all_windows"][name][f"{first}_{last}"] == window[key]
        assert meta["valid"] is True


def test_samples_of_data_juicer_keep_their_form(captioned: Path, tmp_path: Path) -> None:
    """Several videos in a text, a text without videos, columns of their own, bad lines, a video that is not there."""
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(captioned / "uploads" / "b" / "in" / "a.mp4", source / "a.mp4")
    shutil.copy(captioned / "uploads" / "b" / "b.mp4", tmp_path / "b.mp4")
    rows = [
        {
            "text": f"{V} one counter counts {E} and {V} another one counts on {E}",
            "videos": ["a.mp4", "../b.mp4"],
            "id": 1,
        },
        {"id": 2, "text": "no video at all", "videos": []},
        {"text": f"before the token {V} {E}", "videos": ["a.mp4"]},
        {"text": f"{V} gone {E}", "videos": ["gone.mp4"]},
        {"text": f"{V}{V} too many {E}", "videos": ["a.mp4"]},
    ]
    (source / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    root = tmp_path / "root"
    assert bring(root, "data-juicer", source) == 1, "three lines cannot be used"
    said = query(root, "SELECT text, origin FROM caption_candidates ORDER BY text")
    assert [row["text"] for row in said] == ["another one counts on"] * 2 + ["one counter counts"], (
        "b.mp4 has two windows"
    )
    assert {row["origin"] for row in said} == {"data-juicer"}
    assert {row["original_caption"] for row in table(root)} == {"before the token", None}

    files = export(root, "data-juicer", tmp_path / "out")
    made = [json.loads(line) for line in files["b/samples.jsonl"].decode().splitlines()]
    originals = [row for row in made if json.loads(row["caption_assets"])["row"] == "original"]
    assert [row["text"] for row in originals] == [row["text"] for row in rows[:3]]
    assert (originals[0]["id"], originals[1]["id"], originals[1]["videos"]) == (1, 2, [])
    captioned_rows = [row["text"] for row in made if row not in originals]
    assert captioned_rows == [
        f"{V} one counter counts {E}{V} another one counts on {E}",
        f"{V} one counter counts {E}",
    ]
    assert len(originals[0]["videos"]) == 2
    assert all((tmp_path / "out" / "b" / video).is_file() for row in made for video in row["videos"])


def test_windows_that_were_cut_otherwise_are_named(captioned: Path, tmp_path: Path) -> None:
    export(captioned, "nemo-curator", tmp_path / "one")
    root = tmp_path / "root"
    assert bring(root, "nemo-curator", tmp_path / "one" / "b", "window.window_size=128") == 1
    [row] = query(root, "SELECT count(*) AS n FROM caption_candidates")
    assert row["n"] == 2, "the short clip, and the last window of the long one, have the same frames"
