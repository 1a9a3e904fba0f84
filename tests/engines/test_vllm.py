"""The real vLLM, on its CPU build and a tiny checkpoint: one engine is loaded, and every claim is made of it.

The claims are one test, since loading costs more than all of them together and test processes cannot share it.
"""

import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from caption_assets.engines import registry
from caption_assets.engines.dispatcher import stream
from caption_assets.engines.protocol import (
    Completion,
    EngineDied,
    EngineSpec,
    EngineUnavailable,
    Message,
    PackedFrames,
    Reply,
    Request,
)
from caption_assets.engines.vllm_arguments import ENVIRONMENT, missing, processor_threads
from caption_assets.settings.groups import MANAGED_KWARGS, CaptionSettings, EnhanceSettings

REQUIRED = os.environ.get("CAPTION_ASSETS_REQUIRE_VLLM") == "1"
MAX_MODEL_LEN = 16_384
TRICKY = "C:\\new\\table \"quoted\" 'single' {braces} {{double}} %s \\u0041 </answer> $1"
CLIPS = Path(__file__).parents[2] / "clips"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    reason = missing() or ("Transformers is not installed" if not importlib.util.find_spec("transformers") else None)
    if reason is not None:
        if REQUIRED:
            pytest.fail(f"CAPTION_ASSETS_REQUIRE_VLLM is set, but {reason}")
        pytest.skip(reason)
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    recorder = load("qwen3_vl", tmp_path_factory.mktemp("tiny"))
    yield recorder
    recorder.inner.close()


def load(family: str, folder: Path, **engine_kwargs: object) -> "Recorder":
    from caption_assets.engines.vllm import VllmEngine
    from tests.engines.tiny_checkpoint import make_checkpoint

    made = make_checkpoint(folder, family)
    fields = {"max_model_len": MAX_MODEL_LEN, "dtype": "bfloat16", **engine_kwargs}
    spec = EngineSpec(CaptionSettings(model=str(made), vllm_kwargs=fields))
    return Recorder(VllmEngine(spec, MANAGED_KWARGS), spec)


class Recorder:
    """The engine, the requests it got, and the prompts that vLLM was given for them."""

    def __init__(self, inner: Any, spec: EngineSpec):
        self.inner, self.spec = inner, spec
        self.requests: list[Request] = []
        self.prompts: list[str] = []
        self.sent: list[bool] = []  # whether processed frames went with a prompt
        generate = inner._engine.generate

        def recorded(prompt: Any, params: Any, name: str) -> Any:
            self.prompts.append(inner._engine.renderer.get_tokenizer().decode(prompt["prompt_token_ids"]))
            self.sent.append(any(item for items in prompt.get("mm_kwargs", {}).values() for item in items))
            return generate(prompt, params, name)

        inner._engine.generate = recorded

    @property
    def capacity(self) -> int:
        return int(self.inner.capacity)

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        self.requests.append(request)
        future: Future[None] = self.inner.submit(request, reply)
        return future

    def close(self) -> None:
        """The engine stays for the other claims."""

    def ask(self, *requests: Request) -> dict[tuple[str, int], Completion]:
        self.requests, self.prompts, self.sent = [], [], []
        return {(made.request_id, made.sample_index): made for made in stream(self, requests)}


def frames(seed: int = 0, n: int = 8, start_s: float = 3.25) -> PackedFrames:
    import numpy as np
    import simplejpeg

    blocks = np.random.default_rng(seed).integers(0, 255, (n, 8, 10, 3), dtype=np.uint8)
    pictures = np.ascontiguousarray(blocks.repeat(32, 1).repeat(32, 2))
    times = [start_s + 0.37 * i for i in range(n)]
    return PackedFrames([simplejpeg.encode_jpeg(picture) for picture in pictures], times, 320, 256)


def ask(name: str = "r", seeds: tuple[int, ...] = (1,), prompt: str = "What is seen?", **fields: Any) -> Request:
    messages = [Message("user", prompt, with_video=True)]
    made = Request(name, "caption", messages, seeds, 12, {"temperature": 1.0, "top_p": 0.95}, frames())
    return replace(made, **fields)


def candidates_differ_and_seeds_make_them_again(engine: Recorder) -> None:
    first = engine.ask(ask(seeds=(11, 12, 13, 14)))
    texts = [first["r", index].text for index in range(4)]
    assert len(set(texts)) == 4
    assert all(made.error is None and made.output_tokens and made.latency_ms for made in first.values())
    assert [made.text for _, made in sorted(engine.ask(ask(seeds=(11, 12, 13, 14))).items())] == texts
    assert engine.ask(ask(seeds=(13,)))["r", 0].text == texts[2], "made again alone"
    others = [ask(f"other {i}", (i,), frames=frames(seed=i)) for i in range(6)]
    assert engine.ask(*others, ask(seeds=(14,)))["r", 0].text == texts[3], "in another batch"


def prompts_reach_the_model_as_they_are_asked(engine: Recorder) -> None:
    engine.ask(ask(prompt="Name the colours."))
    engine.ask(ask(prompt="Count the cars."))
    [prompt] = engine.prompts
    assert "Count the cars." in prompt
    assert "Name the colours." not in prompt
    refine = [
        Message("system", "Be brief."),
        Message("user", "What is seen?", with_video=True),
        Message("assistant", TRICKY),
        Message("user", f"Please refine this caption: {TRICKY}"),
    ]
    made = engine.ask(ask(messages=refine, purpose="refine"))
    assert made["r", 0].error is None
    [prompt] = engine.prompts
    assert prompt.count(TRICKY) == 2
    assert prompt.count("<|video_pad|>") == 4 * 8 * 10, "four pairs of frames of 8 x 10 tokens"
    printed = [f"<{3.25 + 0.37 * (i + 0.5):.1f} seconds>" for i in range(0, 8, 2)]
    assert [mark for mark in printed if mark in prompt] == printed, "true times"


def a_bad_request_costs_itself(engine: Recorder) -> None:
    good = frames()
    broken = replace(good, jpegs=[*good.jpegs[:3], b"no picture", *good.jpegs[4:]])
    other_size = replace(good, width=640)
    made = engine.ask(
        ask("broken", frames=broken),
        ask("size", frames=other_size),
        ask("long", max_tokens=MAX_MODEL_LEN, seeds=(1, 2)),
        ask("sampling", sampling={"temperature": -1.0}),
        ask("unknown", sampling={"temprature": 1.0}),
        ask("good"),
    )
    assert made["good", 0].error is None
    errors = {name: str(completion.error) for (name, _), completion in made.items()}
    assert "frame 4 of 8 is no readable JPEG" in errors["broken"]
    assert "frame 1 of 8 has 320x256 pixels, not 640x256" in errors["size"]
    expected = made["good", 0].prompt_tokens
    assert f"needs {expected + MAX_MODEL_LEN} tokens" in errors["long"]
    assert f"the model has {MAX_MODEL_LEN}; lower max_output_tokens" in errors["long"]
    assert "temperature" in errors["sampling"]
    assert "temprature" in errors["unknown"]
    assert len(engine.prompts) == 1, "the others never reached the engine"


def frames_move_to_the_core_once(engine: Recorder) -> None:
    window = frames(seed=77)
    made = engine.ask(ask(seeds=(1, 2, 3, 4), frames=window))
    assert engine.sent == [True, False, False, False]
    again = engine.ask(ask(seeds=(1, 2), frames=window, prompt="And the second stage?"))
    assert engine.sent == [False, False]
    assert {completion.error for completion in (*made.values(), *again.values())} == {None}


def frames_that_the_core_does_not_have_are_sent_again(engine: Recorder) -> None:
    """One side of vLLM's cache knows them and the other never got them, as after a request that was given up."""
    lost = ask(seeds=(1, 2), frames=frames(seed=78))
    engine.inner._portal.call(engine.inner._render, engine.inner._prepare(lost).inputs)
    made = engine.ask(lost)
    assert {completion.error for completion in made.values()} == {None}
    assert engine.sent == [False, False, True, False]
    again = engine.ask(replace(lost, seeds=(3,)))
    assert {completion.error for completion in again.values()} == {None}
    assert engine.sent == [False]  # under the name that it has by now


def candidates_of_windows_that_fill_the_core_are_answered(engine: Recorder) -> None:
    """Without a place for each in the core's cache of encoded frames, vLLM reads one in pieces and dies of it."""
    windows = [frames(seed=number, n=150) for number in range(3)]
    made = engine.ask(*(ask(str(at), seeds=(1, 2, 3, 4), frames=window) for at, window in enumerate(windows)))
    assert {completion.error for completion in made.values()} == {None}
    assert len(made) == 12
    assert 3 * min(it.prompt_tokens or 0 for it in made.values()) > MAX_MODEL_LEN


def text_alone_is_answered(engine: Recorder) -> None:
    messages = [Message("system", "Rewrite."), Message("user", TRICKY)]
    [made] = engine.ask(Request("t", "enhance", messages, [5], 9, {"temperature": 0.7})).values()
    assert (made.error, made.prompt_tokens) == (None, made.expected_prompt_tokens)
    assert TRICKY in engine.prompts[0]


def closing_a_stream_gives_up_what_is_in_flight(engine: Recorder) -> None:
    endless = [ask(f"{i}", max_tokens=4096, sampling={"ignore_eos": True}) for i in range(4)]
    answers = stream(engine, [ask("short"), *endless])
    assert next(answers).request_id == "short"
    answers.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 20
    while (left := engine.inner._engine.output_processor.get_num_unfinished_requests()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == 0


def the_demo_clips_are_captioned(engine: Recorder, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.orchestration.running import query, run_job

    entry = replace(registry.ENGINES["vllm"], load=lambda spec: engine)
    monkeypatch.setitem(registry.ENGINES, "vllm", entry)
    uploads = root / "uploads" / "b"
    uploads.mkdir(parents=True)
    for clip in CLIPS.iterdir():
        shutil.copy2(clip, uploads)
    settings = {
        "caption": {
            "model": engine.spec.model,
            "vllm_kwargs": dict(engine.spec.stage.vllm_kwargs),
            "caption_num": 4,
            "sampling_params": {"temperature": 1.0},
            "max_output_tokens": 8,
            "generate_stage2_caption": True,
        },
        "enhance": {"model": engine.spec.model, "max_output_tokens": 8},
    }
    engine.requests, engine.prompts = [], []
    ran = run_job(root, engine="vllm", settings=settings)
    assert ran.ok
    assert ran.checks["tokens_as_reckoned"]
    rows = query(root, "SELECT * FROM caption_candidates ORDER BY window_id, stage, sample_index")
    assert len(rows) == 4 * 4 * 2, "four windows, four candidates, two stages"
    assert [row["error"] for row in rows if row["error"]] == []
    assert all(row["expected_prompt_tokens"] == row["prompt_tokens"] > 1000 for row in rows)
    assert len({row["seed"] for row in rows}) == len(rows)
    for window in {row["window_id"] for row in rows}:
        assert len({row["text"] for row in rows if row["window_id"] == window and row["stage"] == 1}) == 4
    first = {row["text"] for row in rows if row["stage"] == 1}
    refining = [request for request in engine.requests if request.purpose == "refine"]
    assert {request.messages[-2].text for request in refining} == first
    assert all(request.frames and len(request.frames.jpegs) >= 4 for request in refining)
    [recipe] = query(root, "SELECT params FROM recipes WHERE kind = 'caption' AND engine = 'vllm'")
    params = json.loads(recipe["params"])
    assert params["engine_options"] == {"engine_kwargs": {"dtype": "bfloat16"}}
    assert params["model_revision"].startswith("sha256:")


def a_core_that_is_killed_is_an_engine_that_died(engine: Recorder) -> None:
    import psutil

    roots = [psutil.Process(process.pid) for process in (*engine.inner._processes, engine.inner._guard)]
    whole = [*roots, *(child for root in roots for child in root.children(recursive=True))]
    answers = stream(engine, [ask("short"), ask("endless", max_tokens=4096, sampling={"ignore_eos": True})])
    assert next(answers).request_id == "short"
    for process in engine.inner._processes:
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EngineDied, match="vLLM stopped: "):
        list(answers)
    with pytest.raises(EngineDied):
        list(stream(engine, [ask()]))
    started = time.monotonic()
    engine.inner.close()
    engine.inner.close()
    assert time.monotonic() - started < 15
    assert len(whole) >= 2
    _, alive = psutil.wait_procs(whole, timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def other_families_see_every_frame_in_their_own_words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine each. Those that Transformers has are compared with their processors in test_families.py."""
    # The model runs in the core itself, as it does on one GPU: a process less, which imports all of vLLM for 10 s.
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    own_code = {"trust_remote_code": True, "load_format": "dummy"}
    for family, fields, written in (
        ("internvl_chat", own_code, [f"Frame{number}: <img>" for number in range(1, 9)]),
        (
            "smolvlm",
            {},
            ["series of eight frames from a 0:00:02", "Frame from 00:05:<fake_token_around_image><global-img>"],
        ),
    ):
        engine = load(family, folder / family, **fields)
        try:
            sees_every_frame(engine, written)
        finally:
            engine.inner.close()


def sees_every_frame(engine: Recorder, written: list[str]) -> None:
    made = engine.ask(ask(seeds=(11, 12)), ask("odd", frames=frames(n=3)))
    assert {completion.error for completion in made.values()} == {None}
    assert all(it.expected_prompt_tokens == it.prompt_tokens for it in made.values())
    assert made["r", 0].text != made["r", 1].text
    assert sorted(engine.sent) == [False, True, True]  # two candidates of one window, and another window
    longest = max(engine.prompts, key=len)
    assert [part for part in written if part in longest] == written


def test_the_real_engine(
    engine: Recorder, subtests: pytest.Subtests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for claim in (
        candidates_differ_and_seeds_make_them_again,
        prompts_reach_the_model_as_they_are_asked,
        a_bad_request_costs_itself,
        frames_move_to_the_core_once,
        frames_that_the_core_does_not_have_are_sent_again,
        candidates_of_windows_that_fill_the_core_are_answered,
        text_alone_is_answered,
        closing_a_stream_gives_up_what_is_in_flight,
    ):
        with subtests.test(claim.__name__):
            claim(engine)
    with subtests.test("the_demo_clips_are_captioned"):
        the_demo_clips_are_captioned(engine, tmp_path / "root", monkeypatch)
    with subtests.test("a_core_that_is_killed_is_an_engine_that_died"):
        a_core_that_is_killed_is_an_engine_that_died(engine)
    with subtests.test("other_families_see_every_frame_in_their_own_words"):
        other_families_see_every_frame_in_their_own_words(tmp_path, monkeypatch)


def test_vllm_knows_the_variables_that_are_set_for_it() -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason) if not REQUIRED else pytest.fail(reason)
    from vllm import envs

    for_vllm = {name for name in ENVIRONMENT if name.startswith("VLLM_")}
    assert for_vllm
    assert for_vllm <= envs.environment_variables.keys()


def test_vllm_gives_the_processor_the_threads_that_are_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason) if not REQUIRED else pytest.fail(reason)
    import torch
    from vllm.utils.torch_utils import set_default_torch_num_threads

    def while_processing() -> int:
        with set_default_torch_num_threads():
            return torch.get_num_threads()

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert while_processing() == 1
    with processor_threads(3):
        assert while_processing() == 3
    assert while_processing() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with processor_threads(3):
        assert while_processing() == 2
    assert os.environ["OMP_NUM_THREADS"] == "2"


class Loading:
    """An engine of which nothing is loaded, on a host that says that it has a GPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path):
        from vllm.engine.arg_utils import AsyncEngineArgs  # its import needs the platform that is there  # noqa: F401

        from caption_assets.engines import vllm

        self.threads_of_the_core: str | None = "not started"
        self.fault: Exception | None = None
        folder.joinpath("config.json").write_text(json.dumps({"model_type": "qwen3", "max_position_embeddings": 4096}))
        self.spec = EngineSpec(EnhanceSettings(model=str(folder), vllm_kwargs={"load_format": "dummy"}))
        monkeypatch.setattr("vllm.platforms.current_platform", SimpleNamespace(is_cpu=lambda: False), raising=False)
        monkeypatch.setattr("vllm.engine.arg_utils.AsyncEngineArgs.__post_init__", lambda _: None)
        monkeypatch.setattr(vllm, "usable_cores", lambda: 6)
        monkeypatch.setattr(vllm, "_start", self._start)
        monkeypatch.setattr(vllm.VllmEngine, "_read_engine", self._read_engine)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def engine(self) -> Any:
        from caption_assets.engines.vllm import VllmEngine

        return VllmEngine(self.spec, {})

    def _start(self, arguments: Any) -> Any:
        self.threads_of_the_core = os.environ.get("OMP_NUM_THREADS")
        return SimpleNamespace(shutdown=lambda: None)

    def _read_engine(self, *args: Any, **fields: Any) -> None:
        if self.fault is not None:
            raise self.fault


def test_on_a_gpu_host_the_processor_has_half_of_the_cores_while_the_engine_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason) if not REQUIRED else pytest.fail(reason)
    loading = Loading(monkeypatch, tmp_path)
    engine = loading.engine()
    assert loading.threads_of_the_core is None
    assert os.environ["OMP_NUM_THREADS"] == "3"
    engine.close()
    assert "OMP_NUM_THREADS" not in os.environ
    loading.fault = RuntimeError("no such tokenizer")
    with pytest.raises(EngineUnavailable, match="no such tokenizer"):
        loading.engine()
    assert "OMP_NUM_THREADS" not in os.environ


def test_an_engine_that_is_interrupted_while_it_loads_leaves_no_process_and_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason) if not REQUIRED else pytest.fail(reason)
    core = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))

    class Interrupted(Loading):
        def _start(self, arguments: Any) -> Any:
            core.start()
            raise KeyboardInterrupt

    loading, before = Interrupted(monkeypatch, tmp_path), set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        loading.engine()
    assert core.exitcode == -signal.SIGKILL
    assert set(threading.enumerate()) <= before


def test_a_field_that_vllm_does_not_have_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason) if not REQUIRED else pytest.fail(reason)
    with pytest.raises(EngineUnavailable, match=r"has no such field; did you mean max_model_len\?"):
        registry.ENGINES["vllm"].load(
            EngineSpec(CaptionSettings(model=str(tmp_path), vllm_kwargs={"max_model_length": 1}))
        )
