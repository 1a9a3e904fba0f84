"""What an engine is: a stream of requests in, a stream of completions out.

An engine may hold several requests in flight and may answer in any order; every completion carries the id of its
request. A request that cannot be served is answered with a completion that says why, so the number of completions is
always the number of candidates asked for. An engine raises only when it cannot go on at all (`EngineDied`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, Self

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
class PackedFrames:
    """The sampled frames of a window as they travel to a model.

    jpegs: one JPEG per frame, all of `width` x `height` pixels, upright, square pixels, in time order.
    times_s: seconds of each frame from the clip's first frame, ascending.
    """

    jpegs: Sequence[bytes]
    times_s: Sequence[float]
    width: int
    height: int

    def __post_init__(self) -> None:
        if len(self.jpegs) != len(self.times_s):
            raise ValueError(f"{len(self.jpegs)} frames with {len(self.times_s)} times")


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


@dataclass(frozen=True)
class EngineIdentity:
    """What made a text: part of every caption and enhancement recipe.

    options: canonical JSON of the engine options that can change a text, "" where there are none.
    """

    engine: str
    engine_version: str
    model_id: str
    model_revision: str
    options: str = ""


@dataclass(frozen=True)
class ServerOptions:
    """How OpenAI-compatible servers are reached.

    base_urls: one or more servers of the same kind that serve the same model and share the requests.
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


class Engine(Protocol):
    """A loaded model (or, for `signal`, the measuring code) that answers requests."""

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Completion]:
        """Yield one completion per seed of each request, as they finish. Pulls requests lazily, bounded in flight.

        None in place of a request says that nothing is ready now, but may be after the next completion: a second stage
        waits for the first. It comes only while requests are in flight. Requests may be pulled on another thread, one
        at a time. Closing the iterator gives up what is in flight.
        """
        ...

    def close(self) -> None:
        """Free everything. Safe to call twice."""
        ...
