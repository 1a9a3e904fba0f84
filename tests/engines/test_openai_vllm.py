"""The engine `openai` against vLLM's own server: what was packed arrives, at its true times, and seeds hold."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from caption_assets.engines.openai.engine import OpenAIEngine
from caption_assets.engines.protocol import (
    Completion,
    EngineSpec,
    EngineUnavailable,
    Message,
    PackedFrames,
    Request,
)
from caption_assets.settings.groups import CaptionSettings, OpenAISettings

REQUIRED = os.environ.get("CAPTION_ASSETS_REQUIRE_VLLM") == "1"
KEY = "sk-of-the-test-server"
STARTS_WITHIN_S = 480

pytestmark = pytest.mark.skipif(
    not REQUIRED and importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"
)


@dataclass(frozen=True)
class Served:
    """A server of the tiny checkpoint."""

    url: str
    checkpoint: Path

    def spec(self, **options: object) -> EngineSpec:
        server = OpenAISettings(base_urls=[self.url], api_key_env="TEST_VLLM_KEY", timeout_s=120, max_concurrency=4)
        return EngineSpec(CaptionSettings(model="tiny"), server=server.model_copy(update=options))

    def reckon(self, request: Request) -> int:
        """Return the tokens of a request as the engine in this process reckons them."""
        from transformers import AutoTokenizer

        from caption_assets.engines.chat_template import ChatTemplate, read_chat_template
        from caption_assets.engines.families import FrameShape, family_of

        tokenizer = AutoTokenizer.from_pretrained(self.checkpoint)
        family = family_of(self.checkpoint)
        text = ChatTemplate(tokenizer, read_chat_template(self.checkpoint), family).render(
            request.messages, request.frames
        )
        if request.frames is None or family is None:
            return len(tokenizer.encode(text, add_special_tokens=False))
        shape = FrameShape(len(request.frames.jpegs), request.frames.height, request.frames.width)
        tokens = family.prompt_tokens(
            text, shape, request.frames.times_s, lambda said: len(tokenizer.encode(said, add_special_tokens=False))
        )
        assert tokens is not None
        return tokens


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from .tiny_checkpoint import make_checkpoint

    folder = tmp_path_factory.mktemp("served")
    checkpoint = make_checkpoint(folder / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_API_KEY": KEY,
    }
    # As `vllm serve` does, whose own command asks for a distribution that is called vllm; vLLM's build for CPUs is not.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16"]
    command += ["--max-model-len", "4096", "--enforce-eager", "--max-num-seqs", "8", "--trust-request-mm-kwargs"]
    command += ["--limit-mm-per-prompt", '{"video": 1, "image": 8}']
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_well(server, port, folder / "log")
            yield Served(f"http://127.0.0.1:{port}/v1", checkpoint)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_until_well(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"vLLM's server did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture
def engine(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIEngine]:
    monkeypatch.setenv("TEST_VLLM_KEY", KEY)
    opened = OpenAIEngine(served.spec())
    yield opened
    opened.close()


def frames(n: int, start_s: float, step_s: float, side: int = 64) -> PackedFrames:
    noise = np.random.default_rng(n).integers(0, 255, (n, side, side, 3), np.uint8)
    jpegs = [simplejpeg.encode_jpeg(picture, 90) for picture in noise]
    return PackedFrames(jpegs, [start_s + i * step_s for i in range(n)], side, side)


def request(name: str, shown: PackedFrames | None, seeds: Sequence[int] = (1,), max_tokens: int = 12) -> Request:
    turns = (Message("system", "Be brief."), Message("user", 'What "is" {seen} \\ here?', with_video=shown is not None))
    return Request(name, "caption", turns, seeds, max_tokens, {"temperature": 1.0, "min_tokens": 4}, shown)


def texts(completions: Sequence[Completion]) -> dict[tuple[str, int], str]:
    assert {completion.error for completion in completions} == {None}
    return {(completion.request_id, completion.sample_index): completion.text for completion in completions}


def test_frames_and_times_arrive_as_they_are_in_process(served: Served, engine: OpenAIEngine) -> None:
    """Token counts tell: times are printed into the prompt, every pair of frames costs its own tokens."""
    asked = {
        "short": request("short", frames(8, 0.0, 0.5)),
        "late": request("late", frames(8, 1234.0, 0.5)),
        "odd and uneven": request("odd and uneven", frames(7, 3.3, 17.77)),
        "more than vLLM takes unasked": request("more than vLLM takes unasked", frames(48, 0.0, 0.5)),
        "large": request("large", frames(2, 0.0, 0.5, side=448)),
        "no frames": request("no frames", None),
    }
    answers = {answer.request_id: answer for answer in engine.stream(asked.values())}
    assert {answer.error for answer in answers.values()} == {None}
    assert {name: answer.prompt_tokens for name, answer in answers.items()} == {
        name: served.reckon(one) for name, one in asked.items()
    }
    assert (answers["late"].prompt_tokens or 0) > (answers["short"].prompt_tokens or 0)
    for answer in answers.values():
        assert 4 <= (answer.output_tokens or 0) <= 12
        assert answer.finish_reason == ("length" if answer.output_tokens == 12 else "stop")


def test_seeds_make_candidates_differ_and_come_again(engine: OpenAIEngine) -> None:
    shown = frames(4, 0.0, 0.5)
    first = texts(list(engine.stream([request("a", shown, seeds=(1, 2, 3, 4))])))
    assert len(set(first.values())) == 4
    assert texts(list(engine.stream([request("a", shown, seeds=(3,))])))[("a", 0)] == first[("a", 2)], "alone"


def test_images_are_read_too(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_VLLM_KEY", KEY)
    engine = OpenAIEngine(served.spec(frames_as="images"))
    try:
        [answer] = engine.stream([request("a", frames(4, 2.0, 0.5))])
    finally:
        engine.close()
    assert answer.error is None
    assert (answer.prompt_tokens or 0) > served.reckon(request("a", frames(4, 2.0, 0.5)))


def test_what_does_not_fit_is_told_in_vllms_words_and_costs_itself(engine: OpenAIEngine) -> None:
    asked = [request("long", None, max_tokens=5000), request("good", frames(4, 0.0, 0.5))]
    answers = {answer.request_id: answer for answer in engine.stream(asked)}
    assert "answered 400" in str(answers["long"].error)
    assert "4096" in str(answers["long"].error)
    assert answers["good"].error is None


def test_a_wrong_key_and_a_wrong_model_are_told(
    served: Served, engine: OpenAIEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong_model = OpenAIEngine(replace(served.spec(), stage=CaptionSettings(model="Qwen/Qwen3-VL-8B-Instruct")))
    monkeypatch.setenv("TEST_VLLM_KEY", "sk-wrong-wrong")
    wrong_key = OpenAIEngine(served.spec())
    for opened, words in (
        (wrong_model, "serves tiny, not 'Qwen/"),
        (wrong_key, "key in TEST_VLLM_KEY was refused"),
    ):
        with pytest.raises(EngineUnavailable, match=words):
            list(opened.stream([request("a", frames(4, 0.0, 0.5))]))
        opened.close()
