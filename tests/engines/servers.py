"""An OpenAI-compatible server for tests that does what real ones do when they are not well."""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self


@dataclass
class Call:
    """A chat request as it came, and what became of it. Times are seconds of the monotonic clock."""

    body: dict[str, Any]
    headers: dict[str, str]
    at: float
    ended: float | None = None
    hung_up: bool = False

    @property
    def prompt(self) -> str:
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else str(content[-1]["text"])


@dataclass
class Reply:
    """What is sent back.

    hang_s: seconds before anything is sent. cut: the connection breaks in the middle of the body.
    trickle_s: seconds between the bytes of the body.
    """

    status: int = 200
    payload: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_s: float = 0.0
    cut: bool = False
    trickle_s: float = 0.0


def says(text: str | None, finish: object = "stop", **message: object) -> bytes:
    """Return a chat completion of one choice."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def refuses(words: str) -> bytes:
    return json.dumps({"error": {"message": words, "type": "BadRequestError"}}).encode()


def repeat(call: Call) -> Reply:
    """Answer with the prompt and the seed, so that a test sees whose answer it is."""
    return Reply(payload=says(f"{call.prompt} #{call.body['seed']}"))


class TestServer:
    """Answers POST /v1/chat/completions with what `answer` returns, on its own thread; pages are answers to GET."""

    __test__ = False

    def __init__(self, answer: Callable[[Call], Reply] = repeat, pages: Mapping[str, object] | None = None) -> None:
        self.answer, self.pages = answer, dict(pages or {})
        self.calls: list[Call] = []
        self.pages_read: list[str] = []
        self.busy = self.most_busy = 0
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = self._run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        return int(self._server.sockets[0].getsockname()[1])

    async def _stop(self) -> None:
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; False when the connection is over."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        if method == "GET":
            self.pages_read.append(path)
            page = self.pages.get(path)
            payload = json.dumps(page).encode() if page is not None else refuses("Not Found")
            writer.write(_response(Reply(404 if page is None else 200, payload)))
            return True
        body = await reader.readexactly(int(headers["content-length"]))
        call = Call(json.loads(body), headers, time.monotonic())
        self.calls.append(call)
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            return await self._reply(call, reader, writer)
        finally:
            call.ended = time.monotonic()
            self.busy -= 1

    async def _reply(self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        reply = self.answer(call)
        if reply.hang_s:
            gone = asyncio.ensure_future(reader.read(1))
            done, _ = await asyncio.wait([gone], timeout=reply.hang_s)
            if done:
                call.hung_up = True
                return False
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        whole = _response(reply)
        if reply.cut:
            writer.write(whole[: len(whole) - len(reply.payload) // 2 - 1])
            await writer.drain()
            return False
        if reply.trickle_s:
            for byte in whole:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(reply.trickle_s)
            return True
        writer.write(whole)
        await writer.drain()
        return True


def _response(reply: Reply) -> bytes:
    headers = {"Content-Type": "application/json", "Content-Length": str(len(reply.payload)), **reply.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {reply.status} Reason\r\n{lines}\r\n".encode() + reply.payload
