"""The engines of one process: each loaded at most once, only when there is work, and started again when it dies."""

from collections.abc import Callable, Iterable, Iterator

from caption_assets.engines.protocol import Completion, Engine, EngineIdentity, EngineSpec, Request
from caption_assets.engines.registry import AUTO, EngineEntry, choose_engine
from caption_assets.engines.restarts import Flight, stream_with_restarts


class EngineStream:
    """Requests in, completions out, through restarts of the engine (see `engines.restarts`)."""

    def __init__(self, engine: Engine, restart: Callable[[], Engine], say: Callable[[str], None]) -> None:
        self._engine, self._restart, self._say = engine, restart, say
        self._flight: Flight | None = None

    @property
    def depth(self) -> int:
        """How many requests are in flight."""
        return self._flight.depth if self._flight else 0

    def __call__(self, requests: Iterable[Request | None]) -> Iterator[Completion]:
        """Answer `requests`, as `Engine.stream` does."""
        self._flight = Flight(requests)
        return stream_with_restarts(self._engine, self._restart, self._flight, self._say)


class LoadedEngines:
    """The engine called `name` (or `auto`), loaded for each model that asks for it."""

    def __init__(self, name: str = AUTO) -> None:
        self._name = name
        self._loaded: dict[EngineIdentity, Engine] = {}

    @property
    def entry(self) -> EngineEntry:
        """The engine that was chosen, not loaded."""
        return choose_engine(self._name)

    def identify(self, spec: EngineSpec) -> EngineIdentity:
        """Return what would run, without loading it."""
        return self.entry.identify(spec)

    def load(self, spec: EngineSpec) -> Engine:
        """Return the engine that runs `spec`. One that fills a device takes the place of the one before it."""
        identity = self.identify(spec)
        if identity not in self._loaded:
            if self.entry.exclusive:
                self.close()
            self._loaded[identity] = self.entry.load(spec)
        return self._loaded[identity]

    def stream(self, spec: EngineSpec, say: Callable[[str], None]) -> EngineStream:
        """Return the stream of an engine that is started again when it dies; `say` gets a sentence then. Loads it."""
        return EngineStream(self.load(spec), lambda: self._load_anew(spec), say)

    def close(self) -> None:
        """Close every engine that is loaded."""
        while self._loaded:
            _, engine = self._loaded.popitem()
            engine.close()

    def _load_anew(self, spec: EngineSpec) -> Engine:
        dead = self._loaded.pop(self.identify(spec), None)
        if dead is not None:
            dead.close()
        return self.load(spec)
