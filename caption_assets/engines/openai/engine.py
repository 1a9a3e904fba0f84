"""Sends requests to OpenAI-compatible servers, many at a time, and outlives their faults.

A candidate is an HTTP request of its own with its own seed, so that it can be made again alone; what the candidates of
a window share is computed once by a server with a prefix cache. All HTTP runs on one thread with an event loop.

What becomes of a fault:

| the server | then |
|---|---|
| refuses or breaks the connection, times out, answers 408, 425, 429, 5xx, or nonsense | sent again after a pause, |
|   | `max_retries` times, where possible to another server; then the candidate is an error with the last fault |
| cannot be reached at all | sent again when one can be reached; that costs no retry |
| answers another 4xx | the candidate is an error with the server's words |
| answers 401; or 403 or 404 before it has answered anything well | `EngineUnavailable`, which says what to set |
| all of them fail for two minutes | `EngineUnavailable`; the next run goes on where this one ended |
"""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from caption_assets.engines.dispatcher import stream
from caption_assets.engines.openai.chat import (
    Answer,
    Dialect,
    Nonsense,
    body_without_seed,
    is_vllm,
    models_served,
    read_answer,
    seed_end,
    words_of_refusal,
)
from caption_assets.engines.openai.servers import Patience, Server, Servers, retry_after_s
from caption_assets.engines.openai.wire import Broken, Key, Unreached, Wire, missing
from caption_assets.engines.protocol import (
    Completion,
    EngineIdentity,
    EngineSpec,
    EngineUnavailable,
    Reply,
    Request,
)

CODE_VERSION = "1"  # bumped by hand whenever the same request may be put differently to a server
ASK_AGAIN = (408, 425, 429)  # besides 5xx
READY_AHEAD = 8  # requests that wait for a connection, so that a server never waits for the next window's frames
PATIENCE = Patience()

NO_VIDEO = (
    "%s does not take the times of frames, so that they travel as images with their times in words, which costs more "
    "tokens; start it with --trust-request-mm-kwargs to send them as video"
)

log = logging.getLogger(__name__)

T = TypeVar("T")


def identify(spec: EngineSpec) -> EngineIdentity:
    """Return what a caption made through servers is made by, without asking them.

    A server's own version, and the commit of its weights, are not to be had through its interface: the revision is the
    one that the settings claim, else `served`. engine_version is that of this code. With frames_as = auto the server's
    kind decides how frames travel.

    Raises:
        EngineUnavailable: a setting asks for what only the server can decide.
    """
    _check(spec)
    names = ("model_does_preprocess", "frames_as") if spec.purpose == "caption" else ()
    return EngineIdentity("openai", CODE_VERSION, spec.model, spec.stage.revision or "served", spec.options(*names))


class OpenAIEngine:
    """An `Engine` that asks servers. The first `stream` opens connections; `close` closes them."""

    def __init__(self, spec: EngineSpec, patience: Patience = PATIENCE, draw: random.Random | None = None) -> None:
        _check(spec)
        self._spec, self._patience = spec, patience
        self._key = Key(spec.server.api_key_env)
        self._draw = draw or random.Random()
        self._servers = Servers([Server(url.rstrip("/")) for url in spec.server.base_urls], patience)
        self._dialects: dict[str, Dialect] = {}
        self._candidates = 1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._wire: Wire | None = None

    def stream(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield completions as servers give them. Raises as `submit`."""
        return stream(self, requests)

    @property
    def capacity(self) -> int:
        """How many requests keep every connection busy, and a few that wait."""
        if self._spec.stage.max_in_flight is not None:
            return self._spec.stage.max_in_flight
        return -(-(self._spec.server.max_concurrency + READY_AHEAD) // self._candidates)

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        """Begin to ask for each candidate.

        Its future raises EngineUnavailable where no server will answer: a refused key, an unknown model, a wrong
        address, or every server has been failing for `Patience.down_s`.
        """
        loop = self._start()
        self._candidates = len(request.seeds)
        return asyncio.run_coroutine_threadsafe(self._serve(_Asked(request), reply), loop)

    def close(self) -> None:
        """Close connections and end the thread. Safe to call twice."""
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        _wait(_cancel_all(), loop)
        if self._wire is not None:
            _wait(self._wire.close(), loop)
            self._wire = None
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(timeout=30)
        loop.close()

    def _start(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="openai-engine", daemon=True)
            self._thread.start()
            self._wire = _wait(Wire.open(self._spec.server, self._key, self._patience), self._loop)
        return self._loop

    async def _serve(self, asked: "_Asked", reply: Reply) -> None:
        async def keep(index: int) -> None:
            reply(await self._candidate(asked, index))

        await asyncio.gather(*map(keep, range(len(asked.request.seeds))))

    async def _candidate(self, asked: "_Asked", index: int) -> Completion:
        wire = self._wire
        assert wire is not None
        request, tries = asked.request, 0
        async with wire.gate:
            while True:
                server = await self._turn()
                started = time.perf_counter()
                outcome = await self._ask(wire, server, asked, request.seeds[index])
                if isinstance(outcome, Answer):
                    return _completion(request, index, outcome, 1000 * (time.perf_counter() - started))
                if outcome.final:
                    return _error(request, index, outcome.reason)
                tries += outcome.costs
                if tries > self._spec.server.max_retries:
                    return _error(request, index, f"gave up after {tries} tries; the last one: {outcome.reason}")
                if outcome.pause:
                    await asyncio.sleep(self._patience.backoff(max(1, tries), self._draw))

    async def _turn(self) -> Server:
        """Wait for a server that may be asked.

        Raises:
            EngineUnavailable: all have been failing for too long.
        """
        wire = self._wire
        assert wire is not None
        while True:
            now = time.monotonic()
            if self._servers.all_down(now):
                raise EngineUnavailable(
                    f"no server has answered for {self._patience.down_s:g} seconds: {self._servers.faults()}"
                )
            if (server := self._servers.take(now)) is not None:
                return server
            delay = self._servers.wait_s(now)
            await wire.change(delay + self._draw.uniform(0, 0.1) * min(delay, 1.0))

    async def _ask(self, wire: Wire, server: Server, asked: "_Asked", seed: int) -> "Answer | _Fault":
        """Send a candidate once and tell the servers' book how it went."""
        try:
            dialect = await self._dialect(wire, server)
            status, headers, payload = await wire.post(
                server.url, asked.body(self._spec.model, dialect), seed_end(seed)
            )
        except Unreached as fault:
            self._failed(server, str(fault))
            return _Fault(f"{server.url}: {fault}", costs=0)
        except Broken as fault:
            self._failed(server, str(fault))
            return _Fault(f"{server.url}: {fault}")
        except BaseException:
            self._servers.gave(server)
            wire.changed()
            raise
        outcome = self._judge(server, status, headers, payload, dialect)
        wire.changed()
        return outcome

    def _judge(
        self, server: Server, status: int, headers: Mapping[str, str], payload: bytes, dialect: Dialect
    ) -> "Answer | _Fault":
        if status == 200:
            try:
                answer = read_answer(payload)
            except Nonsense:
                fault = f"nonsense: {self._nonsense(payload)}"
                self._failed(server, fault)
                return _Fault(f"{server.url} answered {fault}")
            self._servers.succeeded(server)
            server.answered = True
            return answer
        words = words_of_refusal(self._key.hide(payload))
        reason = f"{server.url} answered {status}: {words}"
        if status == 429:
            wait = retry_after_s(headers.get("Retry-After"))
            self._servers.busy(server, time.monotonic(), wait)
            return _Fault(reason, pause=wait is None)
        if status in ASK_AGAIN or status >= 500:
            self._failed(server, f"{status}: {words}")
            return _Fault(reason)
        self._servers.succeeded(server)
        self._stop_if_hopeless(server, status, words)
        adapted = dialect.after_refusal(words)
        if adapted is None or (adapted.frames_as != dialect.frames_as and self._spec.server.frames_as != "auto"):
            return _Fault(reason, final=True)
        if adapted.frames_as != dialect.frames_as and self._dialects.get(server.url) != adapted:
            log.warning(NO_VIDEO, server.url)
        self._dialects[server.url] = adapted
        return _Fault(reason, costs=0, pause=False)

    def _nonsense(self, payload: bytes) -> str:
        """Return what is wrong with an answer; the key is hidden first, since only a part of the answer is shown."""
        try:
            read_answer(self._key.hide(payload))
        except Nonsense as fault:
            return str(fault)
        return "it cannot be read"

    def _stop_if_hopeless(self, server: Server, status: int, words: str) -> None:
        name = self._spec.server.api_key_env
        if status == 401 or (status == 403 and not server.answered):
            state = f"the key in {name} was refused" if self._key else f"there is no key: set {name}"
            raise EngineUnavailable(f"{server.url} answered {status}, {state} (openai.api_key_env names it): {words}")
        if status == 404 and not server.answered:
            raise EngineUnavailable(
                f"{server.url}/chat/completions answered 404: the server does not know the model {self._spec.model!r}, "
                f"or its address is not that of an OpenAI-compatible interface (openai.base_urls, ends with /v1 as a "
                f"rule): {words}"
            )

    def _failed(self, server: Server, fault: str) -> None:
        self._servers.failed(server, time.monotonic(), fault)
        if self._wire is not None:
            self._wire.changed()

    async def _dialect(self, wire: Wire, server: Server) -> Dialect:
        """Return how to speak to a server; what it is, is asked once, unless a setting says it."""
        if server.url in self._dialects:
            return self._dialects[server.url]
        plain = Dialect(own_size=not self._spec.engine.model_does_preprocess)
        wanted = self._spec.server.frames_as
        if wanted != "auto":
            return self._dialects.setdefault(server.url, replace(plain, frames_as=wanted, vllm=wanted == "video"))
        async with wire.listing:
            if server.url not in self._dialects:
                self._dialects[server.url] = await self._asked_dialect(wire, server, plain)
        return self._dialects[server.url]

    async def _asked_dialect(self, wire: Wire, server: Server, plain: Dialect) -> Dialect:
        """Ask a server what it is.

        Raises:
            EngineUnavailable: it does not serve the model.
        """
        models = await wire.get(f"{server.url}/models")
        version = await wire.get(f"{server.url.removesuffix('/v1')}/version")
        if not is_vllm(models, version):
            return plain
        served = models_served(models)
        if served and self._spec.model not in served:
            raise EngineUnavailable(
                f"{server.url} serves {', '.join(served)}, not {self._spec.model!r}: set `model` (or `enhance.model`) "
                "to a name that it serves"
            )
        return replace(plain, frames_as="video", vllm=True)


@dataclass(frozen=True)
class _Fault:
    """Why a try gave no answer.

    final: trying again is of no use. costs: retries used up. pause: wait before the next.
    """

    reason: str
    final: bool = False
    costs: int = 1
    pause: bool = True


@dataclass
class _Asked:
    """A request that is under way, with the bodies that its candidates share."""

    request: Request
    _bodies: dict[Dialect, bytes] = field(default_factory=dict)

    def body(self, model: str, dialect: Dialect) -> bytes:
        if dialect not in self._bodies:
            self._bodies[dialect] = body_without_seed(self.request, model, dialect)
        return self._bodies[dialect]


def _check(spec: EngineSpec) -> None:
    if (reason := missing()) is not None:
        raise EngineUnavailable(f"engine openai: {reason}")
    asked = spec.options("fp8", "preprocess_dtype", "engine_kwargs")
    if asked:
        raise EngineUnavailable(
            f"the engine openai cannot keep {asked}: whoever starts the server decides that (vllm serve "
            "--quantization, --dtype ...); take these settings out"
        )
    for url in spec.server.base_urls:
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise EngineUnavailable(
                f"openai.base_urls: {parts.scheme}://{parts.hostname}{parts.path} must hold no password and no query; "
                f"the key belongs into the environment variable {spec.server.api_key_env}"
            )


def _completion(request: Request, index: int, answer: Answer, latency_ms: float) -> Completion:
    return Completion(
        request.request_id,
        index,
        answer.text,
        answer.finish_reason,
        answer.prompt_tokens,
        answer.output_tokens,
        round(latency_ms, 3),
        reasoning=answer.reasoning,
        refusal=answer.refusal,
    )


def _error(request: Request, index: int, reason: str) -> Completion:
    return Completion(request.request_id, index, "", "error", error=reason)


def _wait(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=30)


async def _cancel_all() -> None:
    """Give up what is in flight. That closes its connections, and the servers stop generating."""
    running = list(asyncio.all_tasks() - {asyncio.current_task()})
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
