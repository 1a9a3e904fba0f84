"""The real thing: `dagster dev` with the checkout's own settings, asked through the GraphQL that its UI uses."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.orchestration.running import ASSETS, CHECKS, query, table
from tests.video.films import make_film

CHECKOUT = Path(__file__).parents[2]
DAGSTER = str(Path(sys.executable).with_name("dagster"))
BATCHES = ["east", "north", "west"]

UNAVOIDABLE = (r"SupersessionWarning: Function `dev_command` is superseded .* Use 'dg dev' instead",)
"""Lines of the log that Dagster writes whatever the project does: it would like another command to be used."""

LAUNCH = """
mutation LaunchPartitionBackfill($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on PartitionSetNotFoundError { message }
  }
}
"""

ADD_PARTITION = """
mutation AddDynamicPartition($partitionsDefName: String!, $partitionKey: String!, $repo: RepositorySelector!) {
  addDynamicPartition(partitionsDefName: $partitionsDefName, partitionKey: $partitionKey, repositorySelector: $repo) {
    __typename
    ... on PythonError { message }
  }
}
"""

BACKFILL = """
query Backfill($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill { status error { message } runs(limit: 20) { runId status tags { key value } } }
    ... on PythonError { message }
  }
}
"""

START_SENSOR = """
mutation StartSensor($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } }
}
"""

NODES = """
{ assetNodes {
  assetKey { path }
  assetPartitionStatuses { ... on DefaultPartitionStatuses { materializedPartitions } }
  assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization { status } } } }
} }
"""

REPOSITORY = {"repositoryLocationName": "caption_assets", "repositoryName": "__repository__"}


class DagsterDev:
    """A running `dagster dev`. It and all its children end with the fixture."""

    def __init__(self, folder: Path):
        self.root = folder / "root"
        self.log_file = folder / "dagster.log"
        for number, batch in enumerate(BATCHES):
            uploads = self.root / "uploads" / batch
            uploads.mkdir(parents=True)
            make_film(uploads / f"{batch}.mp4", 20 + number)
        for name in ("dagster.yaml", "workspace.yaml"):
            shutil.copy(CHECKOUT / name, folder / name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.environment = {**os.environ, "DAGSTER_HOME": str(folder), "CAPTION_ASSETS_ROOT": str(self.root)}
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                [DAGSTER, "dev", "--port", str(self.port)],
                cwd=folder, env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": document, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            document = json.load(answer)
        assert "errors" not in document, document["errors"]
        return document["data"]

    def wait_until_up(self) -> None:
        def is_up() -> bool:
            try:
                found = self.ask("{ workspaceOrError { ... on Workspace { locationEntries { loadStatus } } } }")
            except OSError:
                return False
            entries = found["workspaceOrError"]["locationEntries"]
            return [entry["loadStatus"] for entry in entries] == ["LOADED"]

        self.wait_for(is_up, "dagster dev is up")

    def wait_for(self, condition: Any, what: str, seconds: float = 150) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"dagster dev ended: {self.log}"
            assert time.monotonic() < until, f"waited {seconds:.0f} s: {what}: {self.log[-4000:]}"
            time.sleep(0.5)

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def end(self) -> None:
        """End the process group, kindly at first: its children get a session of their own."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[DagsterDev]:
    running = DagsterDev(tmp_path)
    try:
        running.wait_until_up()
        yield running
    finally:
        running.end()


def launch_backfill(dev: DagsterDev) -> dict[str, Any]:
    """Launch a backfill of all six assets over three batches as the UI does; return it when it is finished."""
    for batch in BATCHES:
        added = dev.ask(ADD_PARTITION, partitionsDefName="video_batch", partitionKey=batch, repo=REPOSITORY)
        assert added["addDynamicPartition"]["__typename"] == "AddDynamicPartitionSuccess", added
    launched = dev.ask(
        LAUNCH,
        backfillParams={
            "assetSelection": [{"path": [name]} for name in ASSETS],
            "partitionNames": BATCHES,
            "title": "three batches",
        },
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    found: dict[str, Any] = {}

    def look() -> dict[str, Any]:
        found.update(dev.ask(BACKFILL, id=launched["backfillId"])["partitionBackfillOrError"])
        return found

    over = ("SUCCESS", "FAILURE", "CANCELED")
    dev.wait_for(lambda: look()["runs"] and all(run["status"] in over for run in found["runs"]), "the runs are over")
    found["nodes"] = dev.ask(NODES)["assetNodes"]  # before another run makes the checks pending again
    turn_on_the_sensor(dev)  # now, so that the tests wait for both at once
    dev.wait_for(lambda: look()["status"] not in ("REQUESTED", "CANCELING", "FAILING"), "the backfill is over")
    return found


def turn_on_the_sensor(dev: DagsterDev) -> None:
    """Turn the sensor on, with a new batch `south` for it to find."""
    uploads = dev.root / "uploads" / "south"
    uploads.mkdir()
    make_film(uploads / "south.mp4", 30)
    (uploads / "_READY").touch()
    started = dev.ask(START_SENSOR, selector={**REPOSITORY, "sensorName": "new_uploads"})["startSensor"]
    assert started["__typename"] == "Sensor", started


def a_backfill_over_three_batches_launched_from_the_ui_ends_green(dev: DagsterDev, backfill: dict[str, Any]) -> None:
    assert (backfill["status"], backfill["error"]) == ("COMPLETED_SUCCESS", None), dev.log[-6000:]
    assert backfill["runs"]
    assert {run["status"] for run in backfill["runs"]} == {"SUCCESS"}
    for batch in BATCHES:
        [row] = table(dev.root, batch)
        assert (row["clip_path"], row["status"]) == (f"{batch}.mp4", "captioned")
        assert row["enhanced_caption"] and (dev.root / row["preview_path"]).is_file()
    runs = query(dev.root, "SELECT batch, asset_key, status FROM runs WHERE batch <> 'south'")
    assert sorted((r["batch"], r["asset_key"], r["status"]) for r in runs) == sorted(
        (batch, asset, "ok") for batch in BATCHES for asset in ASSETS
    )


def the_sensor_turned_on_adds_a_new_batch_and_runs_it(dev: DagsterDev, backfill: dict[str, Any]) -> None:
    dev.wait_for((dev.root / "exports" / "south" / "captions.jsonl").is_file, "the sensor's run is over")
    assert [row["status"] for row in table(dev.root, "south")] == ["captioned"]
    runs = dev.ask("{ runsOrError { ... on Runs { results { tags { key value } } } } }")["runsOrError"]["results"]
    tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in runs]
    by_sensor = [each for each in tags if each.get("dagster/sensor_name") == "new_uploads"]
    assert [each["dagster/partition"] for each in by_sensor] == ["south"]
    assert by_sensor[0]["dagster/run_key"].startswith("south:")


def every_asset_is_materialized_for_every_batch_and_its_checks_passed(
    dev: DagsterDev, backfill: dict[str, Any]
) -> None:
    def nodes() -> list[dict[str, Any]]:
        return dev.ask(NODES)["assetNodes"]

    made = {n["assetKey"]["path"][0]: set(n["assetPartitionStatuses"]["materializedPartitions"]) for n in nodes()}
    assert made.keys() == set(ASSETS)
    assert all(partitions >= set(BATCHES) for partitions in made.values()), made

    def checks() -> dict[str, str]:
        found = [check for node in nodes() for check in node["assetChecksOrError"].get("checks", [])]
        return {check["name"]: check["executionForLatestMaterialization"]["status"] for check in found}

    dev.wait_for(lambda: "IN_PROGRESS" not in checks().values(), "the sensor's run is over")
    assert checks() == dict.fromkeys(CHECKS, "SUCCEEDED")


def the_log_has_no_warning_that_the_project_could_avoid(dev: DagsterDev, backfill: dict[str, Any]) -> None:
    suspicious = [line for line in dev.log.splitlines() if re.search(r"warn|error|traceback|deprecat", line, re.I)]
    assert [line for line in suspicious if not any(re.search(known, line) for known in UNAVOIDABLE)] == []


def test_dagster_dev(dev: DagsterDev, subtests: pytest.Subtests) -> None:
    """One test, since test processes cannot share the server, and to start it costs more than all the claims."""
    backfill = launch_backfill(dev)
    for claim in (
        a_backfill_over_three_batches_launched_from_the_ui_ends_green,
        the_sensor_turned_on_adds_a_new_batch_and_runs_it,
        every_asset_is_materialized_for_every_batch_and_its_checks_passed,
        the_log_has_no_warning_that_the_project_could_avoid,
    ):
        with subtests.test(claim.__name__):
            claim(dev, backfill)


def test_dagster_asset_materialize_does_a_batch_from_the_shell(tmp_path):
    uploads = tmp_path / "root" / "uploads" / "b"
    uploads.mkdir(parents=True)
    make_film(uploads / "a.mp4", 20)
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(CHECKOUT / "dagster.yaml", home)
    environment = {**os.environ, "DAGSTER_HOME": str(home), "CAPTION_ASSETS_ROOT": str(tmp_path / "root")}
    program = "import dagster as dg; dg.DagsterInstance.get().add_dynamic_partitions('video_batch', ['b'])"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60, capture_output=True)
    done = subprocess.run(
        [DAGSTER, "asset", "materialize", "--select", "*", "--partition", "b", "-m", "caption_assets.definitions"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "RUN_SUCCESS" in done.stderr
    warnings = [line for line in done.stderr.splitlines() if "Warning: " in line]
    assert [line for line in warnings if "/site-packages/" not in line.partition("Warning: ")[0]] == []
    assert [row["status"] for row in table(tmp_path / "root")] == ["captioned"]
