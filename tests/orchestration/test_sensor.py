"""The sensor: what it requests, when, and that it never requests the same thing twice."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from caption_assets.definitions import defs
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import UploadRow
from caption_assets.locks import batches_to_ourselves
from caption_assets.orchestration import sensor as sensor_module
from caption_assets.orchestration.resources import RootResource
from caption_assets.root import RootFolder
from caption_assets.uploads.batches import find_files

[SENSOR] = defs.sensors


class Watcher:
    """A sensor with its Dagster instance, over one root folder."""

    def __init__(self, root: Path):
        self.root = root
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: str | None = None
        self.skipped: str | None = None
        self.asked: Counter[str] = Counter()
        """Run keys, and how often each was requested."""
        self.warnings: list[str] = []

    def tick(self, idle_s: float = 61) -> list[dg.RunRequest]:
        """Look once, `idle_s` seconds after the last change; do what Dagster does, and return the run requests."""
        now_ns = self.last_change_ns + int(idle_s * 1e9)
        resources = {"root": RootResource(path=str(self.root))}
        with (
            dg.build_sensor_context(self.instance, self.cursor, resources=resources) as context,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(context.log, "warning", self.warnings.append)
            patch.setattr(sensor_module, "time_ns", lambda: now_ns)
            result = SENSOR(context)
            assert context.cursor == self.cursor
        if isinstance(result, dg.SkipReason):
            self.skipped = result.skip_message
            return []
        self.skipped = None
        assert result.cursor is None
        for request in result.dynamic_partitions_requests or []:
            assert isinstance(request, dg.AddDynamicPartitionsRequest)
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        requests = list(result.run_requests or [])
        assert {r.partition_key for r in requests} <= self.partitions
        for request in requests:
            self.instance.add_run(dg.DagsterRun("caption_batch", tags={"dagster/run_key": str(request.run_key)}))
        self.asked.update(str(r.run_key) for r in requests)
        return requests

    @property
    def last_change_ns(self) -> int:
        """When anything below uploads/ was last changed by the machine's clock, whatever time a file claims."""
        return max((path.lstat().st_ctime_ns for path in (self.root / "uploads").rglob("*")), default=0)

    @property
    def partitions(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions("video_batch"))

    def batches(self, idle_s: float = 61) -> list[str]:
        return [str(request.partition_key) for request in self.tick(idle_s)]


def upload(root: Path, batch: str, name: str = "a.mp4", content: str = "video") -> Path:
    path = root / "uploads" / batch / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def record(root: Path, *batches: str, died: Sequence[str] = ()) -> None:
    """Enter the files of batches into the ledger as they are now, as a finished run does.

    died: paths of files that the run learned nothing about.
    """
    now = datetime.now(UTC)
    rows = [
        UploadRow(
            batch=batch,
            path=file.path,
            bytes=file.bytes,
            mtime_ns=file.mtime_ns,
            sidecar_mtime_ns=file.sidecar_mtime_ns,
            sha256=None if file.path in died else "0" * 64,
            status="quarantined" if file.path in died else "ok",
            recipe_id="r0",
            run_id=f"run-{now.timestamp()}",
            created_at=now,
        )
        for batch in batches
        for file in find_files(root / "uploads", batch)
    ]
    Ledger(RootFolder.at(root)).commit(rows)


@pytest.fixture
def watcher(tmp_path):
    return Watcher(tmp_path)


def test_a_new_batch_is_requested_once_nothing_in_it_changed_for_a_minute_and_only_then(watcher):
    upload(watcher.root, "b")
    assert watcher.tick(idle_s=59) == []
    assert watcher.skipped == "changed in the last 60 s: 'b'"
    assert watcher.partitions == set()
    [request] = watcher.tick(idle_s=61)
    assert request.partition_key == "b"
    assert request.run_key.startswith("b:")
    assert watcher.partitions == {"b"}
    for _ in range(3):
        assert watcher.tick() == []
    assert watcher.skipped == "requested before: 'b'"
    record(watcher.root, "b")
    assert watcher.tick() == []
    assert watcher.skipped == "nothing new in 1 batches"


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.mp4").write_text("longer than before"),
        lambda folder: (folder / "a.mp4").write_text("other"),
        lambda folder: (folder / "deep" / "er").mkdir(parents=True),
        lambda folder: (folder / "old.mp4").unlink(),
        lambda folder: (folder / ".a.mp4.part").write_text("an upload under another name"),
    ],
    ids=["a file grows", "a file is overwritten", "a folder is added", "a file is removed", "a hidden file is written"],
)
def test_any_change_starts_the_minute_anew(watcher, change):
    upload(watcher.root, "b", "old.mp4")
    upload(watcher.root, "b")
    change(watcher.root / "uploads" / "b")
    assert watcher.tick(idle_s=59) == []
    assert watcher.skipped == "changed in the last 60 s: 'b'"
    assert watcher.batches(idle_s=61) == ["b"]


@pytest.mark.parametrize("year_s", [0, 4_000_000_000], ids=["long ago", "in the future"])
def test_what_time_a_file_claims_neither_hurries_nor_blocks_its_batch(watcher, year_s):
    path = upload(watcher.root, "b")
    for time_of in (path, path.parent):
        os.utime(time_of, (year_s, year_s))
    assert watcher.tick(idle_s=59) == []
    assert watcher.batches(idle_s=61) == ["b"]


def test_a_batch_that_somebody_works_on_is_left_for_a_later_tick(watcher):
    upload(watcher.root, "imported")
    upload(watcher.root, "other")
    with batches_to_ourselves(RootFolder.at(watcher.root), ["imported"]):
        assert [watcher.batches() for _ in range(3)] == [["other"], [], []]
        assert watcher.skipped == "used by a run, an import or a takedown: 'imported'; requested before: 'other'"
        changing = upload(watcher.root, "new")
        keep_changing(watcher, changing)
        assert watcher.batches() == []
        assert watcher.skipped == (
            "changed in the last 60 s: 'new'; used by a run, an import or a takedown: 'imported'; "
            "requested before: 'other'"
        )
        os.utime(changing)
    assert [watcher.batches() for _ in range(3)] == [["imported", "new"], [], []]


def keep_changing(watcher: Watcher, path: Path) -> None:
    """Make the file look as if it were written when the next tick looks, 61 s after the other batches changed."""
    os.utime(path, ns=(0, time.time_ns() + 61 * 10**9))


def test_what_an_import_has_entered_asks_for_no_run(watcher):
    with batches_to_ourselves(RootFolder.at(watcher.root), ["imported"]):
        upload(watcher.root, "imported")
        assert [watcher.batches() for _ in range(3)] == [[], [], []]
        record(watcher.root, "imported")
    assert [watcher.batches() for _ in range(3)] == [[], [], []]


def test_an_import_that_ends_while_the_sensor_looks_asks_for_no_run(watcher, monkeypatch):
    upload(watcher.root, "imported")

    def ends_now(root: RootFolder, batch: str) -> bool:
        record(watcher.root, batch)
        return False

    monkeypatch.setattr(sensor_module, "is_being_worked_on", ends_now)
    assert watcher.tick() == []
    assert not watcher.asked


def test_a_file_named_ready_takes_the_batch_at_once_and_only_once(watcher):
    upload(watcher.root, "b")
    (watcher.root / "uploads" / "b" / "_READY").touch()
    assert watcher.batches(idle_s=0) == ["b"]
    for _ in range(3):
        assert watcher.tick() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "new.mp4").write_text("video"),
        lambda folder: (folder / "a.mp4").write_text("another video"),
        lambda folder: (folder / "a.txt").write_text("its caption"),
        lambda folder: (folder / "sub").mkdir() or (folder / "sub" / "new.mp4").write_text("video"),
    ],
    ids=["a file added", "a file changed", "a sidecar added", "a file added below"],
)
def test_a_change_to_a_known_batch_is_a_new_run_with_a_new_key(watcher, change):
    upload(watcher.root, "b")
    [first] = watcher.tick()
    record(watcher.root, "b")
    assert watcher.tick() == []
    change(watcher.root / "uploads" / "b")
    [second] = watcher.tick()
    assert second.partition_key == "b"
    assert second.run_key != first.run_key


def test_a_change_that_is_undone_is_a_new_run_too(watcher):
    path = upload(watcher.root, "b", content="first")
    for content, time_s in (("first", 1), ("second", 2), ("first", 1)):
        path.write_text(content)
        os.utime(path, (time_s, time_s))
        assert watcher.batches() == ["b"]
        record(watcher.root, "b")
        assert watcher.tick() == []
    assert set(watcher.asked.values()) == {1}
    assert len(watcher.asked) == 3


def test_a_file_whose_worker_died_is_not_requested_again_until_it_changes(watcher):
    path = upload(watcher.root, "b")
    upload(watcher.root, "b", "b.mp4")
    assert watcher.batches() == ["b"]
    record(watcher.root, "b", died=["a.mp4"])
    for _ in range(3):
        assert watcher.tick() == []
    assert watcher.skipped == "requested before: 'b'"
    path.write_text("mended")
    assert watcher.batches() == ["b"]


def test_a_json_sidecar_that_an_older_version_recorded_asks_for_a_run_only_when_it_changes(watcher):
    upload(watcher.root, "b")
    sidecar = upload(watcher.root, "b", "a.json", '{"caption": "x"}')
    record(watcher.root, "b")  # without the time of its columns, which older versions did not know
    for _ in range(2):
        assert watcher.tick() == []
    os.utime(sidecar, ns=(0, sidecar.stat().st_mtime_ns + 1))
    assert watcher.batches() == ["b"]


def test_nothing_is_requested_that_the_ledger_has_already(watcher):
    upload(watcher.root, "b")
    record(watcher.root, "b")
    for idle_s in (0, 61, 1000):
        assert watcher.tick(idle_s) == []
    assert not watcher.asked


def test_a_new_dagster_home_beside_an_old_ledger_gets_its_partitions_and_no_runs(watcher):
    for batch in ("one", "two"):
        upload(watcher.root, batch)
    record(watcher.root, "one", "two")
    assert watcher.tick() == []
    assert watcher.partitions == {"one", "two"}
    for _ in range(3):
        assert watcher.tick() == []
    assert watcher.skipped == "nothing new in 2 batches"


def test_a_folder_that_cannot_be_a_batch_is_a_warning_and_the_others_go_on(watcher):
    upload(watcher.root, "new\nline")
    upload(watcher.root, "good")
    (watcher.root / "uploads" / ".hidden").mkdir()
    (watcher.root / "uploads" / "empty").mkdir()
    assert watcher.batches() == ["good"]
    assert watcher.partitions == {"good"}
    [warning] = watcher.warnings
    assert "'new\\nline' cannot be a batch" in warning


def test_there_may_be_nothing_at_all(watcher):
    assert watcher.tick() == []
    assert watcher.skipped == "there is no batch below uploads/"


def test_a_batch_that_disappears_harms_nobody(watcher):
    upload(watcher.root, "gone").unlink()
    upload(watcher.root, "b")
    assert watcher.batches() == ["b"]
    (watcher.root / "uploads" / "b" / "a.mp4").unlink()
    assert watcher.tick() == []


@pytest.mark.parametrize("cursor", ["nonsense", '{"seen":{"1":"abc!"},"marks":["abcd"]}'])
def test_a_cursor_that_an_older_version_left_changes_nothing(watcher, cursor):
    upload(watcher.root, "done")
    record(watcher.root, "done")
    upload(watcher.root, "new")
    watcher.cursor = cursor
    assert watcher.batches() == ["new"]


def test_a_batch_that_keeps_changing_does_not_block_the_others(watcher):
    for n in range(5):
        upload(watcher.root, f"b{n}")
    busy = upload(watcher.root, "busy")
    for _ in range(3):
        keep_changing(watcher, busy)
        watcher.tick()
    assert Counter(key.partition(":")[0] for key in watcher.asked) == {f"b{n}": 1 for n in range(5)}
    os.utime(busy)
    assert watcher.batches() == ["busy"]
    for _ in range(3):
        assert watcher.tick() == []


def test_a_thousand_batches_are_requested_once_each_a_hundred_at_a_tick(watcher):
    for n in range(1_050):
        upload(watcher.root, f"b{n:04}")
    assert [len(watcher.tick()) for _ in range(12)] == [*[100] * 10, 50, 0]
    assert len(watcher.asked) == 1_050
    assert set(watcher.asked.values()) == {1}
    assert watcher.skipped.startswith("requested before: 'b0000', 'b0001'")
    assert watcher.skipped.endswith("and 1045 more")
