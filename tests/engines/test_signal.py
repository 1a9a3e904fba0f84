"""Claims about the signal engine: its texts, on made pictures and on the demo clips, and its manners as an engine."""

import random
import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg

from caption_assets.engines import signal as signal_module
from caption_assets.engines.dispatcher import stream
from caption_assets.engines.measure import (
    Camera,
    ColourShare,
    Shot,
    Third,
    Transition,
    WindowMeasurements,
    measure_window,
)
from caption_assets.engines.protocol import Completion, Engine, Message, PackedFrames, Request
from caption_assets.engines.signal import CODE_VERSION, MODEL_ID, SignalEngine
from caption_assets.engines.wording import PLACES, describe, enhance, extras, fact_words, refine

CLIPS = Path(__file__).parents[2] / "clips"
DEMO = ("bigbuckbunny.mp4", "cityCC0.mpg", "ocean.mp4", "ocean.webm")
ENGINE = SignalEngine()  # keeps the demo clips' measurements between tests
PROMPT = Message("user", "Describe the video.", with_video=True)

OBJECTS = re.compile(
    r"\b(person|people|m[ae]n|wom[ae]n|child|face|hand|animal|rabbit|bunny|cat|dog|bird|tree|grass|meadow|sky|cloud|sun"
    r"|water|wave|sea|ocean|building|tower|skyscraper|city|street|car|house|room|text|logo|night|day|(in|out)doors)s?\b"
)


@cache
def demo_frames(name: str) -> PackedFrames:
    """Sample a demo clip at 2 fps, 640 x 360."""
    with av.open(str(CLIPS / name)) as container:
        frames = list(container.decode(video=0))
    seconds = [float(frame.time or 0) - float(frames[0].time or 0) for frame in frames]
    wanted = np.linspace(0, seconds[-1], round(seconds[-1] * 2) // 2 * 2)
    picked = [int(np.abs(np.array(seconds) - at).argmin()) for at in wanted]
    pictures = [np.ascontiguousarray(frames[i].reformat(640, 360, "rgb24").to_ndarray()) for i in picked]
    jpegs = [simplejpeg.encode_jpeg(picture, 95, "RGB", "420") for picture in pictures]
    return PackedFrames(jpegs, [seconds[i] for i in picked], 640, 360)


@cache
def measured_demo(name: str) -> WindowMeasurements:
    return measure_window(demo_frames(name))


def small_frames(count: int = 6, grey: int = 90) -> PackedFrames:
    jpegs = [simplejpeg.encode_jpeg(np.full((48, 64, 3), grey, np.uint8), 90) for _ in range(count)]
    return PackedFrames(jpegs, [i / 2 for i in range(count)], 64, 48)


def request(
    purpose: str = "caption",
    frames: PackedFrames | None = None,
    seeds: Sequence[int] = (1,),
    messages: Sequence[Message] = (PROMPT,),
    max_tokens: int = 512,
    **sampling: object,
) -> Request:
    return Request("q", purpose, messages, seeds, max_tokens, sampling, frames)  # type: ignore[arg-type]


def answers(*requests: Request) -> list[Completion]:
    return list(stream(SignalEngine(), requests))


def text_of(purpose: str, frames: PackedFrames, seed: int, messages: Sequence[Message] = (PROMPT,)) -> str:
    return next(stream(ENGINE, [request(purpose, frames, (seed,), messages)])).text


def seeds_of(name: str, count: int) -> list[int]:
    draw = random.Random(name)
    return [draw.getrandbits(32) for _ in range(count)]


def sentences(text: str) -> int:
    return text.count(". ") + 1


# --- the demo clips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        (
            "bigbuckbunny.mp4",
            {"moderately lit", "colourful", "green", "grey", "blue", "moderate", "tilts", "up"},
        ),
        ("cityCC0.mpg", {"dim", "colourful", "dark blue", "teal", "zooms", "out", "cut"}),
        ("ocean.mp4", {"dim", "black-and-white", "dark grey", "black", "slight", "strong", "cut"}),
        ("ocean.webm", {"dim", "black-and-white", "dark grey", "black", "slight", "strong", "cut"}),
    ],
)
def test_a_demo_clip_has_the_facts_that_its_frames_show(name: str, facts: set[str]) -> None:
    frames = demo_frames(name)
    for text in (text_of("caption", frames, 1), text_of("refine", frames, 1), text_of("enhance", frames, 1)):
        assert {fact for fact in facts if fact not in text.lower()} == set()


@pytest.mark.parametrize("name", DEMO)
def test_four_seeds_give_four_texts(name: str) -> None:
    seeds = seeds_of(name, 400)
    texts = [answer.text for answer in answers(request("caption", demo_frames(name), seeds))]
    assert sum(len(set(texts[i : i + 4])) == 4 for i in range(0, 400, 4)) >= 97
    assert len(set(texts)) > 300


@pytest.mark.parametrize("name", DEMO)
def test_every_candidate_is_short_and_carries_the_main_facts(name: str) -> None:
    measured = measured_demo(name)
    length = f"{measured.duration_s:.1f}".removesuffix(".0")
    for seed in seeds_of(name, 200):
        text = describe(measured, seed)
        assert 1 <= sentences(text) <= 3
        assert [word for word in (*fact_words(measured), length) if word not in text.lower()] == []


def test_two_encodings_of_one_film_have_the_same_facts() -> None:
    mp4, webm = (measured_demo(name) for name in ("ocean.mp4", "ocean.webm"))
    assert fact_words(mp4) == fact_words(webm)
    assert mp4.transitions == webm.transitions
    assert [describe(mp4, seed) for seed in range(50)] == [describe(webm, seed) for seed in range(50)]


@pytest.mark.parametrize("name", DEMO)
def test_an_enhancement_is_longer_and_supports_every_fact_of_the_caption(name: str) -> None:
    frames = demo_frames(name)
    facts = fact_words(measured_demo(name))
    for seed in seeds_of(name, 30):
        caption = text_of("caption", frames, seed)
        enhanced = text_of("enhance", frames, seed, (Message("user", "Enhance: " + caption),))
        assert len(enhanced.split()) > len(caption.split())
        assert [word for word in facts if word not in enhanced.lower()] == []


@pytest.mark.parametrize("name", DEMO)
@pytest.mark.parametrize("role", ["assistant", "user"])
def test_a_refinement_keeps_what_the_first_caption_says_and_adds_one_fact(name: str, role: str) -> None:
    frames = demo_frames(name)
    measured = measured_demo(name)
    for seed in seeds_of(name, 30):
        first = text_of("caption", frames, seed)
        turn = Message(role, first if role == "assistant" else "Please refine this caption: " + first)  # type: ignore[arg-type]
        refined = text_of("refine", frames, seed, (PROMPT, turn))
        said = {extra.marks for extra in extras(measured) if extra.said_in(first)}
        says = {extra.marks for extra in extras(measured) if extra.said_in(refined)}
        assert said < says
        assert len(says - said) == 1
        assert [word for word in fact_words(measured) if word not in refined.lower()] == []


# --- any measurements -------------------------------------------------------------------------------------------------


def invented(seed: int) -> WindowMeasurements:
    """Draw measurements from the corners of what can be measured."""
    draw = random.Random(seed)
    moves = [
        ("static",), ("pans left",), ("pans right", "tilts up"), ("tilts down",), ("zooms in",), ("unsteady",),
    ]  # fmt: skip
    cuts = draw.choice((0, 0, 1, 2, 6))
    fades = draw.choice((None, None, "fade to black", "fade from white"))
    transitions = [Transition("cut", 1.0 + i, 1.5 + i) for i in range(cuts)]
    if fades:
        transitions.append(Transition(fades, 9.0, 10.0))  # type: ignore[arg-type]
    shots = tuple(
        Shot(
            start_s=float(i), end_s=i + 1.0, samples=draw.choice((1, 2, 8)), light=draw.randrange(256),
            light_change=draw.choice((-60, 0, 60)), motion=draw.choice((0.0, 0.3, 2.0, 8.0, 40.0)),
            change=draw.choice((None, 0.0, 30.0)),
            camera=draw.choice((None, Camera(draw.choice(moves), -5.5, 4.0, 9.1))),  # type: ignore[arg-type]
        )
        for i in range(cuts + 1)
    )  # fmt: skip
    names = draw.sample(["black", "grey", "dark blue", "light green", "red", "turquoise", "white"], 4)
    percents = draw.choice(((100,), (93, 5, 2), (60, 25, 10, 5), (11, 10, 9, 8)))
    motion = draw.choice((None, 0.0, 0.3, 2.0, 8.0, 40.0)) if draw.random() < 0.3 else shots[0].motion
    third = Third(draw.randrange(256), draw.choice((None, 0.0, 3.0)), "red")
    return WindowMeasurements(
        duration_s=draw.choice((0.0, 1.0, 8.0, 12.5)), samples=draw.choice((1, 2, 4, 20)),
        bars=draw.choice((None, "above and below", "left and right")), light=draw.randrange(256), light_low=3,
        light_high=250, highlights=draw.randrange(30), contrast=draw.randrange(110),
        colourfulness=draw.randrange(120), detail=draw.randrange(30),
        colours=tuple(ColourShare(n, p) for n, p in zip(names, percents, strict=False)),
        motion=motion, motion_peak=draw.choice((motion or 0.0, 50.0)), motion_peak_s=1.5,
        place=draw.choice((None, *PLACES)), transitions=tuple(transitions), freezes=(), shots=shots,
        thirds=(third, draw.choice((third, Third(20, 3.0, "blue"))), third),
    )  # fmt: skip


def every_text() -> Iterator[tuple[WindowMeasurements, str]]:
    for case, seed in product(range(400), range(3)):
        measured = invented(case)
        caption = describe(measured, seed)
        for text in (caption, refine(measured, caption, seed), enhance(measured, seed)):
            yield measured, text


def test_no_measurement_whatever_makes_a_text_name_an_object_or_break_its_grammar() -> None:
    for _, text in every_text():
        assert not OBJECTS.search(text.lower()), text
        assert text[0].isupper() or text[0].isdigit()
        assert text.endswith(".")
        for flaw in (
            "  ",
            " .",
            " ,",
            "..",
            "None",
            "()",
            " and and ",
            " a a",
            "at 1 seconds",
            ", ,",
            " a a ",
            ";.",
            "nan",
            "picture shows a still picture",
        ):
            assert flaw not in text, text
        assert all(sentence[0].isupper() or sentence[0].isdigit() for sentence in text.split(". ")), text


def test_whatever_is_measured_every_text_carries_its_main_facts() -> None:
    for measured, text in every_text():
        assert [word for word in fact_words(measured) if word not in text.lower()] == [], text


# --- the engine -------------------------------------------------------------------------------------------------------


def test_it_says_what_it_is() -> None:
    engine: Engine = SignalEngine()
    identity = SignalEngine.identity()
    assert (identity.engine, identity.model_id) == ("signal", MODEL_ID)
    assert (identity.engine_version, identity.model_revision) == (CODE_VERSION, CODE_VERSION)
    engine.close()
    engine.close()


def test_equal_requests_have_equal_answers_whatever_the_sampling() -> None:
    frames = demo_frames("cityCC0.mpg")
    plain = answers(request(frames=frames, seeds=(5, 6)))
    warm = answers(request(frames=frames, seeds=(5, 6), temperature=1.5, top_p=0.2, no_such_field="x"))
    assert [answer.text for answer in plain] == [answer.text for answer in warm]


def test_candidates_come_in_seed_order_with_words_counted_as_tokens() -> None:
    first, second = answers(request(frames=small_frames(6), seeds=(1, 2)))
    assert (first.sample_index, second.sample_index) == (0, 1)
    assert first.prompt_tokens == 3 + 6
    assert first.output_tokens == len(first.text.split())
    assert (first.finish_reason, first.error) == ("stop", None)
    assert first.latency_ms is not None
    assert first.latency_ms > 0


def test_a_text_is_cut_at_max_tokens_and_says_so() -> None:
    whole = answers(request(frames=small_frames()))[0]
    count = len(whole.text.split())
    assert answers(request(frames=small_frames(), max_tokens=count))[0].finish_reason == "stop"
    cut = answers(request(frames=small_frames(), max_tokens=5))[0]
    assert (cut.finish_reason, cut.output_tokens) == ("length", 5)
    assert whole.text.startswith(cut.text)


@pytest.mark.parametrize("purpose", ["caption", "refine", "enhance"])
def test_a_request_that_cannot_be_measured_is_answered_once_per_seed_and_costs_only_itself(purpose: str) -> None:
    good = small_frames(4)
    broken = PackedFrames([good.jpegs[0], b"", *good.jpegs[2:]], good.times_s, 64, 48)
    got = answers(request(purpose, None, (1, 2)), request(purpose, broken, (1, 2)), request(purpose, good, (1,)))
    assert [answer.finish_reason for answer in got] == ["error"] * 4 + ["stop"]
    assert [answer.text for answer in got[:4]] == [""] * 4
    assert got[0].error is not None
    assert "needs frames" in got[0].error
    assert got[2].error is not None
    assert "frame 2 of 4 is not a JPEG" in got[2].error


def test_a_window_is_measured_once_for_all_its_purposes_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(frames: PackedFrames) -> WindowMeasurements:
        calls.append(1)
        return measure_window(frames)

    monkeypatch.setattr(signal_module, "measure_window", counted)
    purposes = ("caption", "refine", "enhance")
    engine = SignalEngine()
    list(stream(engine, [request(purpose, small_frames(), (1, 2, 3)) for purpose in purposes]))
    assert len(calls) == 1
    list(stream(engine, [request("caption", small_frames(grey=91))]))
    assert len(calls) == 2
    engine.close()
    list(stream(engine, [request("caption", small_frames())]))
    assert len(calls) == 3
