"""What assets need from outside: the root folder with its ledger, the settings, and an engine.

The launchpad shows each setting with its range, since the Dagster models are made from `caption_assets.settings`.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_origin

import dagster as dg
from filelock import FileLock
from pydantic import ConfigDict, Field, PrivateAttr, create_model

from caption_assets.engines.loaded import LoadedEngines
from caption_assets.engines.registry import AUTO, ENGINES
from caption_assets.ledger.database import Ledger
from caption_assets.locks import take_batch
from caption_assets.root import ROOT_VARIABLE, RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.groups import Group


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


class SettingsResource(dg.ConfigurableResource[None]):
    """The settings of a run. `settings_resource` gives it a field for each group.

    Other names pass through to `values`, which accepts flat names and refuses the rest with a suggestion.
    """

    model_config = ConfigDict(extra="allow")

    def values(self) -> Settings:
        """Return the settings, checked.

        Raises:
            SettingsError: a name is unknown or a value is outside its range.
        """
        return Settings.of(self.model_dump())


def settings_resource(defaults: Settings) -> SettingsResource:
    """Return the resource with a launchpad field for every setting, `defaults` filled in."""
    fields: dict[str, Any] = {}
    for name, group in defaults:
        config = _group_config(group)
        fields[name] = (config, Field(default_factory=config, description=group.__doc__))
    model = create_model("Settings", __base__=SettingsResource, **fields)
    model.__doc__ = "Every setting, grouped by the stage that uses it."
    return model()


def _group_config(group: Group) -> type[dg.Config]:
    """Return a group as Dagster declares configuration, with the values of `group` as defaults.

    Ranges and choices are left to `SettingsResource.values`, whose messages say more.
    """
    fields: dict[str, Any] = {}
    for name, field in type(group).model_fields.items():
        annotation = str if get_origin(field.annotation) is Literal else field.annotation
        fields[name] = (annotation, Field(default=getattr(group, name), description=field.description))
    return create_model(type(group).__name__, __base__=dg.Config, **fields)
