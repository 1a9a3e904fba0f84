"""The sensor: what it requests, when, and that it never does so twice, for one batch and for ten thousand."""

import json
import os
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from caption_assets.definitions import defs
from caption_assets.ledger.database import Ledger
from caption_assets.locks import batches_to_ourselves
from caption_assets.orchestration import sensor as sensor_module
from caption_assets.orchestration.resources import RootResource
from caption_assets.root import RootFolder
from caption_assets.uploads.batches import find_files

[SENSOR] = defs.sensors


class Watcher:
    """A sensor with its Dagster instance and its cursor, over one root folder."""

    def __init__(self, root: Path):
        self.root = root
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: str | None = None
        self.skipped: str | None = None
        self.asked: Counter[str] = Counter()
        """Run keys, and how often each was requested."""
        self.warnings: list[str] = []

    def tick(self) -> list[dg.RunRequest]:
        """Look once, register the partitions that are asked for, and return the run requests."""
        resources = {"root": RootResource(path=str(self.root))}
        with (
            dg.build_sensor_context(self.instance, self.cursor, resources=resources) as context,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(context.log, "warning", self.warnings.append)
            result = SENSOR(context)
        if isinstance(result, dg.SkipReason):
            self.skipped, self.cursor = result.skip_message, context.cursor
            return []
        self.skipped, self.cursor = None, result.cursor
        for request in result.dynamic_partitions_requests or []:
            assert isinstance(request, dg.AddDynamicPartitionsRequest)
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        requests = list(result.run_requests or [])
        assert {r.partition_key for r in requests} <= self.partitions
        self.asked.update(str(r.run_key) for r in requests)
        return requests

    @property
    def partitions(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions("video_batch"))

    def batches(self) -> list[str]:
        return [str(request.partition_key) for request in self.tick()]


def upload(root: Path, batch: str, name: str = "a.mp4", content: str = "video") -> Path:
    path = root / "uploads" / batch / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def record(root: Path, *batches: str) -> None:
    """Enter the files of batches into the ledger as they are now, as a finished run does."""
    now = datetime.now(UTC)
    rows = [
        {
            "batch": batch,
            "path": file.path,
            "bytes": file.bytes,
            "mtime_ns": file.mtime_ns,
            "sidecar_mtime_ns": file.sidecar_mtime_ns,
            "sha256": "0" * 64,
            "status": "ok",
            "recipe_id": "r0",
            "run_id": f"run-{now.timestamp()}",
            "created_at": now,
        }
        for batch in batches
        for file in find_files(root / "uploads", batch)
    ]
    Ledger(RootFolder.at(root)).commit(f"run-{now.timestamp()}", batches[0], {"uploads": rows})


@pytest.fixture
def watcher(tmp_path):
    return Watcher(tmp_path)


def test_a_new_batch_is_requested_at_the_second_tick_and_only_then(watcher):
    upload(watcher.root, "b")
    assert watcher.tick() == []
    assert "look" in watcher.skipped and "1" in watcher.skipped
    assert watcher.partitions == set()
    [request] = watcher.tick()
    assert request.partition_key == "b"
    assert request.run_key.startswith("b:")
    assert watcher.partitions == {"b"}
    for _ in range(3):
        assert watcher.tick() == []
    assert watcher.skipped == "nothing new in 1 batches"


def test_a_file_that_grows_is_left_alone_until_it_stops(watcher):
    for size in range(1, 5):
        upload(watcher.root, "b", content="x" * size)
        assert watcher.tick() == []
    assert watcher.batches() == ["b"]


def test_a_file_that_is_written_in_place_without_growing_is_left_alone_too(watcher):
    path = upload(watcher.root, "b")
    for second in range(1, 4):
        os.utime(path, ns=(second * 10**9, second * 10**9))
        assert watcher.tick() == []
    assert watcher.batches() == ["b"]


def test_a_batch_that_somebody_works_on_is_left_for_a_later_tick(watcher):
    upload(watcher.root, "imported")
    upload(watcher.root, "other")
    (watcher.root / "uploads" / "imported" / "_READY").touch()
    with batches_to_ourselves(RootFolder.at(watcher.root), ["imported"]):
        assert [watcher.batches() for _ in range(4)] == [[], ["other"], [], []]
        assert watcher.skipped == "a run, an import or a takedown works on 'imported'; the next tick looks again"
        upload(watcher.root, "new")
        assert watcher.batches() == []
        assert watcher.skipped == (
            "1 of 3 batches may still be being written; a run, an import or a takedown works on 'imported'; "
            "the next tick looks again"
        )
    assert [watcher.batches() for _ in range(3)] == [["new", "imported"], [], []]  # as their buckets lie


def test_what_an_import_has_entered_asks_for_no_run(watcher):
    with batches_to_ourselves(RootFolder.at(watcher.root), ["imported"]):
        upload(watcher.root, "imported")
        assert [watcher.batches() for _ in range(3)] == [[], [], []]
        record(watcher.root, "imported")
    assert [watcher.batches() for _ in range(3)] == [[], [], []]


def test_a_file_named_ready_takes_the_batch_at_the_first_tick_and_once(watcher):
    upload(watcher.root, "b")
    (watcher.root / "uploads" / "b" / "_READY").touch()
    assert watcher.batches() == ["b"]
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
    [first] = watcher.tick() or watcher.tick()
    record(watcher.root, "b")
    assert watcher.tick() == []
    change(watcher.root / "uploads" / "b")
    assert watcher.tick() == []
    [second] = watcher.tick()
    assert second.partition_key == "b"
    assert second.run_key != first.run_key


def test_a_json_sidecar_that_an_older_version_recorded_asks_for_a_run_only_when_it_changes(watcher):
    upload(watcher.root, "b")
    sidecar = upload(watcher.root, "b", "a.json", '{"caption": "x"}')
    record(watcher.root, "b")  # without the time of its columns, which older versions did not know
    for _ in range(2):
        assert watcher.tick() == []
    os.utime(sidecar, ns=(0, sidecar.stat().st_mtime_ns + 1))
    assert watcher.tick() == []
    assert watcher.batches() == ["b"]


def test_nothing_is_requested_that_the_ledger_has_already(watcher):
    upload(watcher.root, "b")
    record(watcher.root, "b")
    for _ in range(3):
        assert watcher.tick() == []
    assert not watcher.asked


def test_a_new_dagster_home_beside_an_old_ledger_gets_its_partitions_and_no_runs(watcher):
    for batch in ("one", "two"):
        upload(watcher.root, batch)
    record(watcher.root, "one", "two")
    assert watcher.tick() == []
    assert watcher.partitions == {"one", "two"}
    for _ in range(3):
        assert watcher.tick() == []


def test_a_folder_that_cannot_be_a_batch_is_a_warning_and_the_others_go_on(watcher):
    upload(watcher.root, "new\nline")
    upload(watcher.root, "good")
    (watcher.root / "uploads" / ".hidden").mkdir()
    (watcher.root / "uploads" / "empty").mkdir()
    watcher.tick()
    assert watcher.batches() == ["good"]
    assert watcher.partitions == {"good"}
    assert len(watcher.warnings) == 2  # one at each tick
    assert "'new\\nline' cannot be a batch" in watcher.warnings[0]


def test_there_may_be_nothing_at_all(watcher):
    assert watcher.tick() == []
    assert watcher.skipped == "there is no batch below uploads/"


def test_a_batch_that_disappears_harms_nobody(watcher):
    upload(watcher.root, "gone").unlink()
    upload(watcher.root, "b")
    watcher.tick()
    assert watcher.batches() == ["b"]
    (watcher.root / "uploads" / "b" / "a.mp4").unlink()
    assert watcher.tick() == []


@pytest.mark.parametrize("cursor", ["", "nonsense", "[]", '{"seen": 3}', '{"seen": {"x": 1}}', '{"version": 99}'])
def test_a_cursor_of_another_version_starts_over_and_asks_for_nothing_that_is_done(watcher, cursor):
    upload(watcher.root, "done")
    record(watcher.root, "done")
    upload(watcher.root, "new")
    watcher.cursor = cursor
    watcher.tick()
    assert watcher.batches() == ["new"]


def test_a_batch_that_keeps_changing_does_not_block_the_others_not_even_of_its_bucket(watcher, monkeypatch):
    monkeypatch.setattr(sensor_module, "N_BUCKETS", 1)
    for n in range(5):
        upload(watcher.root, f"b{n}")
    for n in range(6):
        upload(watcher.root, "busy", content="x" * n)
        watcher.tick()
    assert Counter(key.partition(":")[0] for key in watcher.asked) == {f"b{n}": 1 for n in range(5)}
    assert watcher.batches() == ["busy"]
    for _ in range(3):
        assert watcher.tick() == []


@pytest.fixture(scope="module")
def ten_thousand(tmp_path_factory):
    root = tmp_path_factory.mktemp("many")
    source = upload(root, "b00000")
    os.utime(source, ns=(10**18, 10**18))
    for n in range(1, 10_000):
        folder = root / "uploads" / f"b{n:05}"
        folder.mkdir()
        os.link(source, folder / "a.mp4")
    return root


def test_ten_thousand_batches_are_requested_once_each_with_short_ticks_and_a_short_cursor(ten_thousand, monkeypatch):
    monkeypatch.setattr(sensor_module, "MAX_RUNS_PER_TICK", 2_000)  # 100 take the same way in twenty times the ticks
    watcher = Watcher(ten_thousand)
    seconds, cursors = [], []
    for _ in range(8):
        started = time.monotonic()
        watcher.tick()
        seconds.append(time.monotonic() - started)
        cursors.append(len(watcher.cursor))
    assert len(watcher.asked) == 10_000
    assert set(watcher.asked.values()) == {1}
    assert watcher.tick() == []
    assert max(cursors) < 20_000
    assert max(seconds) < 10, seconds


def test_a_tick_asks_for_no_more_runs_than_it_can_submit_and_for_others_the_next_time(watcher):
    for n in range(250):
        upload(watcher.root, f"b{n:03}")
    assert watcher.tick() == []
    assert [len(watcher.tick()) for _ in range(4)] == [100, 100, 50, 0]
    assert len(watcher.asked) == 250


def test_the_cursor_is_json_that_reads_back(watcher):
    upload(watcher.root, "b")
    watcher.tick()
    assert json.loads(watcher.cursor)
    assert sensor_module.Cursor.parse(watcher.cursor).dump() == watcher.cursor
