"""Identity: golden values, so that an accidental change is noticed, and what ids do not depend on."""

import re

from hypothesis import given
from hypothesis import strategies as st

from caption_assets import ids
from caption_assets.ids import CandidateId, ClipId, RecipeId, TaskId, WindowId

CLIP = ids.clip_id("ab" * 32)
RECIPE = ids.recipe_id("window", '{"window_size":256}')
WINDOW = ids.window_id(CLIP, 0, 255, RECIPE)
TASK = ids.task_id("caption", WINDOW, RECIPE)


def test_ids_never_change() -> None:
    """Written once from sha256(b"<parts joined by 0x1f>")[:32]. A change here loses everybody's captions."""
    assert {
        "clip": CLIP,
        "recipe": RECIPE,
        "window": WINDOW,
        "task": TASK,
        "candidate": ids.candidate_id(TASK, 0, 1),
        "second stage": ids.candidate_id(TASK, 0, 1, stage=2),
        "seed": ids.derived_seed(TASK, 0, 1),
    } == GOLDEN


def test_a_digest_is_the_start_of_a_sha256_over_unit_separated_parts() -> None:
    import hashlib

    assert ids.digest("a", 1, "ü") == hashlib.sha256("a\x1f1\x1fü".encode()).hexdigest()[:32]


def test_each_kind_of_id_has_its_letter() -> None:
    for value, letter in ((CLIP, "c"), (WINDOW, "w"), (RECIPE, "r"), (TASK, "t"), (ids.candidate_id(TASK, 0, 1), "k")):
        assert re.fullmatch(letter + "[0-9a-f]{32}", value)


def test_anything_that_makes_a_candidate_another_one_changes_its_id() -> None:
    variants = [(0, 1, 1), (1, 1, 1), (0, 2, 1), (0, 1, 2), (1, 2, 1), (1, 2, 2)]
    assert len({ids.candidate_id(TASK, i, a, s) for i, a, s in variants}) == len(variants)


def test_anything_that_makes_a_window_another_one_changes_its_id() -> None:
    other_clip, other_recipe = ids.clip_id("cd" * 32), ids.recipe_id("window", "{}")
    variants = [(CLIP, 0, 255, RECIPE), (other_clip, 0, 255, RECIPE), (CLIP, 1, 255, RECIPE), (CLIP, 0, 256, RECIPE),
                (CLIP, 0, 255, other_recipe)]  # fmt: skip
    assert len({ids.window_id(*v) for v in variants}) == len(variants)


@given(
    st.lists(st.text(alphabet="ab1", max_size=3), max_size=4), st.lists(st.text(alphabet="ab1", max_size=3), max_size=4)
)
def test_no_two_lists_of_parts_share_a_digest(one: list[str], other: list[str]) -> None:
    joined = ["\x1f".join(parts) for parts in (one, other)]
    assert (ids.digest(*one) == ids.digest(*other)) == (joined[0] == joined[1])


@given(st.lists(st.integers() | st.text(max_size=5), max_size=4))
def test_a_seed_fits_in_32_bits_and_is_drawn_again(parts: list[object]) -> None:
    seed = ids.derived_seed(*parts)
    assert 0 <= seed < 2**32
    assert seed == ids.derived_seed(*parts) == int(ids.digest(*parts)[-8:], 16)


GOLDEN: dict[str, ClipId | RecipeId | WindowId | TaskId | CandidateId | int | str] = {
    "clip": "c271a413bd339c5709fdceaec41f14f11",
    "recipe": "r389dba8499fe65ba3c902337b199c975",
    "window": "w7451fc64b37b9122491c3a021c9bd7d8",
    "task": "t4eec3c248ff7be6dec3e82266320408c",
    "candidate": "kdb37099984979968a19c173e8c44f583",
    "second stage": "k47826f901d9f58a35c67fa9ca94e82c2",
    "seed": 2353329539,
}
