"""The engine `transformers` on a tiny checkpoint: what goes in, what is counted, what comes again."""

import importlib.util
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from caption_assets.engines.dispatcher import stream
from caption_assets.engines.protocol import (
    Completion,
    EngineDied,
    EngineSpec,
    EngineUnavailable,
    Message,
    PackedFrames,
    Request,
)
from caption_assets.engines.transformers import TransformersEngine, identify
from caption_assets.settings.groups import CaptionSettings, EngineSettings

pytestmark = pytest.mark.skipif(
    os.environ.get("CAPTION_ASSETS_REQUIRE_VLLM") != "1"
    and not all(importlib.util.find_spec(name) for name in ("torch", "torchvision", "transformers")),
    reason="Transformers is not installed",
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from .tiny_checkpoint import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(EngineSpec(CaptionSettings(model=str(checkpoint))))
    yield engine
    engine.close()
    engine.close()


@pytest.fixture
def engine(loaded: TransformersEngine) -> Iterator[TransformersEngine]:
    yield loaded
    loaded._dead = None


def frames(n: int, start_s: float, step_s: float, side: int = 64) -> PackedFrames:
    noise = np.random.default_rng(n).integers(0, 255, (n, side, side, 3), np.uint8)
    jpegs = [simplejpeg.encode_jpeg(picture, 90) for picture in noise]
    return PackedFrames(jpegs, [start_s + i * step_s for i in range(n)], side, side)


def request(
    name: str, shown: PackedFrames | None = None, seeds: Sequence[int] = (1,), max_tokens: int = 16, **sampling: Any
) -> Request:
    turns = (Message("system", "Be brief."), Message("user", 'What "is" {seen} \\ here?', with_video=shown is not None))
    return Request(name, "caption", turns, seeds, max_tokens, {"temperature": 1.0, **sampling}, shown)


def one(engine: TransformersEngine, asked: Request) -> Completion:
    [completion] = stream(engine, [asked])
    assert completion.error is None
    return completion


def test_tokens_are_as_many_as_were_reckoned(engine: TransformersEngine) -> None:
    asked = {
        "short": request("short", frames(8, 0.0, 0.5)),
        "late": request("late", frames(8, 1234.0, 0.5)),
        "odd and uneven": request("odd and uneven", frames(7, 3.3, 17.77)),
        "large": request("large", frames(2, 0.0, 0.5, side=448)),
        "no frames": request("no frames"),
    }
    answers = {answer.request_id: answer for answer in stream(engine, asked.values())}
    counts = {name: answer.prompt_tokens for name, answer in answers.items()}
    assert counts == {name: answer.expected_prompt_tokens for name, answer in answers.items()}
    assert (counts["large"] or 0) > (counts["no frames"] or 0) + 14 * 14, "all pixels count"
    assert (counts["late"] or 0) > (counts["short"] or 0)


def test_qwen2_5_vl_is_told_how_far_apart_frames_are(tmp_path: Path) -> None:
    from .tiny_checkpoint import make_checkpoint

    engine = TransformersEngine(
        EngineSpec(CaptionSettings(model=str(make_checkpoint(tmp_path / "tiny", "qwen2_5_vl"))))
    )
    asked = request("a", frames(6, 100.0, 0.75, side=140))
    made = one(engine, asked)
    assert made.prompt_tokens == made.expected_prompt_tokens
    apart = engine._prepare(asked).inputs["second_per_grid_ts"]
    assert [round(float(seconds), 3) for seconds in apart] == [1.5], "two frames to a token"
    engine.close()


def test_the_model_is_told_the_true_times(engine: TransformersEngine) -> None:
    prepared = engine._prepare(request("a", frames(4, 1000.04, 7.7)))
    prompt = engine._tokenizer.decode(prepared.inputs["input_ids"][0])
    assert prompt.count("<|vision_start|>") >= 2
    assert "<1003.9 seconds>" in prompt
    assert "<1019.3 seconds>" in prompt
    assert "{seen} \\ here?" in prompt
    assert prompt.index("Be brief.") < prompt.index("1003.9") < prompt.index("{seen}")


def test_candidates_differ_and_come_again_alone_and_among_others(engine: TransformersEngine) -> None:
    shown = frames(4, 0.0, 0.5)
    asked = [request("a", shown, seeds=(1, 2, 3, 4)), request("b", seeds=(1,)), request("c", shown, seeds=(2,))]
    first = {(answer.request_id, answer.sample_index): answer.text for answer in stream(engine, asked)}
    assert len(first) == 6
    assert len({first["a", i] for i in range(4)}) == 4
    assert first["c", 0] == first["a", 1]
    assert one(engine, request("again", shown, seeds=(3,))).text == first["a", 2]


def test_a_seed_leaves_the_random_numbers_of_others_alone(engine: TransformersEngine) -> None:
    torch = engine._torch
    torch.manual_seed(99)
    expected = torch.rand(1)
    torch.manual_seed(99)
    one(engine, request("a"))
    assert torch.equal(torch.rand(1), expected)


def test_a_text_ends_where_it_must_and_says_why(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = one(engine, request("a", max_tokens=5, ignore_eos=True))
    assert (cut.finish_reason, cut.output_tokens) == ("length", 5)

    whole = one(engine, request("b", ignore_eos=True))
    stop = whole.text[5:7]
    halted = one(engine, request("b", ignore_eos=True, stop=[stop, "never"]))
    assert (halted.finish_reason, halted.text) == ("stop", whole.text[: whole.text.index(stop)])

    monkeypatch.setattr(engine, "_ends", frozenset(range(0, 1024, 8)))  # the weights are random: each token in eight
    ended = one(engine, request("c", max_tokens=400))
    assert ended.finish_reason == "stop"
    assert 1 <= (ended.output_tokens or 0) < 400
    longer = one(engine, request("c", max_tokens=400, min_tokens=60))
    assert (longer.output_tokens or 0) >= 60


def test_sampling_fields_do_what_they_say(engine: TransformersEngine) -> None:
    greedy = {one(engine, request("a", seeds=[seed], temperature=0)).text for seed in range(3)}
    assert len(greedy) == 1
    assert {one(engine, request("a", seeds=[seed], top_k=1)).text for seed in range(2)} == greedy
    assert {one(engine, request("a", seeds=[seed], top_p=1e-6)).text for seed in range(2)} == greedy
    assert {one(engine, request("a", seeds=[seed], min_p=1.0)).text for seed in range(2)} == greedy
    assert {one(engine, request("a", temperature=1e-6)).text} == greedy
    assert one(engine, request("a", top_k=-1)).text == one(engine, request("a", top_k=0)).text

    def repeats(**fields: float) -> int:
        """Return how many tokens of a greedy answer are not new."""
        kept: list[int] = []
        generate = engine._model.generate

        def noted(**inputs: Any) -> Any:
            made = generate(**inputs)
            kept.extend(made[0, inputs["input_ids"].shape[-1] :].tolist())
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine._model, "generate", noted)
            one(engine, request("a", temperature=0, ignore_eos=True, **fields))
        return len(kept) - len(set(kept))

    assert repeats() > 3
    for name in ("presence_penalty", "frequency_penalty", "repetition_penalty"):
        assert repeats(**{name: 1000.0}) == 0, name


def test_what_is_wrong_with_a_request_costs_that_request(engine: TransformersEngine) -> None:
    broken = replace(frames(4, 0.0, 0.5), jpegs=[b"no jpeg"] * 4)
    asked = [
        request("unknown field", repetition_detection={}),
        request("too long", max_tokens=32_768),
        request("broken", broken, seeds=(1, 2)),
        request("good", frames(4, 0.0, 0.5)),
    ]
    errors = {(answer.request_id, answer.sample_index): answer.error for answer in stream(engine, asked)}
    assert "has no repetition_detection; it has" in str(errors["unknown field", 0])
    assert "the model has 32768; lower max_output_tokens" in str(errors["too long", 0])
    assert "frame 1 of 4 is no readable JPEG" in str(errors["broken", 0])
    assert errors["broken", 0] == errors["broken", 1]
    assert errors["good", 0] is None
    assert len(errors) == 5


@pytest.mark.parametrize(
    ("fault", "told"), [("CUDA out of memory. Tried", "out of memory"), ("CUDA error: device-side assert", "gave up")]
)
def test_a_device_that_fails_ends_the_engine(
    fault: str, told: str, engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError(fault)

    monkeypatch.setattr(engine._model, "generate", fail)
    for _ in range(2):
        with pytest.raises(EngineDied, match=told) as died:
            list(stream(engine, [request("a"), request("b")]))
        assert not isinstance(died.value, EngineUnavailable), "a fresh engine may do with less in flight"


def test_closing_the_stream_stops_within_a_token(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    begun = threading.Event()
    generate = engine._model.generate

    def noted(**inputs: Any) -> Any:
        if lengths:
            begun.set()
        made = generate(**inputs)
        lengths.append(made.shape[-1])
        return made

    monkeypatch.setattr(engine._model, "generate", noted)
    answers = stream(engine, [request("short"), request("endless", max_tokens=30_000, ignore_eos=True)])
    assert next(answers).request_id == "short"
    assert begun.wait(60)
    answers.close()  # type: ignore[attr-defined]
    assert one(engine, request("after")).finish_reason, "the engine goes on"
    assert lengths[1] < 30_000


def test_closing_the_engine_ends_a_stream_and_its_threads(checkpoint: Path) -> None:
    before = set(threading.enumerate())
    engine = TransformersEngine(EngineSpec(CaptionSettings(model=str(checkpoint))))
    answers = stream(engine, [request("short"), *(request(f"{i}", max_tokens=30_000, ignore_eos=True) for i in "ab")])
    assert next(answers).request_id == "short"
    engine.close()
    engine.close()
    with pytest.raises(EngineDied, match="closed"):
        list(answers)
    with pytest.raises(EngineDied, match="closed"):
        list(stream(engine, [request("late")]))
    assert set(threading.enumerate()) <= before


def test_the_identity_is_known_without_loading(checkpoint: Path) -> None:
    found = identify(EngineSpec(CaptionSettings(model=str(checkpoint))))
    assert (found.engine, found.model_id, found.options) == ("transformers", "tiny", "")
    assert found.model_revision.startswith("sha256:")
    assert identify(
        EngineSpec(CaptionSettings(model=str(checkpoint)), EngineSettings(preprocess_dtype="float32"))
    ).options
    for setting in ({"fp8": True}, {"vllm_kwargs": {"fp8": 9}}):
        with pytest.raises(EngineUnavailable, match="fp8"):
            identify(EngineSpec(CaptionSettings(model=str(checkpoint), **setting)))  # type: ignore[arg-type]
