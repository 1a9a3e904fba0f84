"""What an engine is: a stream of requests in, a stream of completions out.

An engine may hold several requests in flight and may answer in any order; every completion carries the id of its
request. A request that cannot be served is answered with a completion that says why, so the number of completions is
always the number of candidates asked for. An engine raises only when it cannot go on at all (`EngineDied`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "error"]


class EngineDied(RuntimeError):
    """The engine cannot serve any further request; unfinished requests may be sent to a fresh one."""


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
    purpose: Literal["caption", "refine", "enhance"]
    messages: Sequence[Message]
    seeds: Sequence[int]
    max_tokens: int
    sampling: Mapping[str, object] = field(default_factory=dict)
    frames: PackedFrames | None = None


@dataclass(frozen=True)
class Completion:
    """One candidate. `error` is set when, and only when, `finish_reason` is "error"; `text` is then empty."""

    request_id: str
    sample_index: int
    text: str
    finish_reason: FinishReason
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    latency_ms: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class EngineIdentity:
    """What made a text: part of every caption and enhancement recipe."""

    engine: str
    engine_version: str
    model_id: str
    model_revision: str


class Engine(Protocol):
    """A loaded model (or, for `signal`, the measuring code) that answers requests."""

    def stream(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield one completion per seed of each request, as they finish. Pulls requests lazily, bounded in flight."""
        ...

    def close(self) -> None:
        """Free everything. Safe to call twice."""
        ...
