"""The servers of one engine: which of them gets an attempt, which are left alone, and when all are gone.

The official client repeats failed requests. Each attempt passes through `Servers.send`, which picks a server that
works, so a repeated request goes to another server if there is one.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import xxhash

from caption_assets.engines.openai.chat import Nonsense, read_completion, words_of_refusal
from caption_assets.engines.protocol import EngineSpec, EngineUnavailable

SESSION = "x-session-id"
"""Header with the id of the request that an attempt belongs to: routers and `choose` keep its candidates together."""
RETRY = "x-stainless-retry-count"
"""Header in which the official client counts the retries of a request."""
SLACK = 8
"""Attempts that a server may have in flight above the average, so that the candidates of a request stay together."""
FAILURES = 5
"""Failures in a row after which a server is left alone, but for single attempts."""
REST_S = 2.0
"""How long a failing server is left alone before it gets another attempt."""
DOWN_S = 120.0
"""How long all servers must have been failing before the engine gives up."""
RETRY_AFTER_MAX_S = 600.0
"""Longest time for which a server is left alone because it asks for it."""
POLL_S = 0.1
"""How often an attempt looks for a server while all are left alone."""
SECRET_CHARS = 8
"""A shorter key ("none", "EMPTY") is no secret but a word, which captions may contain."""


@dataclass
class Server:
    """A base URL and what is known about the server. Times are seconds of the monotonic clock.

    probing: it fails, and an attempt is under way that shows whether it still does.
    answered: it has completed a request, so a later 403 or 404 is about that request alone.
    failures: how many in a row. failing_since: when they reached `FAILURES`, None while they are fewer.
    fault: the last failure, for messages. rests_until: when the next attempt may go to it.
    """

    url: str
    in_flight: int = 0
    probing: bool = False
    answered: bool = False
    failures: int = 0
    failing_since: float | None = None
    fault: str = ""
    rests_until: float = 0.0

    def is_ready(self, now: float) -> bool:
        """Tell whether it may get an attempt."""
        return now >= self.rests_until and not self.probing

    def works(self) -> None:
        """Note an answer; a refusal is one, too."""
        self.failures, self.failing_since = 0, None

    def fails(self, fault: str, now: float) -> None:
        """Note that an attempt failed."""
        self.fault, self.failures = fault, self.failures + 1
        if self.failures == FAILURES:
            self.failing_since = now
        if self.failing_since is not None:
            self.rest(now + REST_S)

    def rest(self, until: float) -> None:
        """Leave the server alone until then, or for longer if it rests already."""
        self.rests_until = max(self.rests_until, until)


def choose(servers: Sequence[Server], session: str, retry: int, now: float) -> Server | None:
    """Return the server for an attempt, None if all must be left alone.

    A session keeps its server while that is ready and not much busier than the others (rendezvous hashing with bounded
    load). Each retry, counted from 1, goes to the next server in the session's order.
    """
    ready = [server for server in servers if server.is_ready(now)]
    room = SLACK + sum(server.in_flight for server in ready) / max(1, len(ready))
    order = sorted(
        (server for server in ready if server.in_flight <= room),
        key=lambda server: xxhash.xxh3_64_digest(f"{session} {server.url}".encode()),
    )
    return order[retry % len(order)] if order else None


class Servers(httpx2.AsyncClient):
    """An HTTP client that sends each attempt to a server that works.

    key: the key of the servers, "" without one. Redirects are not followed: they would carry the key elsewhere.
    """

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(follow_redirects=False, limits=httpx2.Limits(max_connections=None))
        self._spec = spec
        self._servers = [Server(url.rstrip("/")) for url in spec.server.base_urls]
        self.key = os.environ.get(spec.server.api_key_env, "").strip()
        if not self.key.isprintable() or not self.key.isascii():
            raise EngineUnavailable(
                f"the value of {spec.server.api_key_env} is no key: no HTTP header may hold some of its characters"
            )

    async def send(self, request: httpx2.Request, **kwargs: Any) -> httpx2.Response:
        """Return the answer of a server to `request`, whose path continues a base URL.

        Moving on from a server that cannot be reached, or that asks to be left alone, does not count as an attempt.

        Raises:
            httpx2.RequestError: the attempt failed; the message names the server and the fault.
            EngineUnavailable: no server can be used; the message says why and what to set.
        """
        path = request.url.path
        limit_s = request.extensions["timeout"]["read"]
        while True:
            server = await self._ready_server(request)
            request.url = httpx2.URL(server.url + path)
            request.headers["Host"] = request.url.netloc.decode("ascii")
            server.in_flight, server.probing = server.in_flight + 1, server.failing_since is not None
            try:
                async with asyncio.timeout(limit_s):  # of the whole answer, where httpx limits each read
                    response = await super().send(request, **kwargs)
                if request.method == "POST" and response.is_success:
                    read_completion(self.without_key(response.content))
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as fault:
                self._failure(server, f"cannot be reached: {_brief(fault)}")
                continue
            except (TimeoutError, httpx2.TimeoutException):
                raise self._failure(server, f"gave no answer within {limit_s:g} seconds") from None
            except httpx2.RequestError as fault:
                raise self._failure(server, f"broke the connection: {_brief(fault)}") from None
            except Nonsense as fault:
                raise self._failure(server, f"answered nonsense: {fault}") from None
            finally:
                server.in_flight, server.probing = server.in_flight - 1, False
            self._note(server, response)
            now = time.monotonic()
            passes_on = response.status_code == 429 and not server.is_ready(now)
            if not passes_on or not any(other.is_ready(now) for other in self._servers):
                return response

    def without_key(self, said: bytes) -> bytes:
        """Return what a server said without the key, in case it repeats the key."""
        return said if len(self.key) < SECRET_CHARS else said.replace(self.key.encode(), b"<key>")

    async def _ready_server(self, request: httpx2.Request) -> Server:
        session, retry = request.headers.get(SESSION, ""), int(request.headers.get(RETRY, 0))
        while (server := choose(self._servers, session, retry, time.monotonic())) is None:
            self._stop_if_all_fail()
            await asyncio.sleep(POLL_S)
        return server

    def _stop_if_all_fail(self) -> None:
        since = [server.failing_since for server in self._servers if server.failing_since is not None]
        if len(since) == len(self._servers) and time.monotonic() - max(since) >= DOWN_S:
            faults = "; ".join(f"{server.url} {server.fault}" for server in self._servers)
            raise EngineUnavailable(f"no server has answered for {DOWN_S:g} seconds: {faults}")

    def _note(self, server: Server, response: httpx2.Response) -> None:
        """Remember what an answer says about its server.

        Raises:
            EngineUnavailable: it says that every request will be refused.
        """
        status = response.status_code
        words = "" if response.is_success else words_of_refusal(self.without_key(response.content))
        if status == 408 or status >= 500:
            self._failure(server, f"answered {status}: {words}")
            return
        server.works()
        if status == 429:
            server.rest(time.monotonic() + _retry_after_s(response.headers.get("Retry-After", "")))
        if response.request.method != "POST":
            return
        server.answered = server.answered or response.is_success
        variable = self._spec.server.api_key_env
        if status == 401 or (status == 403 and not server.answered):
            state = f"the key in {variable} was refused" if self.key else f"there is no key: set {variable}"
            raise EngineUnavailable(f"{server.url} answered {status}, {state} (openai.api_key_env names it): {words}")
        if status == 404 and not server.answered:
            raise EngineUnavailable(
                f"{server.url}/chat/completions answered 404: the server does not know the model {self._spec.model!r}, "
                f"or openai.base_urls is wrong (the address of an OpenAI-compatible interface usually ends with /v1): "
                f"{words}"
            )

    def _failure(self, server: Server, fault: str) -> httpx2.RequestError:
        fault = self.without_key(fault.encode(errors="surrogatepass")).decode(errors="surrogatepass")
        server.fails(fault, time.monotonic())
        self._stop_if_all_fail()
        return httpx2.RequestError(f"{server.url} {fault}")


def _brief(fault: BaseException) -> str:
    return str(fault) or type(fault).__name__


def _retry_after_s(header: str) -> float:
    """Return the seconds that a Retry-After header asks for. Only the client reads dates; here they are 0 seconds."""
    try:
        return min(max(0.0, float(header)), RETRY_AFTER_MAX_S)
    except ValueError:
        return 0.0
