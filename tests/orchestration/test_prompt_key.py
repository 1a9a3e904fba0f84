"""A prompt per clip through the main job: asked, shown, made again when it changes, and nothing else."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from caption_assets.cli.why import print_explanation
from caption_assets.ledger.database import Ledger
from caption_assets.pipeline.plan import plan_batches
from caption_assets.pipeline.reproduce import reproduce_candidate
from caption_assets.pipeline.why import explain
from caption_assets.root import RootFolder
from caption_assets.settings import Settings, SettingsError
from tests.orchestration.engines import EngineLog
from tests.orchestration.running import CHECKS, Ran, counted_work, query, run_job, table

PLAIN = {"enhance": {"enabled": False}, "caption.prompt_text": "of the batch"}
KEYED = {**PLAIN, "caption.prompt_key": "question"}
A, B, A_NEW, A_OTHER = "What is red?", "Who walks?", "What is blue?", "What is green?"

Shown = dict[str, set[tuple[str, bool]]]


@dataclass
class Story:
    """What each run did, what the tables then showed, and what had been planned before it."""

    root: Path
    runs: dict[str, Ran]
    shown: dict[str, Shown]
    planned: dict[str, dict[str, object]]

    def plan(self, settings: dict[str, object]) -> dict[str, object]:
        [row] = plan_batches(Ledger(RootFolder.at(self.root)), Settings.of(settings), "signal", "b")
        return row

    def run(self, name: str, settings: dict[str, object], last_batch: str | None = None) -> None:
        if self.runs:
            self.planned[name] = self.plan(settings)
        self.runs[name] = run_job(self.root, settings=settings, last_batch=last_batch)
        self.shown[name] = prompts_in(self.root, "b")


def prompts_in(root: Path, batch: str) -> Shown:
    """The prompts of each file's captions in the table, and whether they are current."""
    shown: Shown = {}
    for row in table(root, batch):
        shown.setdefault(row["clip_path"], set()).add((row["prompt"], row["is_current"]))
    return shown


def sidecar(root: Path, batch: str, name: str, **columns: object) -> None:
    (root / "uploads" / batch / name).write_text(json.dumps(columns), encoding="utf-8")


@pytest.fixture(scope="module")
def story(tmp_path_factory, films) -> Story:
    """Batch b: a.mp4 (1 window) and b.mp4 (2) with prompts of their own, c.mp4 (1) without; batch d: a.mp4 as well."""
    root = tmp_path_factory.mktemp("prompts")
    for batch, name in (("b", "a.mp4"), ("b", "b.mp4"), ("b", "c.mp4"), ("d", "a.mp4")):
        (root / "uploads" / batch).mkdir(parents=True, exist_ok=True)
        (root / "uploads" / batch / name).hardlink_to(films / name)
    sidecar(root, "b", "a.json", question=A, answer=3)
    sidecar(root, "b", "b.json", question=B)
    sidecar(root, "b", "c.json", question=None)
    sidecar(root, "d", "a.json", question=A_OTHER)
    story = Story(root, {}, {}, {})
    story.run("first", KEYED, last_batch="d")
    sidecar(root, "b", "a.json", question=A_NEW, answer=3)
    story.run("changed", KEYED)
    story.run("no key", {**PLAIN, "caption.prompt_text": B})
    return story


def asked(ran: Ran) -> list[str]:
    return sorted(request.messages[-1].text for request in ran.engine.requests)


def test_each_clip_is_asked_its_own_prompt_and_a_clip_without_one_the_prompt_of_the_settings(story):
    ran = story.runs["first"]
    assert ran.checks == dict.fromkeys(CHECKS, True)
    assert asked(ran) == sorted([A, B, B, "of the batch", A_OTHER])
    assert story.shown["first"] == {"a.mp4": {(A, True)}, "b.mp4": {(B, True)}, "c.mp4": {("of the batch", True)}}
    shown = ran.shown("vl_captions", "b")
    assert (shown["clips with a prompt of their own"], shown["clips with the prompt of the settings"]) == (2, 1)


def test_two_batches_with_the_same_clip_each_show_the_caption_of_their_prompt(story):
    assert prompts_in(story.root, "d") == {"a.mp4": {(A_OTHER, True)}}
    assert {row["clip_id"] for row in table(story.root, "d")} < {row["clip_id"] for row in table(story.root, "b")}


def test_a_changed_prompt_makes_the_windows_of_that_clip_anew_and_no_video_is_read_again(story):
    ran = story.runs["changed"]
    assert ran.work == {"caption": 1}
    assert asked(ran) == [A_NEW]
    assert ran.checks == dict.fromkeys(CHECKS, True)
    assert story.shown["changed"] == {**story.shown["first"], "a.mp4": {(A_NEW, True)}}
    assert ran.counts("vl_captions") == (1, 3, 0)


def test_without_the_key_every_clip_has_the_prompt_of_the_settings_and_none_is_asked_twice(story):
    assert asked(story.runs["no key"]) == [B, B]  # of a and c: b.mp4 was asked this before
    assert {prompts for shown in story.shown["no key"].values() for prompts in shown} == {(B, True)}


def test_plan_counts_what_a_run_then_makes(story):
    assert story.planned["changed"]["captions"] == 0  # the ledger knows a sidecar when a run has read it
    assert story.planned["no key"]["captions"] == 2 == story.runs["no key"].work["caption"]
    assert "own_prompts" not in story.planned["no key"]
    back = story.plan(KEYED)
    assert (back["captions"], back["decisions"], back["own_prompts"]) == (0, 0, 2)
    other = story.plan({**KEYED, "caption.prompt_text": "another"})
    assert (other["captions"], other["windows"]) == (1, 4)  # c.mp4 alone has it
    with pytest.raises(SettingsError, match="no clip of the batch 'b' has the key 'nope'"):
        story.plan({**KEYED, "caption.prompt_key": "nope"})


def test_why_and_reproduce_know_the_prompt_of_each_candidate(story, capsys):
    root, ledger = RootFolder.at(story.root), Ledger(RootFolder.at(story.root))
    [window] = {row["window_id"] for row in table(story.root, "b") if row["clip_path"] == "a.mp4"}
    explained = explain(ledger, window)
    assert explained is not None
    candidates = {candidate.prompt: candidate.candidate_id for candidate in explained.candidates}
    assert set(candidates) == {A, A_NEW, A_OTHER, B}
    print_explanation(explained)
    said = capsys.readouterr().out
    for candidate in explained.candidates:
        name = f"custom {candidate.prompt_sha256[:8]}"
        assert f"prompt {name}\n" in said
        assert f"{name} is the prompt:\n  {candidate.prompt}\n" in said
    log = EngineLog()
    with counted_work(log):
        assert all(reproduce_candidate(root, ledger, each)["matched"] for each in candidates.values())
    assert [request.messages[-1].text for request in log.requests] == list(candidates)


def test_a_key_that_no_clip_has_ends_the_run_before_any_engine_is_asked(story):
    ran = run_job(story.root, settings={**PLAIN, "caption.prompt_key": "quesiton"})
    assert not ran.ok
    assert ran.engine.loaded == []
    assert "prompt_key: no clip of the batch 'b' has the key 'quesiton'" in ran.error()
    assert "keys that are there: 'answer', 'question'" in ran.error()
    assert query(story.root, "SELECT count(*) AS n FROM captions WHERE NOT is_current") == [{"n": 0}]
