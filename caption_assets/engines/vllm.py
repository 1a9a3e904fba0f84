"""vLLM in this process: the model stays loaded, and windows of all clips flow through one continuous batch.

What overlaps: a thread pulls requests (`feed`), a pool decodes JPEGs and renders prompts, vLLM's renderer threads run
the model's processor, and its core generates in a process of its own.

Each candidate is a request of its own with its own seed, so that one made again alone is made as it was among the
others; the prompt is prepared once for all of them, and the prefix cache computes it once. Texts for the same seed are
equal in equal batches; in others, floating-point sums may differ in the last bit, unless vLLM is told to be batch
invariant (VLLM_BATCH_INVARIANT=1).
"""

import asyncio
import hashlib
import logging
import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from itertools import count
from pathlib import Path
from typing import Any

from caption_assets.cores import usable_cores
from caption_assets.engines.chat_template import ChatTemplate, read_chat_template
from caption_assets.engines.child_process import Ward, end, guard, wards_of
from caption_assets.engines.encoder_room import EncoderRoom
from caption_assets.engines.families import Family, FrameShape, QwenVL, family_of
from caption_assets.engines.feed import Feed
from caption_assets.engines.frames import PROBE_PAIR_S, decode_frames, probe_video, video_metadata
from caption_assets.engines.protocol import (
    Completion,
    EngineDied,
    EngineIdentity,
    EngineSpec,
    EngineUnavailable,
    FinishReason,
    PackedFrames,
    Request,
)
from caption_assets.engines.reasoning import prompt_opens_reasoning, split_reasoning
from caption_assets.engines.vllm_arguments import (
    MOST_PROCESSOR_THREADS,
    check_arguments,
    check_family,
    engine_arguments,
    installed_version,
    missing,
    prepare_environment,
    processor_threads,
    result_options,
)
from caption_assets.engines.weights import fetch, locate

LOOKAHEAD = 1.5
"""Requests in flight over those whose tokens fill the engine's cache of keys and values: the rest is in preparation."""
FEWEST_IN_FLIGHT = 4
MOST_BYTES = 8 << 30
CLOSE_S = 10.0
"""How long a process of the engine gets to end before it is killed."""
log = logging.getLogger(__name__)


class TooLong(ValueError):
    """A request does not fit into the model's context. The message has the numbers."""


@dataclass(frozen=True)
class Prepared:
    """A request as vLLM takes it.

    opens_thought: the prompt ends inside a thought. frames_name: under which caches know the frames, None without any.
    """

    prompt: dict[str, Any]
    expected_tokens: int | None
    opens_thought: bool
    frames_name: str | None


def identify(spec: EngineSpec) -> EngineIdentity:
    """Return the identity of what `spec` loads, without importing vLLM.

    Raises:
        EngineUnavailable: vLLM is not installed, or the model cannot be found.
    """
    if (reason := missing()) is not None:
        raise EngineUnavailable(reason)
    model = locate(spec)
    return EngineIdentity("vllm", installed_version() or "", model.id, model.revision, result_options(spec))


class VllmEngine:
    """An `Engine` on vLLM's AsyncLLM, for models with and without eyes.

    Args:
        spec: the model and how it is run.
        managed: fields of the engine that settings decide, and which one does.

    Raises:
        EngineUnavailable: vLLM is missing or cannot load the model, the weights cannot be had, or a field of
            `vllm_kwargs` is unknown or managed.
    """

    def __init__(self, spec: EngineSpec, managed: Mapping[str, str]):
        if (reason := missing()) is not None:
            raise EngineUnavailable(reason)
        self._spec = spec
        self._errors = prepare_environment()
        self._errors_from = _size(self._errors)
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform

        check_arguments(spec.stage.vllm_kwargs, managed, {field.name for field in fields(AsyncEngineArgs)})
        path = fetch(spec)
        self._family = family_of(path, resize=spec.engine.model_does_preprocess)
        check_family(spec.model, self._family)
        on_cpu = current_platform.is_cpu()
        arguments = engine_arguments(spec, path, self._family, on_cpu=on_cpu)
        self._names = count()
        self._other_names: dict[str, str] = {}  # of frames that the core had lost
        self._seen: set[str] = set()  # names of frames, where places are few
        self._dead: EngineDied | None = None
        self._closed = False
        self._tokens, self._bytes = RecentMean(), RecentMean()
        self._pool = ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2)), "prepare")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        self._wards: list[Ward] = []
        self._guard: subprocess.Popen[bytes] | None = None
        self._lent = ExitStack()
        before = set(multiprocessing.active_children())
        try:
            self._engine = self._call(_start(AsyncEngineArgs(**arguments)))
            self._processes = set(multiprocessing.active_children()) - before
            self._wards = wards_of(process.pid for process in self._processes if process.pid)
            self._guard = guard(os.getpid(), self._wards)
            self._read_engine(path, on_cpu=on_cpu)
            # On a CPU the model itself has all the cores.
            threads = 1 if on_cpu else min(MOST_PROCESSOR_THREADS, usable_cores() // 2)
            self._lent.enter_context(processor_threads(threads))
        except BaseException as error:
            self._processes = set(multiprocessing.active_children()) - before
            self.close()
            if isinstance(error, Exception) and not isinstance(error, EngineUnavailable):
                raise EngineUnavailable(f"{spec.model}: {self._cause(error)}") from error
            raise

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Completion]:
        """Yield a completion for each seed of each request, as they finish.

        Raises:
            EngineDied: the engine's process is gone; the message says why, as far as it was said.
        """
        if self._dead is not None:
            raise self._dead
        if self._closed:
            raise EngineDied("the engine is closed")
        running: set[Future[None]] = set()

        def send(request: Request, feed: Feed) -> None:
            future = asyncio.run_coroutine_threadsafe(self._serve(request, feed), self._loop)
            running.add(future)
            future.add_done_callback(running.discard)

        try:
            yield from Feed(requests, send, self._limit).completions()
        finally:
            for future in list(running):
                future.cancel()

    def close(self) -> None:
        """End the engine's processes and threads, whatever they are doing."""
        if self._closed:
            return
        self._closed = True
        self._lent.close()
        engine = getattr(self, "_engine", None)
        if engine is not None:
            with suppress(Exception):
                self._call(_shut_down(engine), CLOSE_S)
        for process in self._processes:
            process.join(0 if self._dead else 1)
            if process.is_alive():
                process.kill()
                process.join(CLOSE_S)
        end(self._wards, CLOSE_S)
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait(CLOSE_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        with suppress(TimeoutError):  # interrupted while loading, the loop is still in vLLM's constructor
            self._call(_cancel_all(), CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)
        self._engine = None

    # preparing

    def _prepare(self, request: Request) -> Prepared:
        """Return what is sent for a request. Raises what is wrong with it: bad frames, too many tokens."""
        if request.frames is not None and self._family is None:
            raise ValueError(f"{self._spec.model} is a text model; a request with frames needs one that sees")
        text = self._chat.render(request.messages, request.frames)
        prompt: dict[str, Any] = {"prompt_token_ids": self._token_ids(text)}
        expected: int | None = len(prompt["prompt_token_ids"])
        if request.frames is not None and self._family is not None:
            frames, shape = request.frames, _shape(request.frames)
            expected = self._family.prompt_tokens(text, shape, frames.times_s, lambda t: len(self._token_ids(t)))
            self._check_length(expected, len(prompt["prompt_token_ids"]), request)
            prompt |= self._visual_input(self._family, frames, shape)
        self._check_length(expected, len(prompt["prompt_token_ids"]), request)
        name = None if request.frames is None else _digest(request.frames)
        prompt = prompt if name is None else _named(prompt, self._other_names.get(name, name))
        return Prepared(prompt, expected, prompt_opens_reasoning(text), name)

    def _check_length(self, expected: int | None, text: int, request: Request) -> None:
        needed = None if expected is None else expected + request.max_tokens
        if expected is None or needed is None or needed <= self._max_model_len:
            return
        visual = expected - text if request.frames is not None else 0
        lower = "max_output_tokens, sampling_fps or window_size" if visual else "max_output_tokens"
        raise TooLong(
            f"the request needs {needed} tokens ({visual} of frames, {expected - visual} of text, {request.max_tokens} "
            f"for the answer), the model has {self._max_model_len}; lower {lower}, or raise vllm_kwargs.max_model_len"
        )

    def _visual_input(self, family: Family, frames: PackedFrames, shape: FrameShape) -> dict[str, Any]:
        pixels = self._as_wanted(decode_frames(frames))
        options = family.processor_options(shape)
        extra: dict[str, Any] = {"mm_processor_kwargs": options} if options else {}
        if family.frames_as == "images":
            from PIL import Image

            return {"multi_modal_data": {"image": [Image.fromarray(picture) for picture in pixels]}, **extra}
        return {"multi_modal_data": {"video": [(pixels, frames_metadata(frames))]}, **extra}

    def _as_wanted(self, pixels: Any) -> Any:
        """Return frames in the type that is asked for; values stay 0 to 255."""
        if self._spec.engine.preprocess_dtype == "uint8":
            return pixels
        import torch

        return torch.from_numpy(pixels).to(getattr(torch, self._spec.engine.preprocess_dtype))

    def _token_ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    # generating, on the engine's loop

    async def _serve(self, request: Request, feed: Feed) -> None:
        try:
            prepared = await self._loop.run_in_executor(self._pool, self._prepare, request)
            rendered = await self._render(prepared.prompt, len(request.seeds))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._fail(error, request, feed, range(len(request.seeds)))
            return
        self._tokens.add(len(rendered[0]["prompt_token_ids"]) + len(request.seeds) * request.max_tokens)
        self._bytes.add(_processed_bytes(request.frames))
        async with self._place(prepared, rendered):
            await asyncio.gather(
                *(self._candidate(request, index, prepared, prompt, feed) for index, prompt in enumerate(rendered))
            )

    async def _render(self, prompt: dict[str, Any], times: int = 1) -> list[dict[str, Any]]:
        """Return the prompt as the engine takes it: placeholders expanded, frames processed on vLLM's own threads.

        The first has the frames; for the others vLLM's cache of processed frames, where there is one, knows that the
        core has them by then: they are tens of megabytes, and move once.
        """
        if times > 1 and (not self._keeps_processed or "multi_modal_data" not in prompt):
            return await self._render(prompt) * times
        rendered: list[dict[str, Any]] = await self._engine.renderer.render_cmpl_async(
            [{**prompt} for _ in range(times)]
        )
        return rendered

    def _place(self, prepared: Prepared, rendered: Sequence[dict[str, Any]]) -> AbstractAsyncContextManager[None]:
        """Return the place in the core that a request waits for, where it has to."""
        if self._room is None or prepared.frames_name is None:
            return nullcontext()
        repeats = len(rendered) > 1 or prepared.frames_name in self._seen
        self._seen.add(prepared.frames_name)
        return self._room.hold(len(rendered[0]["prompt_token_ids"]), repeats=repeats)

    async def _candidate(
        self, request: Request, index: int, prepared: Prepared, rendered: dict[str, Any], feed: Feed
    ) -> None:
        started = time.perf_counter()
        try:
            params = sampling_params(request.sampling, request.seeds[index], request.max_tokens)
            name = f"{request.request_id}/{index}"
            final = await self._generate(rendered, params, name)
            if final.outputs[0].finish_reason == "error":
                # The two sides of vLLM's cache of processed frames had come to differ, in 0.25 for good.
                (again,) = await self._render(self._under_another_name(prepared))
                final = await self._generate(again, params, name)
                # 0.25 wrote that down as an error, which is not what a later death will be of.
                self._errors_from = _size(self._errors)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._fail(error, request, feed, [index])
            return
        made = _completion(request, index, final, prepared)
        feed.answer(request, replace(made, latency_ms=round(1000 * (time.perf_counter() - started), 3)))

    def _under_another_name(self, prepared: Prepared) -> dict[str, Any]:
        """Return a prompt whose frames no cache knows, so that they are sent again: once for all who ask for them."""
        name = prepared.frames_name
        if name is None:
            return prepared.prompt
        current = _named(prepared.prompt, self._other_names.get(name, name))
        if current["multi_modal_uuids"] == prepared.prompt["multi_modal_uuids"]:  # no candidate beside it was first
            self._other_names[name] = f"{name}/{next(self._names)}"
            current = _named(prepared.prompt, self._other_names[name])
        return current

    async def _generate(self, rendered: dict[str, Any], params: Any, name: str) -> Any:
        final = None
        async for output in self._engine.generate({**rendered}, params, f"{name}/{next(self._names)}"):
            final = output
        if final is None:
            raise RuntimeError("vLLM ended the request without an answer")
        return final

    def _fail(self, error: Exception, request: Request, feed: Feed, indices: Iterable[int]) -> None:
        """Answer with an error, or end the stream where the engine is dead."""
        if self._engine is None or self._engine.errored or type(error).__name__ == "EngineDeadError":
            self._dead = self._dead or EngineDied(f"vLLM stopped: {self._cause(error)}")
            feed.fail(self._dead)
            return
        reason = error.__cause__ if type(error).__name__ == "EngineGenerateError" and error.__cause__ else error
        text = str(reason).strip() or type(reason).__name__
        known = isinstance(reason, ValueError)
        message = text if known else f"{type(reason).__name__}: {text}"
        for index in indices:
            feed.answer(request, Completion(request.request_id, index, "", "error", error=message))

    # the engine itself

    def _read_engine(self, path: Path, *, on_cpu: bool) -> None:
        config = self._engine.vllm_config
        multimodal = config.model_config.multimodal_config
        self._keeps_processed = multimodal is not None and multimodal.mm_processor_cache_gb > 0
        self._room = EncoderRoom(int(config.scheduler_config.max_num_batched_tokens)) if on_cpu else None
        self._max_model_len = int(config.model_config.max_model_len)
        blocks, block = config.cache_config.num_gpu_blocks or 0, config.cache_config.block_size or 0
        self._cached_tokens = blocks * block
        self._most_in_flight = 2 * int(config.scheduler_config.max_num_seqs)
        self._tokenizer = self._engine.renderer.get_tokenizer()
        self._chat = ChatTemplate(self._tokenizer, read_chat_template(path), self._family)
        if isinstance(self._family, QwenVL) and self._spec.purpose == "caption":
            self._family = self._tried_out(self._family)

    def _tried_out(self, family: QwenVL) -> QwenVL:
        """Return the family as this version of vLLM treats it, found by processing a small black video.

        Versions differ in whether the chat template's markers stay around a video, and old ones do not tell
        Qwen2.5-VL how far apart its frames are.
        """
        frames, black, shape = probe_video(family)
        prompt = {
            "prompt_token_ids": self._token_ids(family.placeholder),
            "multi_modal_data": {"video": [(black, frames_metadata(frames))]},
            "mm_processor_kwargs": family.processor_options(shape),
        }
        (rendered,) = self._call(self._render(prompt))
        field = rendered["mm_kwargs"]["video"][0].get("second_per_grid_ts")
        if field is not None and abs(float(field.data) - PROBE_PAIR_S) > 0.01:
            log.warning(
                "vLLM %s tells %s that pairs of frames are %.2f s apart, where they are %.2f; use vLLM 0.32 or newer",
                installed_version(), self._spec.model, float(field.data), PROBE_PAIR_S,
            )  # fmt: skip
        kept = family.prompt_tokens(family.placeholder, shape, frames.times_s, lambda text: len(self._token_ids(text)))
        return replace(family, keeps_markers=len(rendered["prompt_token_ids"]) == kept)

    def _limit(self) -> int:
        """Return how many requests may be in flight: those that fill the cache, and some that are being prepared.

        Fewer where their processed frames, which wait in memory, would take more than 8 GiB.
        """
        if self._spec.stage.max_in_flight is not None:
            return self._spec.stage.max_in_flight
        if not self._tokens.value or not self._cached_tokens:
            return FEWEST_IN_FLIGHT
        filling = LOOKAHEAD * self._cached_tokens / self._tokens.value
        held = MOST_BYTES / self._bytes.value if self._bytes.value else filling
        return max(FEWEST_IN_FLIGHT, int(min(self._most_in_flight, filling, held)))

    def _call(self, coroutine: Coroutine[Any, Any, Any], timeout: float | None = None) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def _cause(self, error: BaseException) -> str:
        """Return why the engine ended: the last exception that its processes wrote down, else what was raised."""
        with suppress(OSError):
            with self._errors.open(encoding="utf-8", errors="replace") as stream:
                stream.seek(self._errors_from)
                said = stream.read()
            if (root := root_cause(said)) is not None:
                return root
        alive = [process for process in self._processes if process.is_alive()]
        codes = [process.exitcode for process in self._processes if process.exitcode]
        if not alive and codes:
            signal = f"by signal {-codes[0]}" if codes[0] < 0 else f"with exit status {codes[0]}"
            return f"its process ended {signal}"
        return str(error).strip() or type(error).__name__


class RecentMean:
    """A mean in which the last ten values or so count; 0 before the first."""

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, value: float) -> None:
        """Take one more value."""
        self.value = value if not self.value else 0.9 * self.value + 0.1 * value


def sampling_params(sampling: Mapping[str, object], seed: int, max_tokens: int) -> Any:
    """Return vLLM's SamplingParams for one candidate.

    Raises:
        ValueError: a field is unknown or outside its range.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    values = {name: _nested(name, value) for name, value in sampling.items() if name != "seed"}
    try:
        return SamplingParams(**values, n=1, seed=seed, max_tokens=max_tokens, output_kind=RequestOutputKind.FINAL_ONLY)
    except TypeError as error:
        raise ValueError(f"sampling_params: {error}") from error


def root_cause(said: str) -> str | None:
    """Return the line of the first traceback in what an engine's processes said that names the exception."""
    for line in said.splitlines():
        words = line.split("] ", 1)[-1].strip()
        name, colon, rest = words.partition(": ")
        kind = name.rpartition(".")[2]
        if colon and kind.isidentifier() and kind.endswith(("Error", "Exception")) and rest.strip():
            return words
    return None


def _completion(request: Request, index: int, output: Any, prepared: Prepared) -> Completion:
    answer = output.outputs[0]
    text, reasoning = split_reasoning(answer.text, opened_in_prompt=prepared.opens_thought)
    finish: FinishReason = "length" if answer.finish_reason == "length" else "stop"
    made = Completion(
        request.request_id,
        index,
        text,
        finish,
        prompt_tokens=len(output.prompt_token_ids),
        output_tokens=len(answer.token_ids),
        reasoning=reasoning,
        expected_prompt_tokens=prepared.expected_tokens,
    )
    if answer.finish_reason in ("stop", "length", "repetition"):
        return made
    return replace(made, text="", finish_reason="error", error=f"vLLM ended the request: {answer.finish_reason}")


def _nested(name: str, value: object) -> object:
    """Return a field's value as vLLM takes it: some are tables of their own, some have numbers for keys."""
    if name == "stop":
        return value or None
    if name == "logit_bias" and isinstance(value, Mapping):
        return {int(token): float(bias) for token, bias in value.items()}
    if isinstance(value, Mapping) and name in ("repetition_detection", "structured_outputs"):
        from vllm import sampling_params

        kinds: Mapping[str, str] = {
            "repetition_detection": "RepetitionDetectionParams",
            "structured_outputs": "StructuredOutputsParams",
        }
        kind: Callable[..., object] = getattr(sampling_params, kinds[name])
        return kind(**value) if value else None
    return value


def frames_metadata(frames: PackedFrames) -> dict[str, Any]:
    """Return what vLLM and the model's processor are told about a window's frames: above all, their times."""
    return {**video_metadata(frames), "do_sample_frames": False}


def _named(prompt: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a prompt with a name for each video or image, under which the engine caches what it makes of them."""
    items: Mapping[str, Sequence[object]] = prompt["multi_modal_data"]
    return {**prompt, "multi_modal_uuids": {kind: [f"{name}.{at}" for at in range(len(items[kind]))] for kind in items}}


def _digest(frames: PackedFrames) -> str:
    """Return the name under which the engine caches processed frames: what is in them, and when."""
    digest = hashlib.blake2b(repr([float(time) for time in frames.times_s]).encode(), digest_size=16)
    for jpeg in frames.jpegs:
        digest.update(len(jpeg).to_bytes(8, "little"))
        digest.update(jpeg)
    return digest.hexdigest()


def _processed_bytes(frames: PackedFrames | None) -> int:
    """Return the size of processed frames: three colours of two bytes a pixel."""
    return 6 * len(frames.jpegs) * frames.height * frames.width if frames is not None else 0


def _shape(frames: PackedFrames) -> FrameShape:
    return FrameShape(len(frames.jpegs), frames.height, frames.width)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


async def _start(arguments: Any) -> Any:
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    # vLLM chooses batch sizes for throughput where its class LLM is used, and for answering soon elsewhere.
    return AsyncLLM.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)


async def _shut_down(engine: Any) -> None:
    engine.shutdown()


async def _cancel_all() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
