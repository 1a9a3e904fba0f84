"""What an engine is: it takes requests, and answers each with a completion per candidate.

An engine may hold several requests and may answer in any order. A request that it cannot serve is answered with a
completion that says why. An engine raises only when it cannot go on at all (`EngineDied`).
`engines.dispatcher` sends requests, keeps account of what is in flight and restarts an engine that died.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, Self

from caption_assets.settings import Settings
from caption_assets.settings.groups import CaptionSettings, EngineSettings, EnhanceSettings, OpenAISettings
from caption_assets.settings.recipes import EngineIdentity as EngineIdentity
from caption_assets.video.packed_frames import PackedFrames as PackedFrames

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "error"]


class EngineDied(RuntimeError):
    """The engine cannot serve any further request; unfinished requests may be sent to a fresh one."""


class EngineUnavailable(EngineDied):
    """The engine cannot be had now, and a fresh one could not either: no server answers, or it refuses the key.

    Or it cannot keep a setting. The message says what to change.
    """


@dataclass(frozen=True)
class Message:
    """One chat turn. `with_video` marks the turn that the request's frames belong to."""

    role: Role
    text: str
    with_video: bool = False


@dataclass(frozen=True)
class Request:
    """One piece of work: `len(seeds)` candidates for the same messages and frames.

    purpose tells an engine without a language model which sentence is asked for.
    sampling holds the engine's own fields (temperature, top_p, ...); max_tokens limits each candidate.
    """

    request_id: str
    purpose: Literal["caption", "refine", "enhance", "judge"]
    messages: Sequence[Message]
    seeds: Sequence[int]
    max_tokens: int
    sampling: Mapping[str, object] = field(default_factory=dict)
    frames: PackedFrames | None = None


@dataclass(frozen=True)
class Completion:
    """One candidate. `error` is set when, and only when, `finish_reason` is "error"; `text` is then empty.

    reasoning: what a reasoning model thought before it answered; never part of `text`.
    refusal: the model, or a filter in front of it, declined; `text` is what it said instead, if anything.
    expected_prompt_tokens: what the request was reckoned to cost before it was sent, by an engine that can reckon it;
        `prompt_tokens` is what was really read.
    """

    request_id: str
    sample_index: int
    text: str
    finish_reason: FinishReason
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    latency_ms: float | None = None
    error: str | None = None
    reasoning: str | None = None
    expected_prompt_tokens: int | None = None
    refusal: bool = False

    @classmethod
    def failed(cls, request_id: str, sample_index: int, error: str) -> Self:
        """Return the completion that stands for a candidate that could not be made."""
        return cls(request_id, sample_index, "", "error", error=error)


OPTIONS: Mapping[str, tuple[str, str]] = {
    "fp8": ("stage", "fp8"),
    "engine_kwargs": ("stage", "vllm_kwargs"),
    "preprocess_dtype": ("engine", "preprocess_dtype"),
    "model_does_preprocess": ("engine", "model_does_preprocess"),
    "frames_as": ("server", "frames_as"),
}
"""Settings of a model's run that can change a text, under the names that identities hold: the group of an `EngineSpec`,
and the name in it."""

FRAME_OPTIONS = ("preprocess_dtype", "model_does_preprocess", "frames_as")
"""Options that concern frames. They cannot change what a text model writes."""


@dataclass(frozen=True)
class EngineSpec:
    """The settings that an engine is loaded from.

    stage: which model it is and how it is run; a caption model sees frames, an enhance model reads text.
    engine, server: what both models share.
    """

    stage: CaptionSettings | EnhanceSettings
    engine: EngineSettings = field(default_factory=EngineSettings)
    server: OpenAISettings = field(default_factory=OpenAISettings)

    @classmethod
    def for_captions(cls, settings: Settings) -> Self:
        """Return the vision-language model of `settings`."""
        return cls(settings.caption, settings.engine, settings.openai)

    @classmethod
    def for_enhancement(cls, settings: Settings) -> Self:
        """Return the text model of `settings`, which may have servers of its own."""
        urls = settings.enhance.base_urls or settings.openai.base_urls
        return cls(settings.enhance, settings.engine, settings.openai.model_copy(update={"base_urls": urls}))

    @property
    def purpose(self) -> Literal["caption", "enhance"]:
        """Which of a run's models this is."""
        return self.stage.purpose

    @property
    def model(self) -> str:
        """Id of the model on the hub, or a folder of weights."""
        return self.stage.model

    def options(self, *names: str) -> str:
        """Return the named `OPTIONS` that differ from their defaults as canonical JSON, "" where none does."""
        plain = EngineSpec(type(self.stage)())
        counted = [name for name in names if self.purpose == "caption" or name not in FRAME_OPTIONS]
        changed = {name: self._option(name) for name in counted if self._option(name) != plain._option(name)}
        return json.dumps(changed, sort_keys=True, separators=(",", ":")) if changed else ""

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """Return this spec with `options`, read from the JSON of an identity, set."""
        updates: dict[str, dict[str, object]] = {}
        for option, value in options.items():
            group, name = OPTIONS[option]
            updates.setdefault(group, {})[name] = value
        return replace(self, **{group: getattr(self, group).model_copy(update=each) for group, each in updates.items()})

    def _option(self, option: str) -> object:
        group, name = OPTIONS[option]
        return getattr(getattr(self, group), name)


Reply = Callable[[Completion], None]
"""Takes a completion, on any thread."""

DONE: Future[None] = Future()
"""What `Engine.submit` returns where the request is answered already."""
DONE.set_result(None)


class Engine(Protocol):
    """A loaded model (or, for `signal`, the measuring code) that answers requests."""

    @property
    def capacity(self) -> int:
        """How many requests it wants to hold now, those in preparation included, so that it never waits for one."""
        ...

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        """Begin to answer `request`: call `reply` once per seed, with the seed's position as `sample_index`.

        Returns a future that is done when no more answers will come. Its exception, or one that this method raises, is
        why: `EngineDied` where the engine cannot serve any request. Cancelling it gives the request up.
        """
        ...

    def close(self) -> None:
        """Free everything, and cancel the futures of requests that are in flight. Safe to call twice."""
        ...
