"""HTTP as the engine `openai` needs it: one session, the key in its headers, and faults told apart by what was sent."""

import asyncio
import contextlib
import importlib.util
import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from caption_assets.engines.openai.servers import Patience
from caption_assets.engines.protocol import EngineUnavailable
from caption_assets.settings.groups import OpenAISettings

if TYPE_CHECKING:
    import aiohttp

LISTED_S = 10.0  # longest wait for what a server says about itself
CHUNK_BYTES = 1 << 18
SECRET_CHARS = 8  # what is shorter ("none", "EMPTY") is a word that a caption may hold, and no secret


class Unreached(Exception):
    """No connection: the request never left."""


class Broken(Exception):
    """The request may have left, and no whole answer came."""


class Key:
    """The key of the servers. No text form of it shows what it is."""

    def __init__(self, variable: str) -> None:
        self._value = os.environ.get(variable, "").strip()
        if not self._value.isprintable() or not self._value.isascii():
            raise EngineUnavailable(
                f"the value of {variable} is no key: no HTTP header may hold some of its characters"
            )

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "<key>" if self._value else "<no key>"

    def header(self) -> dict[str, str]:
        """Return the header that carries it."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def hide(self, payload: bytes) -> bytes:
        """Return a server's words without the key, should the server have repeated it."""
        if len(self._value) < SECRET_CHARS:
            return payload
        return payload.replace(self._value.encode(), b"<key>")


class Wire:
    """The HTTP session: made and used on the engine's own loop."""

    def __init__(self, session: "aiohttp.ClientSession", options: OpenAISettings, patience: Patience) -> None:
        import aiohttp

        self.gate = asyncio.Semaphore(options.max_concurrency)
        self.listing = asyncio.Lock()
        self._session = session
        self._changed = asyncio.Event()
        connect_s = min(patience.connect_s, options.timeout_s)
        self._timeout = aiohttp.ClientTimeout(total=options.timeout_s, sock_connect=connect_s)
        self._short = aiohttp.ClientTimeout(total=min(LISTED_S, options.timeout_s))

    @classmethod
    async def open(cls, options: OpenAISettings, key: Key, patience: Patience) -> "Wire":
        """Make the session, which connects when it has something to send."""
        import aiohttp

        connector = aiohttp.TCPConnector(limit=0)  # the gate limits what is in flight
        session = aiohttp.ClientSession(connector=connector, headers=key.header(), trust_env=True)
        return cls(session, options, patience)

    async def post(self, url: str, body: bytes, end: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of the answer.

        Raises:
            Unreached, Broken: there is none.
        """
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body) + len(end))}
        return await self._whole("POST", f"{url}/chat/completions", headers=headers, data=_chunks(body, end))

    async def get(self, url: str) -> object:
        """Return what a server says about itself as JSON, None where it has no such page.

        Raises:
            Unreached, Broken: it does not answer, or is not well.
        """
        status, _, payload = await self._whole("GET", url, timeout=self._short)
        if status >= 500 or status == 429:
            raise Broken(f"{url} answered {status}")
        try:
            return json.loads(payload) if status == 200 else None
        except ValueError:
            return None

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def changed(self) -> None:
        """Wake those who wait for a server."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, timeout_s: float) -> None:
        """Wait until something is known about a server, at most `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)

    async def _whole(self, method: str, url: str, **kwargs: Any) -> tuple[int, Mapping[str, str], bytes]:
        import aiohttp

        kwargs.setdefault("timeout", self._timeout)
        try:
            # A redirect would carry the key to wherever it points.
            async with self._session.request(method, url, allow_redirects=False, **kwargs) as answer:
                payload = await answer.read()
                return answer.status, answer.headers, payload
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as fault:
            raise Unreached(f"cannot be reached: {_brief(fault)}") from None
        except TimeoutError:
            raise Broken(f"gave no answer within {kwargs['timeout'].total:g} seconds") from None
        except (aiohttp.ClientError, OSError) as fault:
            raise Broken(f"the connection broke: {_brief(fault)}") from None


async def _chunks(body: bytes, end: bytes) -> AsyncIterator[bytes]:
    """Yield a body in pieces, so that the long part is never copied for its short end."""
    view = memoryview(body)
    for start in range(0, len(body), CHUNK_BYTES):
        yield bytes(view[start : start + CHUNK_BYTES])
    yield end


def missing() -> str | None:
    """Return what is missing for HTTP and how to install it, None where it is there. Imports nothing."""
    if importlib.util.find_spec("aiohttp") is not None:
        return None
    return "aiohttp is not installed; pip install 'caption_assets[openai]'"


def _brief(fault: BaseException) -> str:
    return str(fault) or type(fault).__name__
