"""Chat bodies for OpenAI-compatible servers, and what their answers mean. No input or output here.

Frames travel as the JPEGs that were packed, never decoded on the way, in one of two forms:

video: one `video_url` part, `data:video/jpeg;base64,<frame>,<frame>,...`, the form that vLLM reads as a video.
    The frames' true times go along as `media_io_kwargs.video`, as they do to vLLM in this process, and `num_frames` is
    -1, since a server takes only the first 32 frames otherwise.
    From vLLM 0.31 on such fields are taken only by servers started with `--trust-request-mm-kwargs`.
images: each frame an `image_url` part after its time in words, which every server with vision reads.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from caption_assets.engines.families import video_clock
from caption_assets.engines.protocol import FinishReason, Message, PackedFrames, Request
from caption_assets.engines.reasoning import split_reasoning

STOPPED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "repetition")
CUT = ("length", "max_tokens", "max_output_tokens")
FILTERED = ("content_filter", "safety", "recitation", "refusal")
BODY_NAMES = {"extra_args": "vllm_xargs"}  # sampling fields that servers know by another name
WORDS_SHOWN = 400  # characters of a server's own words in a message


class Nonsense(ValueError):
    """An answer that is none: not JSON, no choice, a field of the wrong type. Asking again may help."""


@dataclass(frozen=True)
class Dialect:
    """How a server is spoken to.

    vllm: it is vLLM, and takes fields that others refuse.
    frames_as: see the module.
    limit_field: its name for the longest answer.
    own_size: frames keep the size at which they were packed; False lets the server's processor choose again.
    """

    vllm: bool = False
    frames_as: Literal["video", "images"] = "images"
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    own_size: bool = True

    def after_refusal(self, words: str) -> "Dialect | None":
        """Return the dialect that a server asks for when it refuses a body, None where it asks for none."""
        if self.limit_field == "max_tokens" and "max_completion_tokens" in words:
            return replace(self, limit_field="max_completion_tokens")
        if self.frames_as == "video" and "--trust-request-mm-kwargs" in words:
            return replace(self, frames_as="images")
        return None


@dataclass(frozen=True)
class Answer:
    """What a server said to one body. reasoning is None where there was none."""

    text: str
    finish_reason: FinishReason
    refusal: bool
    reasoning: str | None
    prompt_tokens: int | None
    output_tokens: int | None


def body_without_seed(request: Request, model: str, dialect: Dialect) -> bytes:
    """Return the JSON body of a request, all but its end: `seed_end` closes it.

    The frames make nearly all of it, so all candidates of a request share it.
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
        body["chat_template_kwargs"] = {"enable_thinking": False}  # a caption is wanted, not the way to it
    if request.frames is not None and dialect.frames_as == "video":
        body["media_io_kwargs"] = {"video": _times(request.frames)}
        if dialect.own_size:
            body["mm_processor_kwargs"] = {"do_resize": False}
    return json.dumps(body, separators=(",", ":")).encode()[:-1]


def seed_end(seed: int) -> bytes:
    """Return the rest of a body: the seed and the closing brace."""
    return f',"seed":{seed}}}'.encode()


def read_answer(payload: bytes) -> Answer:
    """Return what a server's answer with status 200 says.

    Raises:
        Nonsense: it does not say anything that can be used; the message says why.
    """
    whole = _object(_json(payload), "the answer")
    choices = whole.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Nonsense(f"no choices in {_shown(payload)}")
    choice = _object(choices[0], "the choice")
    message = _object(choice.get("message"), "the message")
    refusal = _text(message, "refusal")
    finish, filtered = _finish(choice.get("finish_reason"))
    content, thought = split_reasoning(_content(message))
    reasoning = _text(message, "reasoning_content") or _text(message, "reasoning") or thought
    usage = whole.get("usage")
    counts: Mapping[str, object] = usage if isinstance(usage, dict) else {}
    return Answer(
        text=content or refusal or "",
        finish_reason=finish,
        refusal=filtered or bool(refusal),
        reasoning=reasoning or None,
        prompt_tokens=_count(counts, "prompt_tokens"),
        output_tokens=_count(counts, "completion_tokens"),
    )


def words_of_refusal(payload: bytes) -> str:
    """Return a server's own words in an answer that is not a 200: its message where it has one, else its text."""
    try:
        whole = json.loads(payload)
    except ValueError:
        return _shown(payload)
    for part in _parts_of_error(whole):
        if isinstance(part, str) and part.strip():
            return part.strip()[:WORDS_SHOWN]
    return _shown(payload)


def is_vllm(models: object, version: object) -> bool:
    """Tell from the answers to `/v1/models` and `/version` (None where there was none) whether vLLM serves there."""
    listed = models.get("data") if isinstance(models, dict) else None
    if isinstance(listed, list) and any(isinstance(entry, dict) and entry.get("owned_by") for entry in listed):
        return any(isinstance(entry, dict) and entry.get("owned_by") == "vllm" for entry in listed)
    return isinstance(version, dict) and isinstance(version.get("version"), str)


def models_served(models: object) -> list[str]:
    """Return the model ids in an answer to `/v1/models`."""
    listed = models.get("data") if isinstance(models, dict) else None
    entries = listed if isinstance(listed, list) else []
    return [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]


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


def _json(payload: bytes) -> object:
    try:
        return json.loads(payload)
    except ValueError:
        raise Nonsense(f"not JSON: {_shown(payload)}") from None


def _object(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Nonsense(f"{name} is {type(value).__name__}, not an object")
    return value


def _text(holder: Mapping[str, object], name: str) -> str:
    value = holder.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Nonsense(f"{name} is {type(value).__name__}, not a text")
    return value


def _content(message: Mapping[str, object]) -> str:
    """Return the message's text. Some servers answer with a list of parts."""
    value = message.get("content")
    if isinstance(value, list):
        parts: Sequence[object] = value
        texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
        if all(isinstance(text, str) for text in texts):
            return "".join(str(text) for text in texts)
    return _text(message, "content")


def _finish(value: object) -> tuple[FinishReason, bool]:
    """Return the reason in the words of the protocol, and whether a filter ended the text."""
    known = value.lower() if isinstance(value, str) else value
    if known in CUT:
        return "length", False
    if known in STOPPED or known in FILTERED:
        return "stop", known in FILTERED
    raise Nonsense(f"finish_reason is {value!r}")


def _count(usage: Mapping[str, object], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _parts_of_error(whole: object) -> Iterator[object]:
    if isinstance(whole, dict):
        error = whole.get("error")
        if isinstance(error, dict):
            yield error.get("message")
        yield from (error, whole.get("message"), whole.get("detail"))


def _shown(payload: bytes) -> str:
    text = payload[: 4 * WORDS_SHOWN].decode(errors="replace").strip()
    return text[:WORDS_SHOWN] or "an empty answer"
