"""What people decide, from the shell: overrides and takedowns."""

import pytest

from tests.orchestration.running import query, table


def test_a_person_keeps_another_caption_and_takes_that_back(change, root):
    before = {row["window_id"]: row["caption"] for row in table(root)}
    [other] = query(root, "SELECT k.window_id, k.candidate_id, k.text FROM caption_candidates k "
                          "WHERE k.stage = 2 AND k.sample_index = 3 ORDER BY k.window_id LIMIT 1")  # fmt: skip
    window = other["window_id"]
    said = change("override", window, other["candidate_id"], "--by", "ann", "--note", "it names\nthe colours", "--json")
    assert (said.status, len(said.json)) == (0, 8)
    assert {row["window_id"]: row["caption"] for row in table(root)} == {**before, window: other["text"]}

    explained = change("why", window)
    assert "keep  KEPT_BY_PERSON  A person chose it" in explained.out
    assert f"user:ann (override) keeps {other['candidate_id']}: it names\\nthe colours" in explained.out

    assert change("override", window, "--none", "--by", "bob").status == 0
    assert [row["status"] for row in table(root) if row["window_id"] == window] == ["no_valid_candidate"]
    assert change("override", window, "--withdraw", "--by", "ann").status == 0
    assert {row["window_id"]: row["caption"] for row in table(root)} == before


def test_a_clip_that_is_taken_down_is_not_brought_back_by_a_run(change, root):
    [clip] = query(root, "SELECT clip_id, window_id FROM captions WHERE clip_path = 'a.mp4'")
    upload = root / "uploads" / "b" / "a.mp4"
    content = upload.read_bytes()
    words = ("takedown", clip["clip_id"], "--by", "ann", "--reason", "the uploader asked", "--delete-bytes")
    said = change(*words)
    assert said.status == 0
    assert "files deleted" in said.out
    assert not upload.exists()
    assert not list(root.rglob(f"{clip['window_id']}*"))
    assert {row["clip_path"] for row in table(root)} == {"b\nb.mp4"}
    upload.write_bytes(content)
    words = ["caption.caption_num=4", 'caption.sampling_params={"temperature": 0.8}',
             "caption.generate_stage2_caption=true", "retention.keep_candidate_mode=first"]  # fmt: skip
    ran = change("run", root / "uploads" / "b", *(word for each in words for word in ("--set", each)))
    assert ran.status == 0
    assert "note: 'a.mp4': not shown: taken down by ann (the uploader asked)" in ran.err
    assert {row["clip_path"] for row in table(root)} == {"b\nb.mp4"}
    assert not list(root.rglob(f"{clip['window_id']}*"))
    assert "taken down, files deleted, by user:ann" in change("why", clip["window_id"]).out
    assert change("takedown", clip["clip_id"], "--withdraw", "--by", "ann", "--reason", "x").status == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("override", "w0", "k0", "--by", "ann"), "no such window"),
        (("override", "w0", "--by", "ann"), "name the candidates"),
        (("override", "w0", "k0", "--none", "--by", "ann"), "name the candidates"),
        (("override", "w0", "--none"), "--by"),
        (("takedown", "c0", "--by", "ann", "--reason", "x"), "no such clip"),
        (("takedown", "--by", "ann", "--reason", "x"), "name a clip or a batch"),
        (("takedown", "c0", "--by", "ann"), "--reason"),
        (("takedown", "c0", "--by", "a", "--reason", "x", "--withdraw", "--delete-bytes"), "deletes nothing"),
    ],
)
def test_what_cannot_be_is_bad_usage(ask, words, message):
    said = ask(*words)
    assert said.status == 2
    assert message in said.err
