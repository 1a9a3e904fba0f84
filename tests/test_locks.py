import threading
import time

from caption_assets.locks import batches_to_ourselves, take_batch
from caption_assets.root import RootFolder


def test_one_at_a_time_works_on_a_batch_whatever_the_order_in_which_batches_are_named(tmp_path):
    root = RootFolder.at(tmp_path)
    at_work: list[str] = []
    at_once: list[int] = []

    def work(name: str, batches: list[str]) -> None:
        for _ in range(2):
            with batches_to_ourselves(root, batches):
                at_work.append(name)
                time.sleep(0.05)
                at_once.append(len(at_work))
                at_work.remove(name)

    held = take_batch(root, "a")
    others = [threading.Thread(target=work, args=(str(b), b)) for b in (["a", "b"], ["b", "a"], ["b", "a", "b"])]
    for other in others:
        other.start()
    others[0].join(0.4)
    assert all(other.is_alive() for other in others), "they wait for the one that has a"
    with batches_to_ourselves(root, ["c"]):
        pass
    held.release()
    for other in others:
        other.join(30)
    assert not any(other.is_alive() for other in others)
    assert at_once == [1] * 6


def test_a_fault_lets_go_of_every_batch(tmp_path):
    root = RootFolder.at(tmp_path)
    try:
        with batches_to_ourselves(root, ["a", "b"]):
            raise RuntimeError("in the middle")
    except RuntimeError:
        pass
    for batch in ("a", "b"):
        take_batch(root, batch).release()
