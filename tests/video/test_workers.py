import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from caption_assets.video import workers
from caption_assets.video.workers import WorkerFailure, map_clips
from tests.video.worker_functions import act, end_at_once, main_file, note_and_sleep

CHECKOUT = Path(__file__).parents[2]


def test_results_come_back_with_their_items_from_other_processes():
    results = dict(map_clips(act, range(20), workers=2, timeout_s=30))
    assert {item: result[0] for item, result in results.items()} == {item: item for item in range(20)}
    assert os.getpid() not in {pid for _, pid in results.values()}


def test_a_worker_that_dies_costs_exactly_its_own_item():
    items = ["a", "kill", "b", "segfault", "c", "exit", "raise", "unreadable", "d"]
    results = dict(map_clips(act, items, workers=2, timeout_s=30))
    failures = {item: result for item, result in results.items() if isinstance(result, WorkerFailure)}
    assert len(results) == len(items)
    assert {item: failure.kind for item, failure in failures.items()} == {
        "kill": "crashed",
        "segfault": "crashed",
        "exit": "crashed",
        "raise": "raised",
        "unreadable": "raised",
    }
    assert "signal 11" in failures["segfault"].reason
    assert "memory" in failures["kill"].reason
    assert failures["raise"].reason == "ValueError: a bad value"
    assert failures["unreadable"].reason == "empty file (0 bytes)"


def test_what_takes_too_long_is_stopped():
    results = dict(map_clips(act, ["sleep", "a", "b"], workers=2, timeout_s=6))
    assert results["sleep"] == WorkerFailure("stopped after 6 s", "timeout")
    assert results["a"][0] == "a"


def test_native_code_that_hangs_or_crashes_costs_its_own_item():
    """The hang holds the interpreter's lock, so nothing inside the worker could end it."""
    results = dict(map_clips(act, ["a", "native hang", "b", "wild pointer", "c"], workers=2, timeout_s=6))
    assert results.pop("native hang") == WorkerFailure("stopped after 6 s", "timeout")
    crash = results.pop("wild pointer")
    assert (crash.kind, crash.reason) == ("crashed", "the decoder crashed (signal 11: segmentation fault)")
    assert {item: result[0] for item, result in results.items()} == {item: item for item in "abc"}


@pytest.mark.parametrize("pause_s", [0, 1], ids=["which the pool has not seen", "which the pool may have seen"])
def test_a_worker_that_dies_between_two_items_costs_none(monkeypatch, pause_s):
    monkeypatch.setattr(workers, "IN_FLIGHT_PER_WORKER", 1)  # so that there is nothing to do between two items
    pids = []

    def items():
        yield "a"
        os.kill(pids[0], signal.SIGKILL)
        wait_until(lambda: not alive(pids[0]))
        time.sleep(pause_s)
        yield from "bc"

    for item, result in map_clips(act, items(), workers=1, timeout_s=30):
        assert result[0] == item
        pids.append(result[1])
    assert len(pids) == 3
    assert pids[0] not in pids[1:]


def test_workers_that_cannot_start_are_a_failure_of_each_item(monkeypatch):
    monkeypatch.setattr(workers, "_start_worker", end_at_once)
    results = dict(map_clips(act, "abcde", workers=2, timeout_s=30))
    failure = WorkerFailure("the worker processes died again and again", "crashed")
    assert results == dict.fromkeys("abcde", failure)


def test_what_takes_too_much_memory_is_refused():
    [(_, failure)] = map_clips(act, ["memory"], workers=1, timeout_s=30)
    assert isinstance(failure, WorkerFailure)
    assert "memory" in failure.reason


def test_without_workers_it_runs_here():
    results = dict(map_clips(act, ["a", "raise"], workers=0, timeout_s=None))
    assert results["a"] == ("a", os.getpid())
    assert results["raise"].reason == "ValueError: a bad value"


def test_no_items_start_nothing_and_give_nothing():
    assert list(map_clips(act, [], workers=2, timeout_s=1)) == []


def test_items_are_pulled_only_as_workers_come_free():
    pulled = []

    def items():
        for number in range(1000):
            pulled.append(number)
            yield number

    results = map_clips(act, items(), workers=1, timeout_s=30)
    next(results)
    results.close()
    assert len(pulled) < 20


def wait_until(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s"
        time.sleep(0.02)


def alive(pid):
    # A killed worker stays as a zombie until its fork server looks.
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] not in "ZX"


def test_a_generator_that_is_closed_leaves_no_worker(tmp_path):
    note = tmp_path / "note"
    results = map_clips(_either, ["a", note], workers=2, timeout_s=None)
    next(results)
    wait_until(lambda: note.exists() and note.read_text())
    results.close()
    assert note.read_text() != "slept to the end"
    wait_until(lambda: not alive(int(note.read_text())))


def _either(item):
    return note_and_sleep(item) if isinstance(item, Path) else item


def test_a_script_without_a_guard_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('main runs')\n"
        "from caption_assets.video.workers import map_clips\n"
        "from tests.video.worker_functions import main_file\n"
        "print(list(map_clips(main_file, [1, 2], workers=2, timeout_s=30)))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("main runs") == 1
    assert str(script) not in done.stdout


def test_no_process_is_left_when_the_parent_is_killed(tmp_path):
    note = tmp_path / "note"
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from caption_assets.video.workers import map_clips\n"
        "from tests.video.worker_functions import note_and_sleep\n"
        f"list(map_clips(note_and_sleep, [Path({str(note)!r})], workers=2, timeout_s=None))\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(CHECKOUT)})
    try:
        wait_until(lambda: note.exists() and note.read_text())
        left = descendants(parent.pid)
    finally:
        parent.kill()
        parent.wait()
    assert int(note.read_text()) in left
    assert len(left) >= 3  # two workers and the process that they are forked from
    wait_until(lambda: not any(alive(pid) for pid in left))


def descendants(pid):
    """Return the processes that a process started, and those that these started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return {*children, *(pid for child in children for pid in descendants(child))}


def test_several_threads_can_map_at_once():
    outcomes = {}

    def work(name):
        outcomes[name] = sorted(result[0] for _, result in map_clips(act, range(5), workers=1, timeout_s=30))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == {name: [0, 1, 2, 3, 4] for name in "abc"}


def test_a_function_no_worker_can_import_is_refused():
    with pytest.raises(ValueError, match="importable module"):
        map_clips(lambda item: item, [1], workers=1, timeout_s=1)
    assert main_file(0) is None or isinstance(main_file(0), str)
