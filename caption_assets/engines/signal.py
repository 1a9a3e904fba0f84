"""The embedded captioning engine: measures pixels and says what it measured. No model, no GPU, no download.

It cannot see objects and never names one. What it reads is in `measure`, how it says it in `wording`.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future

from caption_assets.engines.frames import frames_digest
from caption_assets.engines.measure import UnreadableFrameError, WindowMeasurements, measure_window
from caption_assets.engines.protocol import DONE, Completion, EngineIdentity, PackedFrames, Reply, Request
from caption_assets.engines.wording import describe, enhance, refine

MODEL_ID = "caption-assets/signal"
CODE_VERSION = "1"  # bumped by hand whenever the same frames and seed may give another text
CACHED_WINDOWS = 1024  # stages run one after the other over a whole batch; measurements are a few kB


class SignalEngine:
    """An `Engine` that answers a request while it is submitted, its candidates in the order of their seeds.

    Only `purpose`, `frames`, `seeds`, `max_tokens` and, for "refine", the first caption among the messages matter:
    prompts and `sampling` (temperature and all other fields) are ignored, the seed alone draws the wording.
    Tokens are whitespace-separated words: `prompt_tokens` counts those of all messages plus one per frame,
    `output_tokens` those of the text, and `max_tokens` cuts after that many.
    `latency_ms` of a request's first candidate includes the measuring.
    """

    capacity = 1

    def __init__(self) -> None:
        self._measured: OrderedDict[str, WindowMeasurements] = OrderedDict()

    @staticmethod
    def identity() -> EngineIdentity:
        """Return what goes into a recipe."""
        return EngineIdentity("signal", CODE_VERSION, MODEL_ID, CODE_VERSION)

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        """Reply `request`."""
        for completion in self._answers(request):
            reply(completion)
        return DONE

    def close(self) -> None:
        """Forget the measured windows."""
        self._measured.clear()

    def _answers(self, request: Request) -> Iterator[Completion]:
        prompt_tokens = _words_of_messages(request) + (len(request.frames.jpegs) if request.frames else 0)
        started = time.perf_counter()
        try:
            measured = self._measure(request.frames)
        except UnreadableFrameError as error:
            for index in range(len(request.seeds)):
                yield Completion(
                    request.request_id, index, "", "error", prompt_tokens, 0, _ms_since(started), error=str(error)
                )
            return
        for index, seed in enumerate(request.seeds):
            words = _text(request, measured, seed).split()
            cut = len(words) > request.max_tokens
            text = " ".join(words[: max(0, request.max_tokens)])
            yield Completion(
                request.request_id,
                index,
                text,
                "length" if cut else "stop",
                prompt_tokens,
                len(text.split()),
                _ms_since(started),
            )
            started = time.perf_counter()

    def _measure(self, frames: PackedFrames | None) -> WindowMeasurements:
        if frames is None:
            raise UnreadableFrameError("the signal engine reads pixels: a request needs frames")
        key = frames_digest(frames)
        if key in self._measured:
            self._measured.move_to_end(key)
            return self._measured[key]
        measured = measure_window(frames)
        self._measured[key] = measured
        if len(self._measured) > CACHED_WINDOWS:
            self._measured.popitem(last=False)
        return measured


def _text(request: Request, measured: WindowMeasurements, seed: int) -> str:
    if request.purpose == "caption":
        return describe(measured, seed)
    if request.purpose == "refine":
        return refine(measured, _first_caption(request), seed)
    return enhance(measured, seed)


def _first_caption(request: Request) -> str:
    """Return the last assistant message, or without one the text of the last user message."""
    for role in ("assistant", "user"):
        for message in reversed(request.messages):
            if message.role == role:
                return message.text
    return ""


def _words_of_messages(request: Request) -> int:
    return sum(len(message.text.split()) for message in request.messages)


def _ms_since(started: float) -> float:
    return round(1000 * (time.perf_counter() - started), 3)
