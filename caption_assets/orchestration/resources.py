"""What assets need from outside: the root folder with its ledger, the settings, and an engine.

The launchpad shows each setting with its range, since the Dagster models are made from `caption_assets.settings`.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

import dagster as dg
from filelock import FileLock
from pydantic import Field, PrivateAttr, create_model

from caption_assets.engines.loaded import LoadedEngines
from caption_assets.engines.registry import AUTO, ENGINES
from caption_assets.ledger.database import Ledger
from caption_assets.locks import take_batch
from caption_assets.root import ROOT_VARIABLE, RootFolder
from caption_assets.settings import Settings, SettingsModel


class RootResource(dg.ConfigurableResource[None]):
    """The root folder and its ledger."""

    path: str = Field(
        default="", description=f"Root folder; empty means the variable {ROOT_VARIABLE}, and without it ./data."
    )

    _held: dict[str, FileLock] = PrivateAttr(default_factory=dict)

    def hold(self, batches: Sequence[str]) -> None:
        """Wait until no other run works on `batches`, and keep others off them until this run ends.

        Two runs of one batch would do the same work twice, or mix their settings. Locks are taken in the order of
        names, so that two runs never wait for each other.
        """
        for batch in sorted(set(batches) - self._held.keys()):
            self._held[batch] = take_batch(self.folder, batch)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Let other runs have the batches."""
        del context
        while self._held:
            _, lock = self._held.popitem()
            lock.release()

    @property
    def folder(self) -> RootFolder:
        """The root folder."""
        return RootFolder.at(self.path or None)

    @property
    def ledger(self) -> Ledger:
        """The ledger in the root folder."""
        return Ledger(self.folder)


class EngineResource(dg.ConfigurableResource[None]):
    """The engine: loaded at most once per process, only when there is work, and closed however the run ends."""

    engine: str = Field(default=AUTO, description=f"{AUTO}, {', '.join(ENGINES)}.")

    _loaded: LoadedEngines | None = PrivateAttr(default=None)

    @property
    def loaded(self) -> LoadedEngines:
        """The engines of this run."""
        if self._loaded is None:
            self._loaded = LoadedEngines(self.engine)
        return self._loaded

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close every engine that was loaded."""
        del context
        if self._loaded is not None:
            self._loaded.close()


def _config_fields(model: type[SettingsModel], defaults: SettingsModel) -> dict[str, Any]:
    """Return the fields of a settings model for a Dagster model, with `defaults` in place of its own."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        value = getattr(defaults, name)
        if isinstance(value, SettingsModel):
            nested = create_model(type(value).__name__, __base__=dg.Config, **_config_fields(type(value), value))
            fields[name] = (nested, Field(default_factory=nested, description=field.description))
            continue
        copied = copy(field)
        copied.default, copied.default_factory = value, None
        copied.metadata = []  # ranges are checked by `values`, whose messages say more
        fields[name] = (field.annotation, copied)
    return fields


class SettingsResource(dg.ConfigurableResource[None]):
    """The settings of a run. `settings_resource` gives it a field for each."""

    def values(self) -> Settings:
        """Return the settings, checked.

        Raises:
            SettingsError: a value is outside its range.
        """
        plain = {name: getattr(self, name) for name in Settings.model_fields}
        for name, group in plain.items():
            if isinstance(group, dg.Config):
                plain[name] = {inner: getattr(group, inner) for inner in type(group).model_fields}
        return Settings.of(plain)


def settings_resource(defaults: Settings) -> SettingsResource:
    """Return the resource with a launchpad field for every setting, `defaults` filled in."""
    model = create_model("Settings", __base__=SettingsResource, **_config_fields(Settings, defaults))
    model.__doc__ = "Every setting of the platform, with its range."
    return model()
