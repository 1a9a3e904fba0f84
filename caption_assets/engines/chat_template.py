"""A request's messages as the prompt that a model was trained on: its own chat template, and its length."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caption_assets.engines.families import Family, FrameShape, read_json
from caption_assets.engines.protocol import Message, PackedFrames, Request
from caption_assets.engines.reasoning import prompt_opens_reasoning

PROBE = "caption-assets probe"


class NoChatTemplate(ValueError):
    """A model comes without a chat template, or with one that loses what it is given. The message says which."""


def read_chat_template(folder: Path) -> str | None:
    """Return the chat template in a model's folder, wherever its makers put it; None where there is none."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        template = read_json(folder / name).get("chat_template")
        if isinstance(template, list):
            template = next((entry["template"] for entry in template if entry.get("name") == "default"), None)
        if template:
            return str(template)
    return None


@dataclass(frozen=True)
class Prompt:
    """A rendered request.

    ids: tokens of `text`, in which a placeholder stands for the frames. expected_tokens: with the frames in place; None
    where the family has no rule. opens_thought: the text ends inside a thought.
    """

    text: str
    ids: list[int]
    expected_tokens: int | None
    opens_thought: bool


class ChatTemplate:
    """Renders messages. Thinking is asked to be off: a caption is wanted, not the way to it.

    Some templates take a turn as a list of parts (texts, videos, images), some as one text; which one is tried out
    once. Where only texts are taken, the family's placeholder stands for the frames.

    Args:
        tokenizer: the model's tokenizer from Transformers.
        template: its chat template.
        family: how the model sees frames, None for a text model.

    Raises:
        NoChatTemplate: the template can render neither.
    """

    def __init__(self, tokenizer: Any, template: str | None, family: Family | None):
        if template is None:
            raise NoChatTemplate("the model has no chat template; use one that follows instructions (… -Instruct)")
        self._tokenizer, self._template, self.family = tokenizer, template, family
        self._parts = self._takes_parts()

    def render(self, messages: Sequence[Message], frames: PackedFrames | None) -> str:
        """Return the prompt, up to where the answer begins; a placeholder stands for the frames."""
        return self._apply([self._turn(message, frames, self._parts) for message in messages])

    def prompt(self, request: Request, limit: int | None, hint: str = "") -> Prompt:
        """Return the prompt of a request.

        Args:
            request: of any kind.
            limit: tokens of the model's context, None where it is not known.
            hint: another way out for a request that is too long, at the end of the message.

        Raises:
            ValueError: it is too long, or has frames that the model cannot see.
        """
        frames = request.frames
        text = self.render(request.messages, frames)
        ids = self.token_ids(text)
        expected: int | None = len(ids)
        if frames is not None:
            if self.family is None:
                raise ValueError("this is a text model; a request with frames needs one that sees")
            expected = self.family.prompt_tokens(text, FrameShape.of(frames), frames.times_s, self.count)
        if expected is not None:
            check_length(request, expected, len(ids), limit, hint)
        return Prompt(text, ids, expected, prompt_opens_reasoning(text))

    def token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text, special tokens read as such."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def count(self, text: str) -> int:
        """Return how many tokens a text has."""
        return len(self.token_ids(text))

    def _turn(self, message: Message, frames: PackedFrames | None, as_parts: bool) -> dict[str, object]:
        parts: list[dict[str, str]] = []
        if message.with_video and frames is not None and self.family is not None:
            parts = self._frame_parts(self.family, frames)
        parts.append({"type": "text", "text": message.text})
        if as_parts:
            return {"role": message.role, "content": parts}
        placeholder = f"{self.family.placeholder}\n" if self.family else ""
        texts = [part["text"] if part["type"] == "text" else placeholder for part in parts]
        return {"role": message.role, "content": "".join(texts)}

    def _frame_parts(self, family: Family, frames: PackedFrames) -> list[dict[str, str]]:
        if family.frames_as == "video":
            return [{"type": "video"}]
        captions = family.frame_captions(frames.times_s) or [""] * (len(frames.times_s) + 1)
        parts: list[dict[str, str]] = []
        for caption in captions[:-1]:
            parts += [{"type": "text", "text": caption}] if caption else []
            parts.append({"type": "image"})
        return [*parts, {"type": "text", "text": captions[-1]}] if captions[-1] else parts

    def _apply(self, turns: list[dict[str, object]]) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                turns, chat_template=self._template, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        )

    def _takes_parts(self) -> bool:
        """Tell whether turns are lists of parts: the way that loses neither the text nor the frames."""
        frames = PackedFrames([b""], [0.0], 1, 1)
        sees = self.family is not None
        bare: str | None = None
        for as_parts in (True, False) if sees else (False, True):
            try:
                bare = self._apply([self._turn(Message("user", PROBE), frames, as_parts)])
                full = self._apply([self._turn(Message("user", PROBE, with_video=True), frames, as_parts)])
            except Exception:  # a template may fail in any way on what it was not written for
                continue
            if PROBE in full and PROBE in bare and "'type'" not in full and (not sees or full != bare):
                return as_parts
        raise NoChatTemplate("the model's chat template loses the text or the video of a turn; use another model")


def check_length(request: Request, tokens: int, text: int, limit: int | None, hint: str = "") -> None:
    """Refuse a request that is too long: its prompt has `tokens`, `text` of them words, the model's context `limit`.

    Raises:
        ValueError: with the numbers, and what to lower.
    """
    needed = tokens + request.max_tokens
    if limit is not None and needed > limit:
        lower = "max_output_tokens, sampling_fps or window_size" if request.frames is not None else "max_output_tokens"
        raise ValueError(
            f"the request needs {needed} tokens ({tokens - text} of frames, {text} of text, {request.max_tokens} for "
            f"the answer), the model has {limit}; lower {lower}{hint}"
        )
