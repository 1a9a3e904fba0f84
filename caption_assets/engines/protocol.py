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


@dataclass(frozen=True)
class ServerOptions:
    """How OpenAI-compatible servers are reached.

    base_urls: one or more servers that serve the same model; requests go to them in turn.
    api_key_env: environment variable with the key; the key itself is never stored.
    max_retries: how often one request is sent again after 429, 5xx, a timeout or a broken connection.
    """

    base_urls: tuple[str, ...] = ("http://127.0.0.1:8000/v1",)
    api_key_env: str = "OPENAI_API_KEY"
    timeout_s: float = 300.0
    max_retries: int = 6
    max_concurrency: int = 64
    frames_as: Literal["auto", "video", "images"] = "auto"


@dataclass(frozen=True)
class EngineSpec:
    """A model and how it is to be run: all that an engine is loaded from.

    purpose: which of a run's models this is; a caption model sees frames, an enhance model reads text.
    model: id on the hub, or a folder of weights. revision: branch, tag or commit; None is the default branch.
    model_dir: folder of weights, one folder per model id below it; None is the cache of the hub.
    fp8, preprocess_dtype, model_does_preprocess, engine_kwargs: as the settings of the same names say (engine_kwargs
        are `vllm_kwargs`); they may change a result, so an engine that uses them names them in its identity's options.
    disable_mmcache, max_in_flight, server: tuning. max_in_flight None: the engine decides.
    """

    purpose: Literal["caption", "enhance"]
    model: str
    revision: str | None = None
    model_dir: str | None = None
    fp8: bool = False
    preprocess_dtype: str = "uint8"
    model_does_preprocess: bool = False
    disable_mmcache: bool = False
    engine_kwargs: Mapping[str, object] = field(default_factory=dict)
    max_in_flight: int | None = None
    server: ServerOptions = field(default_factory=ServerOptions)

    def options(self, *names: str) -> str:
        """Return the named fields that differ from their defaults as canonical JSON, "" where none does.

        A field of `server` is named as if it were one of this class.
        """
        plain = EngineSpec(self.purpose, self.model)
        changed = {name: self._field(name) for name in names if self._field(name) != plain._field(name)}
        return json.dumps(changed, sort_keys=True, separators=(",", ":")) if changed else ""

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """Return this spec with the fields that `options` (of an identity, read from its JSON) names set to them."""
        own = {name: value for name, value in options.items() if hasattr(self, name)}
        of_server = {name: value for name, value in options.items() if name not in own}
        return replace(self, **own, server=replace(self.server, **of_server))

    def _field(self, name: str) -> object:
        return getattr(self, name) if hasattr(self, name) else getattr(self.server, name)


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
