"""Sends requests to OpenAI-compatible servers, many at a time, and outlives the servers' faults.

Each candidate is an HTTP request with its own seed, so it can be repeated alone; a server with a prefix cache computes
only once what the candidates of a request share. All HTTP runs on one thread with an event loop.

What becomes of a fault:

| the server | then |
|---|---|
| breaks the connection, times out, answers 408, 409, 429, 5xx or nonsense | the client pauses and tries again, up to |
|   | `max_retries` times, on another server if it can; then the candidate is an error with the last fault |
| cannot be reached | another server gets the request, or this one once it can be reached; that costs no retry |
| answers with any other error | the candidate is an error with the server's words |
| answers 401, or 403 or 404 before it has completed a request | `EngineUnavailable`, which says what to set |
| all of them fail for two minutes | `EngineUnavailable`; the next run continues where this one ended |
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace

import httpx2
from anyio.from_thread import start_blocking_portal

from caption_assets.engines.dispatcher import stream
from caption_assets.engines.openai.chat import (
    Dialect,
    body_without_seed,
    read_completion,
    seed_end,
    vllm_models,
    words_of_refusal,
)
from caption_assets.engines.openai.servers import RETRY, SESSION, Servers
from caption_assets.engines.protocol import Completion, EngineSpec, EngineUnavailable, Reply, Request

READY_AHEAD = 8
"""Candidates that wait for a connection, so that a server never waits for the frames of the next window."""
CONNECT_S = 10.0
"""Longest wait for a connection."""
LISTED_S = 10.0
"""Longest wait for a server's list of models."""

NO_VIDEO = (
    "%s: this server does not take the times of frames, so frames are sent as images with their times in words, which "
    "costs more tokens; start it with --trust-request-mm-kwargs to send them as video"
)

log = logging.getLogger(__name__)

Body = Callable[[Dialect], bytes]
"""The body of a request, without a seed, in a dialect."""


class OpenAIEngine:
    """An `Engine` that asks servers."""

    def __init__(self, spec: EngineSpec) -> None:
        from openai import AsyncOpenAI, Omit

        options = spec.server
        self._spec = spec
        self._servers = Servers(spec)
        self._client = AsyncOpenAI(
            api_key=self._servers.key or "none",
            base_url="http://servers",  # `Servers` replaces it
            max_retries=options.max_retries,
            timeout=httpx2.Timeout(options.timeout_s, connect=min(CONNECT_S, options.timeout_s)),
            http_client=self._servers,
        )
        self._headers = {} if self._servers.key else {"Authorization": Omit()}
        self._dialect: Dialect | None = None
        if options.frames_as != "auto":
            self._dialect = Dialect(vllm=options.frames_as == "video", frames_as=options.frames_as)
        self._asking = asyncio.Lock()
        self._connections = asyncio.Semaphore(options.max_concurrency)
        self._under_way: set[Future[None]] = set()
        self._candidates = 1
        self._exit = ExitStack()
        self._portal = self._exit.enter_context(start_blocking_portal(name="openai-engine"))
        self._exit.enter_context(self._portal.wrap_async_context_manager(self._client))
        self._exit.callback(_cancel, self._under_way)

    @property
    def capacity(self) -> int:
        """How many requests keep every connection busy, and a few that wait."""
        if self._spec.stage.max_in_flight is not None:
            return self._spec.stage.max_in_flight
        return -(-(self._spec.server.max_concurrency + READY_AHEAD) // self._candidates)

    def stream(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield completions as servers give them. Raises as `submit`."""
        return stream(self, requests)

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        """Begin to ask for each candidate.

        Its future raises EngineUnavailable where no server can be used: the key is refused, the model unknown, the
        address wrong, or every server has been failing for two minutes.
        """
        self._candidates = len(request.seeds)
        future = self._portal.start_task_soon(self._serve, request, reply)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    def close(self) -> None:
        """Close connections and end the thread. Safe to call twice."""
        self._exit.close()

    def _body(self, request: Request, dialect: Dialect) -> bytes:
        return body_without_seed(request, self._spec.model, dialect, resize=self._spec.engine.model_does_preprocess)

    async def _serve(self, request: Request, reply: Reply) -> None:
        body = functools.cache(functools.partial(self._body, request))

        async def keep(index: int) -> None:
            async with self._connections:
                reply(await self._candidate(request, index, body))

        await asyncio.gather(*map(keep, range(len(request.seeds))))

    async def _candidate(self, request: Request, index: int, body: Body) -> Completion:
        from openai import APIConnectionError, APIStatusError

        error = functools.partial(Completion, request.request_id, index, "", "error")
        while True:
            dialect = await self._known_dialect()
            try:
                response = await self._client.post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    content=body(dialect) + seed_end(request.seeds[index]),
                    options={"headers": {**self._headers, SESSION: request.request_id}},
                )
            except APIConnectionError as fault:
                return error(error=_after_retries(fault.request, str(fault.__cause__)))
            except APIStatusError as refusal:
                words = words_of_refusal(self._servers.without_key(refusal.response.content))
                reason = f"{_base_url(refusal.request)} answered {refusal.status_code}: {words}"
                if not self._adapts(dialect, words, _base_url(refusal.request)):
                    return error(error=_after_retries(refusal.request, reason))
            else:
                latency_ms = round(1000 * response.elapsed.total_seconds(), 3)
                answer = read_completion(self._servers.without_key(response.content))
                return replace(answer, request_id=request.request_id, sample_index=index, latency_ms=latency_ms)

    async def _known_dialect(self) -> Dialect:
        """Return how to address the servers. The first that answers is asked once.

        Raises:
            EngineUnavailable: it does not serve the model.
        """
        from openai import DEFAULT_MAX_RETRIES, APIConnectionError, APIStatusError

        async with self._asking:
            while self._dialect is None:
                try:
                    page = await self._client.get(
                        "/models",
                        cast_to=httpx2.Response,
                        options={"headers": self._headers, "timeout": LISTED_S, "max_retries": DEFAULT_MAX_RETRIES},
                    )
                except APIConnectionError:
                    continue  # `Servers` gives up when no server has answered for long enough
                except APIStatusError as refusal:
                    if refusal.status_code < 500 and refusal.status_code != 429:
                        self._dialect = Dialect()  # it has no such page
                    continue
                models = vllm_models(page.content)
                if models is not None and self._spec.model not in models:
                    raise EngineUnavailable(
                        f"{_base_url(page.request)} serves {', '.join(models)}, not {self._spec.model!r}: set `model` "
                        "(or `enhance.model`) to a name that it serves"
                    )
                self._dialect = Dialect() if models is None else Dialect(vllm=True, frames_as="video")
            return self._dialect

    def _adapts(self, dialect: Dialect, words: str, url: str) -> bool:
        """Tell whether a refusal asks for another dialect, which is then used from here on."""
        adapted = dialect.after_refusal(words)
        if adapted is None:
            return False
        if adapted.frames_as != dialect.frames_as:
            if self._spec.server.frames_as != "auto":
                return False
            if self._dialect != adapted:
                log.warning(NO_VIDEO, url)
        self._dialect = adapted
        return True


def _cancel(futures: Iterable[Future[None]]) -> None:
    """Give up requests. That closes their connections, and the servers stop generating."""
    for future in tuple(futures):
        future.cancel()


def _after_retries(request: httpx2.Request, reason: str) -> str:
    tries = 1 + int(request.headers.get(RETRY, 0))
    return reason if tries == 1 else f"gave up after {tries} tries; the last one: {reason}"


def _base_url(request: httpx2.Request) -> str:
    return str(request.url).removesuffix("/chat/completions").removesuffix("/models")
