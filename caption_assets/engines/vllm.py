"""vLLM in this process: the model stays loaded, and windows of all clips flow through one continuous batch.

What overlaps: the dispatcher reads frames, a pool decodes JPEGs and renders prompts, vLLM's renderer threads run the
model's processor, and its core generates in a process of its own.

Each candidate is a request of its own with its own seed, so that one made again alone is made as it was among the
others; the prompt is prepared once for all of them, and the prefix cache computes it once. Texts for the same seed are
equal in equal batches; in others, floating-point sums may differ in the last bit, unless vLLM is told to be batch
invariant (VLLM_BATCH_INVARIANT=1).
"""

import asyncio
import logging
import multiprocessing
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from itertools import count
from pathlib import Path
from typing import Any

from caption_assets.cores import usable_cores
from caption_assets.engines.chat_template import ChatTemplate, Prompt, read_chat_template
from caption_assets.engines.child_process import end, guard, with_descendants
from caption_assets.engines.encoder_room import EncoderRoom
from caption_assets.engines.families import Family, FrameShape, QwenVL, family_of
from caption_assets.engines.frames import PROBE_PAIR_S, decode_frames, frames_digest, probe_video, video_metadata
from caption_assets.engines.protocol import (
    Completion,
    EngineDied,
    EngineIdentity,
    EngineSpec,
    EngineUnavailable,
    PackedFrames,
    Reply,
    Request,
)
from caption_assets.engines.reasoning import split_reasoning
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
    root_cause,
    sampling_params,
)
from caption_assets.engines.weights import fetch, locate

LOOKAHEAD = 1.5
"""Requests in flight over those whose tokens fill the engine's cache of keys and values: the rest is in preparation."""
FEWEST_IN_FLIGHT = 4
MOST_BYTES = 8 << 30
CLOSE_S = 10.0
"""How long a process of the engine gets to end before it is killed."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A request as vLLM takes it. frames: their digest, None without any; frames_name: what vLLM's caches call them."""

    prompt: Prompt
    inputs: dict[str, Any]
    frames: str | None = None
    frames_name: str | None = None


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
        self._spec = spec
        self._errors = prepare_environment()
        self._errors.write_text("")  # what an engine before this one died of
        from anyio.from_thread import start_blocking_portal
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform

        check_arguments(spec.stage.vllm_kwargs, managed, {field.name for field in fields(AsyncEngineArgs)})
        path = fetch(spec)
        self._family = family_of(path, resize=spec.engine.model_does_preprocess)
        check_family(spec.model, self._family)
        on_cpu = current_platform.is_cpu()
        arguments = engine_arguments(spec, path, self._family, on_cpu=on_cpu)
        self._numbers = count()
        self._other_names: dict[str, str] = {}  # of frames that the core had lost
        self._tokens_a_request = self._bytes_a_request = 0.0
        self._closed = False
        self._engine: Any = None
        self._all_processes: list[Any] = []
        self._guard: subprocess.Popen[bytes] | None = None
        self._exit = ExitStack()
        self._pool = self._exit.enter_context(ThreadPoolExecutor(max(2, min(8, usable_cores())), "prepare"))
        self._portal = self._exit.enter_context(start_blocking_portal())
        before = set(multiprocessing.active_children())
        try:
            self._engine = _start(AsyncEngineArgs(**arguments))
            self._processes = set(multiprocessing.active_children()) - before
            self._all_processes = with_descendants(process.pid for process in self._processes if process.pid)
            self._guard = guard(os.getpid(), self._all_processes)
            self._read_engine(path, on_cpu=on_cpu)
            # On a CPU the model itself has all the cores.
            threads = 1 if on_cpu else min(MOST_PROCESSOR_THREADS, usable_cores() // 2)
            self._exit.enter_context(processor_threads(threads))
        except BaseException as error:
            self._processes = set(multiprocessing.active_children()) - before
            self.close()
            if isinstance(error, Exception) and not isinstance(error, EngineUnavailable):
                raise EngineUnavailable(f"{spec.model}: {self._cause(error)}") from error
            raise

    @property
    def capacity(self) -> int:
        """How many requests fill the cache of keys and values, and some more that are being prepared.

        Fewer where their processed frames, which wait in memory, would take more than 8 GiB.
        """
        if self._spec.stage.max_in_flight is not None:
            return self._spec.stage.max_in_flight
        if not self._tokens_a_request or not self._cached_tokens:
            return FEWEST_IN_FLIGHT
        filling = LOOKAHEAD * self._cached_tokens / self._tokens_a_request
        held = MOST_BYTES / self._bytes_a_request if self._bytes_a_request else filling
        return max(FEWEST_IN_FLIGHT, int(min(2 * self._most_sequences, filling, held)))

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        """Begin to answer a request. An engine whose process is gone says why, as far as that was written down."""
        if self._closed:
            raise EngineDied("the engine is closed")
        return self._portal.start_task_soon(self._serve, request, reply)

    def close(self) -> None:
        """End the engine's processes and threads, whatever they are doing."""
        if self._closed:
            return
        self._closed = True
        if self._engine is not None:
            with suppress(Exception):
                self._portal.start_task_soon(self._engine.shutdown).result(CLOSE_S)
        end(self._all_processes or with_descendants(each.pid for each in self._processes if each.pid), CLOSE_S)
        for process in self._processes:
            process.join(CLOSE_S)
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait(CLOSE_S)
        self._pool.shutdown(cancel_futures=True)
        self._portal.call(self._portal.stop, True)
        self._exit.close()
        self._engine = None

    # preparing

    def _prepare(self, request: Request) -> Prepared:
        """Return what is sent for a request. Raises what is wrong with it: bad frames, too many tokens."""
        prompt = self._chat.prompt(request, self._max_model_len, hint=", or raise vllm_kwargs.max_model_len")
        inputs: dict[str, Any] = {"prompt_token_ids": prompt.ids}
        if request.frames is None or self._family is None:
            return Prepared(prompt, inputs)
        digest = frames_digest(request.frames)
        name = self._other_names.get(digest, digest)
        visual = self._visual_input(self._family, request.frames)
        return Prepared(prompt, _named({**inputs, **visual}, name), digest, name)

    def _visual_input(self, family: Family, frames: PackedFrames) -> dict[str, Any]:
        pixels: Any = decode_frames(frames)
        if self._spec.engine.preprocess_dtype != "uint8":  # another type; values stay 0 to 255
            import torch

            pixels = torch.from_numpy(pixels).to(getattr(torch, self._spec.engine.preprocess_dtype))
        options = family.processor_options(FrameShape.of(frames))
        extra: dict[str, Any] = {"mm_processor_kwargs": options} if options else {}
        if family.frames_as == "images":
            from PIL import Image

            return {"multi_modal_data": {"image": [Image.fromarray(picture) for picture in pixels]}, **extra}
        return {"multi_modal_data": {"video": [(pixels, frames_metadata(frames))]}, **extra}

    # generating, on the engine's loop

    async def _serve(self, request: Request, reply: Reply) -> None:
        try:
            prepared = await asyncio.get_running_loop().run_in_executor(self._pool, self._prepare, request)
            rendered = await self._render(prepared.inputs, len(request.seeds))
        except Exception as error:
            reason = self._reason(error)
            for index in range(len(request.seeds)):
                reply(Completion.failed(request.request_id, index, reason))
            return
        tokens = len(rendered[0]["prompt_token_ids"])
        self._tokens_a_request = _recent_mean(self._tokens_a_request, tokens + len(request.seeds) * request.max_tokens)
        self._bytes_a_request = _recent_mean(self._bytes_a_request, _processed_bytes(request.frames))
        place: AbstractAsyncContextManager[None] = nullcontext()
        if self._room is not None and prepared.frames is not None:
            place = self._room.hold(prepared.frames, tokens, len(rendered))
        async with place:
            await asyncio.gather(
                *(self._candidate(request, index, prepared, prompt, reply) for index, prompt in enumerate(rendered))
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

    async def _candidate(
        self, request: Request, index: int, prepared: Prepared, rendered: dict[str, Any], reply: Reply
    ) -> None:
        started = time.perf_counter()
        try:
            params = sampling_params(request.sampling, request.seeds[index], request.max_tokens)
            name = f"{request.request_id}/{index}"
            final = await self._generate(rendered, params, name)
            if final.outputs[0].finish_reason == "error" and prepared.frames is not None:
                # The two sides of vLLM's cache of processed frames had come to differ, in 0.25 for good.
                (again,) = await self._render(self._under_another_name(prepared))
                final = await self._generate(again, params, name)
                # 0.25 wrote that down as an error, which is not what a later death will be of.
                self._errors.write_text("")
            made = _completion(request, index, final, prepared, time.perf_counter() - started)
        except Exception as error:
            made = Completion.failed(request.request_id, index, self._reason(error))
        reply(made)

    def _under_another_name(self, prepared: Prepared) -> dict[str, Any]:
        """Return a prompt whose frames no cache knows, so that they are sent again: once for all who ask for them."""
        digest = str(prepared.frames)
        if self._other_names.get(digest, digest) == prepared.frames_name:  # no other candidate was here before
            self._other_names[digest] = f"{digest}/{next(self._numbers)}"
        return _named(prepared.inputs, self._other_names[digest])

    async def _generate(self, rendered: dict[str, Any], params: Any, name: str) -> Any:
        outputs = self._engine.generate({**rendered}, params, f"{name}/{next(self._numbers)}")
        return [output async for output in outputs][-1]  # the only one: see `sampling_params`

    def _reason(self, error: Exception) -> str:
        """Return what is wrong with a request.

        Raises:
            EngineDied: it is the engine that is wrong.
        """
        if self._engine is None or self._engine.errored or type(error).__name__ == "EngineDeadError":
            raise EngineDied(f"vLLM stopped: {self._cause(error)}") from error
        reason = error.__cause__ if type(error).__name__ == "EngineGenerateError" and error.__cause__ else error
        text = str(reason).strip() or type(reason).__name__
        return text if isinstance(reason, ValueError) else f"{type(reason).__name__}: {text}"

    # the engine itself

    def _read_engine(self, path: Path, *, on_cpu: bool) -> None:
        config = self._engine.vllm_config
        multimodal = config.model_config.multimodal_config
        self._keeps_processed = multimodal is not None and multimodal.mm_processor_cache_gb > 0
        self._room = EncoderRoom(int(config.scheduler_config.max_num_batched_tokens)) if on_cpu else None
        self._max_model_len = int(config.model_config.max_model_len)
        blocks, block = config.cache_config.num_gpu_blocks or 0, config.cache_config.block_size or 0
        self._cached_tokens = blocks * block
        self._most_sequences = int(config.scheduler_config.max_num_seqs)
        self._chat = ChatTemplate(self._engine.renderer.get_tokenizer(), read_chat_template(path), self._family)
        if isinstance(self._family, QwenVL) and self._spec.purpose == "caption":
            self._family = self._chat.family = self._tried_out(self._family)

    def _tried_out(self, family: QwenVL) -> QwenVL:
        """Return the family as this version of vLLM treats it, found by processing a small black video.

        Versions differ in whether the chat template's markers stay around a video, and old ones do not tell
        Qwen2.5-VL how far apart its frames are.
        """
        frames, black, shape = probe_video(family)
        prompt = {
            "prompt_token_ids": self._chat.token_ids(family.placeholder),
            "multi_modal_data": {"video": [(black, frames_metadata(frames))]},
            "mm_processor_kwargs": family.processor_options(shape),
        }
        (rendered,) = self._portal.call(self._render, prompt)
        field = rendered["mm_kwargs"]["video"][0].get("second_per_grid_ts")
        if field is not None and abs(float(field.data) - PROBE_PAIR_S) > 0.01:
            log.warning(
                "vLLM %s tells %s that pairs of frames are %.2f s apart, where they are %.2f; use vLLM 0.32 or newer",
                installed_version(), self._spec.model, float(field.data), PROBE_PAIR_S,
            )  # fmt: skip
        kept = family.prompt_tokens(family.placeholder, shape, frames.times_s, self._chat.count)
        return replace(family, keeps_markers=len(rendered["prompt_token_ids"]) == kept)

    def _cause(self, error: BaseException) -> str:
        """Return why the engine ended: the first exception that its processes wrote down, else what was raised."""
        if (root := root_cause(self._errors.read_text(encoding="utf-8", errors="replace"))) is not None:
            return root
        codes = [process.exitcode for process in self._processes if process.exitcode]
        if codes and not any(process.is_alive() for process in self._processes):
            signal = f"by signal {-codes[0]}" if codes[0] < 0 else f"with exit status {codes[0]}"
            return f"its process ended {signal}"
        return str(error).strip() or type(error).__name__


def _completion(request: Request, index: int, output: Any, prepared: Prepared, seconds: float) -> Completion:
    made = output.outputs[0]
    text, reasoning = split_reasoning(made.text, opened_in_prompt=prepared.prompt.opens_thought)
    completion = Completion(
        request.request_id,
        index,
        text,
        "length" if made.finish_reason == "length" else "stop",
        prompt_tokens=len(output.prompt_token_ids),
        output_tokens=len(made.token_ids),
        latency_ms=round(1000 * seconds, 3),
        reasoning=reasoning,
        expected_prompt_tokens=prepared.prompt.expected_tokens,
    )
    if made.finish_reason in ("stop", "length", "repetition"):
        return completion
    return replace(completion, text="", finish_reason="error", error=f"vLLM ended the request: {made.finish_reason}")


def frames_metadata(frames: PackedFrames) -> dict[str, Any]:
    """Return what vLLM and the model's processor are told about a window's frames: above all, their times."""
    return {**video_metadata(frames), "do_sample_frames": False}


def _named(prompt: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a prompt with a name for each video or image, under which the engine caches what it makes of them."""
    items: Mapping[str, Sequence[object]] = prompt["multi_modal_data"]
    return {**prompt, "multi_modal_uuids": {kind: [f"{name}.{at}" for at in range(len(items[kind]))] for kind in items}}


def _processed_bytes(frames: PackedFrames | None) -> int:
    """Return the size of processed frames: three colours of two bytes a pixel."""
    return 6 * len(frames.jpegs) * frames.height * frames.width if frames is not None else 0


def _recent_mean(mean: float, value: float) -> float:
    """Return a mean in which about the last ten values count; 0 stands for no mean yet."""
    return 0.9 * mean + 0.1 * value if mean else value


def _start(arguments: Any) -> Any:
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    # vLLM chooses batch sizes for throughput where its class LLM is used, and for answering soon elsewhere.
    return AsyncLLM.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)
