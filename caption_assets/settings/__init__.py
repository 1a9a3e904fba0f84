"""Settings: read, checked and changed. What there is to set is declared in `settings.groups`, a group for each stage.

The Dagster launchpad, `--set GROUP.NAME=VALUE`, `caption_assets.toml` and the table of settings in the docs are all
made from these models. A value outside its range is refused when it is set, with the range in the message.

Precedence, weakest first: the defaults, `caption_assets.toml`, then `--set` or the launchpad of a run.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from caption_assets.settings.errors import SettingsError, explain, suggestion
from caption_assets.settings.flat_names import DROPPED, grouped, grouped_name
from caption_assets.settings.groups import (
    CaptionSettings,
    ClipSettings,
    DecodeSettings,
    DedupeSettings,
    EngineSettings,
    EnhanceSettings,
    GateSettings,
    Group,
    OpenAISettings,
    PreviewSettings,
    RetentionSettings,
    WindowSettings,
)

__all__ = ["Settings", "SettingsError", "engine_assignment", "setting_names"]

SETTINGS_FILE = "caption_assets.toml"

TABLES_OF_VALUES = ("caption.sampling_params", "caption.vllm_kwargs", "enhance.vllm_kwargs")
"""Settings that are tables: `NAME.KEY=VALUE` sets one entry."""


class Settings(Group):
    """All settings, a group for each stage. Names are those of other caption tools where they have the same setting."""

    clip: ClipSettings = Field(default_factory=ClipSettings)
    window: WindowSettings = Field(default_factory=WindowSettings)
    dedupe: DedupeSettings = Field(default_factory=DedupeSettings)
    caption: CaptionSettings = Field(default_factory=CaptionSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    gates: GateSettings = Field(default_factory=GateSettings)
    enhance: EnhanceSettings = Field(default_factory=EnhanceSettings)
    preview: PreviewSettings = Field(default_factory=PreviewSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    openai: OpenAISettings = Field(default_factory=OpenAISettings)
    decode: DecodeSettings = Field(default_factory=DecodeSettings)

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """Return the defaults with `caption_assets.toml` of `folder` (the current one by default) over them."""
        path = (folder or Path.cwd()) / SETTINGS_FILE
        if not path.is_file():
            return cls()
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: not valid TOML: {error}") from error
        return cls.of(values, origin=str(path))

    @classmethod
    def of(cls, values: Mapping[str, object], origin: str = "settings") -> Self:
        """Return the settings with `values`: a mapping for each group, or values by `GROUP.NAME`.

        Raises:
            SettingsError: one line per faulty setting, with its name, its value and what is allowed.
        """
        try:
            return cls.model_validate(grouped(values))
        except SettingsError as error:
            raise SettingsError(f"{origin}: {error}") from None
        except ValidationError as error:
            lines = [f"{origin}: {explain(each, dict(setting_names()))}" for each in error.errors()]
            raise SettingsError("\n".join(lines)) from None

    def with_overrides(self, assignments: Sequence[str]) -> Self:
        """Return these settings with `KEY=VALUE` strings applied, where a key is `GROUP.NAME`.

        A further dot sets one entry of a table (`caption.sampling_params.temperature=0.7`). The value is read as JSON
        where it is JSON and the setting is no text, else it is taken as text.
        """
        values = self.model_dump()
        for assignment in assignments:
            key, separator, text = assignment.partition("=")
            if not separator:
                raise SettingsError(f"--set {assignment}: write KEY=VALUE")
            name = grouped_name(key.strip())
            _assign(values, name, _read_value(name, text))
        return type(self).of(values, origin="--set")


def engine_assignment(argument: str) -> str:
    """Return the assignment of a setting that `--engine-arg NAME=VALUE` stands for; NAME is spelled as vLLM does.

    Raises:
        SettingsError: it is no NAME=VALUE, or the name is not that of a field.
    """
    name, separator, text = argument.partition("=")
    field = name.strip().removeprefix("--").replace("-", "_")
    if not separator or not field.isidentifier():
        raise SettingsError(
            f"--engine-arg {argument}: write NAME=VALUE, such as max-model-len=8192 or enforce-eager=true; a value "
            "with fields of its own is JSON"
        )
    return f"caption.vllm_kwargs.{field}={text}"


def setting_names() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting as `(GROUP.NAME, field)`, in the order in which they are declared."""
    for group, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group):
            yield from ((f"{group}.{name}", info) for name, info in field.annotation.model_fields.items())


def _assign(values: dict[str, Any], name: str, value: object) -> None:
    """Set one setting, or one entry of a setting that is a table, in the groups of `values`."""
    known = [known for known, _ in setting_names()]
    table, _, entry = name.rpartition(".")
    if table in TABLES_OF_VALUES:
        group, _, inner = table.partition(".")
        values[group][inner] = {**values[group][inner], entry: value}
    elif name in known:
        group, _, inner = name.partition(".")
        values[group][inner] = value
    elif name in DROPPED:
        values[name] = value
    else:
        raise SettingsError(f"--set {name}: no such setting.{suggestion(name, known)}")


def _read_value(name: str, text: str) -> object:
    field = dict(setting_names()).get(name)
    if field is not None and field.annotation is str:
        return text  # a prompt such as `true` or `12` stays a text
    if field is not None and field.annotation == (str | None):
        return None if text == "null" else text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
