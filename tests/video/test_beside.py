"""Work on another thread: in order, never more than allowed ahead, nothing lost, faults where the loop is."""

import threading
import time

import pytest

from caption_assets.video.pipelined import Beside


def test_everything_is_done_in_order_before_the_block_ends() -> None:
    done: list[tuple[int, str]] = []
    with Beside(lambda number, name: done.append((number, name)), most_waiting=2) as beside:
        for number in range(50):
            beside.put(number, f"n{number}")
    assert done == [(number, f"n{number}") for number in range(50)]


def test_the_loop_waits_when_the_work_falls_behind() -> None:
    gate = threading.Event()
    put: list[int] = []

    def loop() -> None:
        with Beside(lambda _: gate.wait(5), most_waiting=2) as beside:
            for number in range(10):
                beside.put(number)
                put.append(number)

    thread = threading.Thread(target=loop)
    thread.start()
    time.sleep(0.2)
    ahead = len(put)
    gate.set()
    thread.join(5)
    assert ahead <= 3  # one at work, two waiting
    assert len(put) == 10


@pytest.mark.parametrize("fails_at", [0, 9])
def test_a_fault_of_the_work_is_raised_in_the_loop(fails_at: int) -> None:
    def work(number: int) -> None:
        if number == fails_at:
            raise ZeroDivisionError(f"at {number}")

    with pytest.raises(ZeroDivisionError, match=f"at {fails_at}"), Beside(work, most_waiting=1) as beside:
        for number in range(10):
            beside.put(number)


def test_what_was_put_before_the_loop_failed_is_done() -> None:
    done: list[int] = []
    with pytest.raises(KeyError), Beside(done.append, most_waiting=5) as beside:
        beside.put(1)
        beside.put(2)
        raise KeyError
    assert done == [1, 2]
