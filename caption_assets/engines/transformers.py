"""Hugging Face Transformers in this process: for machines and models that vLLM does not run.

One candidate is generated at a time, by itself, with the random numbers of its own seed: what else is asked never
changes a text, so that a candidate made again alone is the same to the letter on the same machine. While the model
generates, a thread reads the next windows' frames and runs the processor on them. For many captions a minute, vLLM is
the engine.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from caption_assets.engines.chat_template import ChatTemplate, Prompt, check_length, read_chat_template
from caption_assets.engines.devices import has_cuda
from caption_assets.engines.families import Family, FrameShape, QwenVL, context_length, family_of
from caption_assets.engines.frames import decode_frames, probe_video, video_metadata
from caption_assets.engines.protocol import (
    Completion,
    EngineDied,
    EngineIdentity,
    EngineSpec,
    EngineUnavailable,
    FinishReason,
    PackedFrames,
    Reply,
    Request,
)
from caption_assets.engines.reasoning import split_reasoning
from caption_assets.engines.weights import fetch, locate

CODE_VERSION = "1"  # bumped by hand whenever the same request may get another text from the same release
INSTALL = "pip install 'caption_assets[transformers]'"
PACKAGES = ("torch", "torchvision", "transformers")
PREPARED = 3  # requests in flight: one that is generated, one ready, one in preparation

FIELDS: Mapping[str, str] = {
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "min_tokens": "min_new_tokens",
}
"""Sampling fields that `generate` has under a name of its own."""
OWN_FIELDS = ("temperature", "presence_penalty", "frequency_penalty", "stop", "ignore_eos")
NEUTRAL: Mapping[str, object] = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "min_tokens": 0}
"""What a field that is not set means, for every model: a model's own defaults for chats are not looked at."""


class UnknownField(ValueError):
    """A sampling field, or a value of one, that this engine does not have. The message lists those it has."""


@dataclass(frozen=True)
class Prepared:
    """A request as the model takes it."""

    prompt: Prompt
    inputs: Mapping[str, Any]


def identify(spec: EngineSpec) -> EngineIdentity:
    """Return the identity of what `spec` loads, without loading it or importing Transformers.

    Raises:
        EngineUnavailable: Transformers is not installed, or a setting asks for what it does not do.
        WeightsError: the model cannot be found.
    """
    _check(spec)
    model = locate(spec)
    options = spec.options("preprocess_dtype", "model_does_preprocess")
    release = f"{version('transformers')}+{CODE_VERSION}"
    return EngineIdentity("transformers", release, model.id, model.revision, options)


def missing() -> str | None:
    """Return what is missing for this engine and how to install it, None where all is there. Imports nothing."""
    needed = (*PACKAGES, "accelerate") if has_cuda() else PACKAGES  # it places weights on GPUs
    absent = [name for name in needed if find_spec(name) is None]
    return f"{', '.join(absent)} not installed; {INSTALL}" if absent else None


class TransformersEngine:
    """An `Engine` on a model and its processor from Transformers, on CUDA where it is there, else on the CPU.

    Raises:
        EngineUnavailable: as `identify`, or Transformers cannot load the model.
        WeightsError: the weights cannot be had.
    """

    def __init__(self, spec: EngineSpec) -> None:
        _check(spec)
        path = fetch(spec)
        self._spec = spec
        self._family = family_of(path, resize=spec.engine.model_does_preprocess)
        self._model: Any = None
        try:
            self._load(path)
        except (ImportError, OSError, ValueError, KeyError) as error:
            raise EngineUnavailable(f"{spec.model}: Transformers cannot load it: {error}") from error
        except RuntimeError as error:
            if _is_out_of_memory(error):
                raise EngineDied(f"out of memory while {spec.model} was loaded: {error}") from error
            raise
        self._max_len = context_length(path)
        self._closed = threading.Event()
        self._preparing, self._generating = ThreadPoolExecutor(1, "prepare"), ThreadPoolExecutor(1, "generate")

    @property
    def capacity(self) -> int:
        """How many requests keep both threads busy."""
        return min(PREPARED, self._spec.stage.max_in_flight or PREPARED)

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        """Begin to answer a request. Requests are answered in their order, and candidates in that of their seeds."""
        if self._closed.is_set():
            raise EngineDied("the engine is closed")
        done: Future[None] = Future()
        prepared = self._preparing.submit(self._prepare, request)
        # Closing drops what waits for the thread: then this is all that ends the request.
        self._generating.submit(self._work, request, prepared, reply, done).add_done_callback(lambda _: done.cancel())
        return done

    def close(self) -> None:
        """Stop generating, and free the model and what it holds on the device."""
        self._closed.set()
        for pool in (self._preparing, self._generating):
            pool.shutdown(cancel_futures=True)
        self._model = None
        if self._torch.cuda.is_available():
            self._torch.cuda.empty_cache()

    # loading

    def _load(self, path: Path) -> None:
        import torch
        import transformers

        self._torch, self._transformers = torch, transformers
        self._processor: Any = transformers.AutoProcessor.from_pretrained(path) if self._family else None
        tokenizer = getattr(self._processor, "tokenizer", None)
        self._tokenizer: Any = tokenizer or transformers.AutoTokenizer.from_pretrained(path)
        self._chat = ChatTemplate(self._tokenizer, read_chat_template(path) or _template(self._tokenizer), self._family)
        kind = transformers.AutoModelForImageTextToText if self._family else transformers.AutoModelForCausalLM
        place: dict[str, Any] = {"device_map": "auto"} if torch.cuda.is_available() else {}
        self._model = kind.from_pretrained(path, dtype="auto", **place).eval()
        self._ends = _token_ids(self._model.generation_config.eos_token_id) or _token_ids(self._tokenizer.eos_token_id)
        padding = self._model.generation_config.pad_token_id
        self._padding = padding if padding is not None else next(iter(self._ends), 0)
        # Models come with sampling defaults for chats, which would fill in for fields that are not set.
        self._model.generation_config = transformers.GenerationConfig(pad_token_id=self._padding)
        if isinstance(self._family, QwenVL) and self._family.prints_times:
            self._family = replace(self._family, keeps_markers=self._keeps_markers(self._family))
            self._chat.family = self._family

    def _keeps_markers(self, family: QwenVL) -> bool:
        """Tell whether this release leaves the chat template's markers around a video, by processing a black one."""
        frames, black, shape = probe_video(family)
        inputs = self._processed(family, family.placeholder, frames, black)
        kept = family.prompt_tokens(family.placeholder, shape, frames.times_s, self._chat.count)
        return int(inputs["input_ids"].shape[-1]) == kept

    # preparing, on the pool's thread

    def _prepare(self, request: Request) -> Prepared:
        """Return what the model is given. Raises ValueError for what is wrong with the request."""
        prompt = self._chat.prompt(request, self._max_len)
        if request.frames is None or self._family is None:
            inputs = self._tokenizer(prompt.text, return_tensors="pt", add_special_tokens=False)
        else:
            inputs = self._processed(self._family, prompt.text, request.frames, decode_frames(request.frames))
            check_length(request, int(inputs["input_ids"].shape[-1]), len(prompt.ids), self._max_len)
        return Prepared(prompt, dict(inputs))

    def _processed(self, family: Family, text: str, frames: PackedFrames, pixels: Any) -> Mapping[str, Any]:
        """Run the model's processor on a prompt and its frames, at their own size and with their true times."""
        pictures = self._torch.from_numpy(pixels).permute(0, 3, 1, 2)
        if self._spec.engine.preprocess_dtype != "uint8":
            pictures = pictures.to(getattr(self._torch, self._spec.engine.preprocess_dtype))
        options = family.processor_options(FrameShape.of(frames))
        if family.frames_as == "images":
            given: dict[str, Any] = {"images": [list(pictures)], "images_kwargs": options}
        else:
            metadata = self._transformers.video_utils.VideoMetadata(**video_metadata(frames))
            given = {
                "videos": [pictures],
                "videos_kwargs": {**options, "video_metadata": [metadata], "do_sample_frames": False},
            }
        processed: Mapping[str, Any] = self._processor(
            text=[text], return_tensors="pt", text_kwargs={"add_special_tokens": False}, **given
        )
        return processed

    # generating, on the thread of that name

    def _work(self, request: Request, prepared: Future[Prepared], reply: Reply, done: Future[None]) -> None:
        """Make the candidates of a request until it is done or given up."""
        fault: EngineDied | None = None
        for index in range(len(request.seeds)):
            if done.cancelled():
                return
            try:
                reply(self._candidate(request, index, prepared.result(), done))
            except Exception as error:
                if (fault := self._death_of(error)) is not None:
                    break
                message = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                reply(Completion.failed(request.request_id, index, message))
        with suppress(InvalidStateError):  # given up meanwhile
            done.set_exception(fault) if fault else done.set_result(None)

    def _death_of(self, error: Exception) -> EngineDied | None:
        """Return what ended the engine where the device is of no more use, None where an error costs one candidate."""
        if self._closed.is_set():
            return EngineDied("the engine was closed")
        if _is_out_of_memory(error):
            return EngineDied(f"out of memory: {error}")
        if "CUDA error" in str(error):  # after an assertion on the device every later call fails
            return EngineDied(f"the device gave up: {error}")
        return None

    def _candidate(self, request: Request, index: int, prepared: Prepared, done: Future[None]) -> Completion:
        started = time.perf_counter()
        settings = self._generation(request)
        inputs = {name: self._placed(name, value) for name, value in prepared.inputs.items()}
        length = int(inputs["input_ids"].shape[-1])
        stops = self._stops(request)
        extra = {
            "logits_processor": self._penalties(request, length),
            "stopping_criteria": self._stopping(stops, length, done),
        }
        with self._torch.random.fork_rng(self._devices()), self._torch.inference_mode():
            self._torch.manual_seed(request.seeds[index])
            made = self._model.generate(**inputs, generation_config=settings, **extra)
        if self._closed.is_set():
            raise EngineDied("the engine was closed")
        tokens = made[0, length:].tolist()
        text, finish = self._read(tokens, request, stops)
        answer, reasoning = split_reasoning(text, opened_in_prompt=prepared.prompt.opens_thought)
        return Completion(
            request.request_id,
            index,
            answer,
            finish,
            prompt_tokens=length,
            output_tokens=len(tokens),
            latency_ms=round(1000 * (time.perf_counter() - started), 3),
            reasoning=reasoning,
            expected_prompt_tokens=prepared.prompt.expected_tokens,
        )

    def _placed(self, name: str, value: Any) -> Any:
        """Return an input where the model is, pixels in its type."""
        if not hasattr(value, "to"):
            return value
        return value.to(self._model.device, self._model.dtype if name.startswith("pixel_values") else None)

    def _generation(self, request: Request) -> Any:
        """Return the GenerationConfig of a request. Fields that are not set are neutral.

        Raises:
            UnknownField: a field that this engine does not have.
        """
        unknown = [name for name in request.sampling if name not in FIELDS and name not in OWN_FIELDS]
        if unknown:
            raise UnknownField(
                f"sampling_params: the engine transformers has no {', '.join(unknown)}; it has "
                f"{', '.join(sorted({*FIELDS, *OWN_FIELDS}))}"
            )
        values: dict[str, Any] = {FIELDS[name]: request.sampling.get(name, value) for name, value in NEUTRAL.items()}
        values["top_k"] = max(0, values["top_k"])  # -1 and 0 both stand for all
        temperature = _number(request, "temperature", 1.0)
        if temperature == 0:
            values = {name: values[name] for name in ("repetition_penalty", "min_new_tokens")}
        else:
            values["temperature"] = temperature
        ends = None if request.sampling.get("ignore_eos") else sorted(self._ends)
        return self._transformers.GenerationConfig(
            do_sample=temperature > 0,
            max_new_tokens=request.max_tokens,
            eos_token_id=ends,
            pad_token_id=self._padding,
            **values,
        )

    def _penalties(self, request: Request, length: int) -> Any:
        """Return the penalties that `generate` does not know: by presence and frequency in the answer so far."""
        presence, frequency = _number(request, "presence_penalty", 0.0), _number(request, "frequency_penalty", 0.0)
        processors = self._transformers.LogitsProcessorList()
        if not presence and not frequency:
            return processors

        def penalize(ids: Any, scores: Any) -> Any:
            counts = self._torch.zeros_like(scores).scatter_add_(
                1, ids[:, length:], self._torch.ones_like(ids[:, length:], dtype=scores.dtype)
            )
            return scores - presence * (counts > 0) - frequency * counts

        processors.append(_Processor(penalize))
        return processors

    def _stopping(self, stops: list[str], length: int, done: Future[None]) -> Any:
        """Return when to stop beside the end token: at a stop text, or when the request or the engine is given up."""

        def stop(ids: Any, scores: Any, **_: Any) -> Any:
            del scores
            found = bool(stops) and any(stop in self._text(ids[0, length:].tolist()) for stop in stops)
            over = found or done.cancelled() or self._closed.is_set()
            return self._torch.full((ids.shape[0],), over, dtype=bool, device=ids.device)

        return self._transformers.StoppingCriteriaList([stop])

    def _stops(self, request: Request) -> list[str]:
        value = request.sampling.get("stop")
        listed = [value] if isinstance(value, str) else list(value or ())  # type: ignore[call-overload]
        return [str(text) for text in listed if text]

    def _read(self, tokens: list[int], request: Request, stops: list[str]) -> tuple[str, FinishReason]:
        """Return the text up to its end or a stop text, and why it ended."""
        text = self._text(tokens)
        if found := [text.index(stop) for stop in stops if stop in text]:
            return text[: min(found)], "stop"
        ended = bool(tokens) and tokens[-1] in self._ends and not request.sampling.get("ignore_eos")
        return text, "stop" if ended else "length"

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _devices(self) -> list[int]:
        return list(range(self._torch.cuda.device_count()))


def _number(request: Request, name: str, neutral: float) -> float:
    value = request.sampling.get(name, neutral)
    if not isinstance(value, int | float):
        raise UnknownField(f"sampling_params.{name}: must be a number (it is {value!r})")
    return value


class _Processor:
    """A logits processor made of a function."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self._function = function

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        return self._function(input_ids, scores)


def _check(spec: EngineSpec) -> None:
    if (reason := missing()) is not None:
        raise EngineUnavailable(f"engine transformers: {reason}")
    if spec.stage.fp8:
        raise EngineUnavailable(
            "fp8: the engine transformers runs weights as they are; use vllm or a checkpoint in fp8"
        )
    if spec.stage.vllm_kwargs:
        raise EngineUnavailable(
            f"vllm_kwargs ({', '.join(spec.stage.vllm_kwargs)}) are fields of vLLM, and the engine transformers has no "
            "such fields: take them out"
        )


def _template(tokenizer: Any) -> str | None:
    template = getattr(tokenizer, "chat_template", None)
    return template if isinstance(template, str) else None


def _token_ids(value: object) -> frozenset[int]:
    if isinstance(value, int):
        return frozenset([value])
    return frozenset(value) if isinstance(value, list | tuple) else frozenset()


def _is_out_of_memory(error: BaseException) -> bool:
    said = str(error)
    known = type(error).__name__ in ("OutOfMemoryError", "MemoryError")
    return known or "out of memory" in said or "can't allocate memory" in said
