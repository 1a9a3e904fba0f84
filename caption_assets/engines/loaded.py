"""The engines of one process: each loaded at most once, only when there is work, and started again when it dies."""

from collections.abc import Callable
from typing import Any

from caption_assets.engines.dispatcher import Dispatcher
from caption_assets.engines.protocol import Engine, EngineIdentity, EngineSpec
from caption_assets.engines.registry import AUTO, EngineEntry, choose_engine


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

    def dispatcher(self, spec: EngineSpec, say: Callable[[str], None]) -> Dispatcher[Any]:
        """Load the engine of `spec` and return what sends it requests. `say` gets a sentence when it is restarted."""
        engine, identity = self.load(spec), self.identify(spec)

        def restart(death: str) -> Engine:
            say(death)
            self._loaded.pop(identity).close()
            return self.load(spec)

        return Dispatcher(engine, restart)

    def close(self) -> None:
        """Close every engine that is loaded."""
        while self._loaded:
            _, engine = self._loaded.popitem()
            engine.close()
