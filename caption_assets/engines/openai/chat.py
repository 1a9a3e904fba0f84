"""Chat bodies for OpenAI-compatible servers, and what their answers mean. No input or output here.

Frames travel as the packed JPEGs, never decoded on the way, in one of two forms:

video: one `video_url` part, `data:video/jpeg;base64,<frame>,<frame>,...`, which vLLM reads as a video. The true times
    of the frames go along in `media_io_kwargs.video`; `num_frames` is -1 because a server takes 32 frames otherwise.
    vLLM 0.31 and later accepts these fields only when it was started with `--trust-request-mm-kwargs`.
images: one `image_url` part per frame, each after its time in words, which every vision server reads.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from caption_assets.engines.families import video_clock
from caption_assets.engines.protocol import Completion, Message, PackedFrames, Request
from caption_assets.engines.reasoning import split_reasoning

STOPPED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "repetition")
CUT = ("length", "max_tokens", "max_output_tokens")
FILTERED = ("content_filter", "safety", "recitation", "refusal")
BODY_NAMES = {"extra_args": "vllm_xargs"}
"""Sampling fields that servers know by another name."""
WORDS_SHOWN = 400
"""Longest excerpt of a server's answer in a message, in characters."""


class Nonsense(ValueError):
    """An answer with status 200 that holds no completion. Another attempt may help."""


@dataclass(frozen=True)
class Dialect:
    """How the servers are addressed.

    vllm: they run vLLM and accept fields that others refuse.
    frames_as: see the module.
    limit_field: their name for the longest answer.
    """

    vllm: bool = False
    frames_as: Literal["video", "images"] = "images"
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"

    def after_refusal(self, words: str) -> "Dialect | None":
        """Return the dialect that a server's refusal asks for, None if it asks for none."""
        if self.limit_field == "max_tokens" and "max_completion_tokens" in words:
            return replace(self, limit_field="max_completion_tokens")
        if self.frames_as == "video" and "--trust-request-mm-kwargs" in words:
            return replace(self, frames_as="images")
        return None


def body_without_seed(request: Request, model: str, dialect: Dialect, *, resize: bool) -> bytes:
    """Return the JSON body of a request up to the seed, which `seed_end` adds.

    Frames make up nearly all of it, so the candidates of a request share it. `resize` leaves the size of the frames to
    the server's processor; otherwise a video keeps the size at which it was packed.
    """
    body: dict[str, object] = {
        "model": model,
        "messages": [_message(message, request.frames, dialect) for message in request.messages],
        dialect.limit_field: request.max_tokens,
        "stream": False,
        "n": 1,
        **{BODY_NAMES.get(name, name): value for name, value in request.sampling.items()},
    }
    if dialect.vllm:
        body["chat_template_kwargs"] = {"enable_thinking": False}
    if request.frames is not None and dialect.frames_as == "video":
        body["media_io_kwargs"] = {"video": _times(request.frames)}
        if not resize:
            body["mm_processor_kwargs"] = {"do_resize": False}
    return json.dumps(body, separators=(",", ":")).encode()[:-1]


def seed_end(seed: int) -> bytes:
    """Return the end of a body: the seed and the closing brace."""
    return f',"seed":{seed}}}'.encode()


def read_completion(payload: bytes) -> Completion:
    """Return the completion in a server's answer with status 200. Its request_id is left empty.

    Raises:
        Nonsense: the answer holds no usable completion; the message says why.
    """
    try:
        answer = json.loads(payload)
        choice = answer["choices"][0]
        finish = choice["finish_reason"].lower()
        content, refusal, *reasonings = _texts(choice["message"])
    except (ValueError, TypeError, LookupError, AttributeError):
        raise Nonsense(f"no completion in {_excerpt(payload)}") from None
    if finish not in (*STOPPED, *CUT, *FILTERED):
        raise Nonsense(f"unknown finish_reason in {_excerpt(payload)}")
    content, thought = split_reasoning(content)
    usage = answer.get("usage")
    return Completion(
        request_id="",
        sample_index=0,
        text=content or refusal,
        finish_reason="length" if finish in CUT else "stop",
        prompt_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        reasoning=next(filter(None, reasonings), thought),
        refusal=finish in FILTERED or bool(refusal),
    )


def words_of_refusal(payload: bytes) -> str:
    """Return the message in a server's error, or the start of the answer if it has none."""
    try:
        words = json.loads(payload)["error"]["message"].strip()
    except (ValueError, TypeError, LookupError, AttributeError):
        words = ""
    return words[:WORDS_SHOWN] or _excerpt(payload)


def vllm_models(payload: bytes) -> list[str] | None:
    """Return the models that an answer to `/models` lists, None unless a vLLM server gave it."""
    try:
        entries = json.loads(payload)["data"]
        models = [str(entry["id"]) for entry in entries]
        is_vllm = any(entry["owned_by"] == "vllm" for entry in entries)
    except (ValueError, TypeError, KeyError):
        return None
    return models if is_vllm else None


def _message(message: Message, frames: PackedFrames | None, dialect: Dialect) -> dict[str, object]:
    if not message.with_video or frames is None:
        return {"role": message.role, "content": message.text}
    shown = _video(frames) if dialect.frames_as == "video" else list(_images(frames))
    return {"role": message.role, "content": [*shown, {"type": "text", "text": message.text}]}


def _video(frames: PackedFrames) -> list[dict[str, object]]:
    packed = ",".join(base64.b64encode(jpeg).decode() for jpeg in frames.jpegs)
    return [{"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{packed}"}}]


def _times(frames: PackedFrames) -> dict[str, object]:
    clock = video_clock(frames.times_s)
    return {
        "num_frames": -1,
        "fps": clock.fps,
        "frames_indices": list(clock.indices),
        "total_num_frames": max(clock.total, len(clock.indices)),
        "duration": clock.total / clock.fps,
        "do_sample_frames": False,
    }


def _images(frames: PackedFrames) -> Iterator[dict[str, object]]:
    for jpeg, time in zip(frames.jpegs, frames.times_s, strict=True):
        yield {"type": "text", "text": f"<{time:.1f} seconds>"}
        yield {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"}}


def _texts(message: Mapping[str, Any]) -> list[str]:
    """Return content, refusal and the two places for reasoning, "" where a server says nothing.

    Raises:
        TypeError, LookupError, AttributeError: one of them is no text.
    """
    content, *others = [message.get(name) or "" for name in ("content", "refusal", "reasoning_content", "reasoning")]
    if isinstance(content, list):  # some servers answer in parts
        content = "".join(part["text"] for part in content if part["type"] == "text")
    if not all(isinstance(text, str) for text in (content, *others)):
        raise TypeError
    return [content, *others]


def _count(usage: object, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _excerpt(payload: bytes) -> str:
    text = payload[: 4 * WORDS_SHOWN].decode(errors="replace").strip()
    return text[:WORDS_SHOWN] or "an empty answer"
