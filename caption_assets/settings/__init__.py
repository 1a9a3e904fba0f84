"""Every setting of the platform: name, default, allowed range and meaning, in this one place.

The Dagster launchpad, `--set KEY=VALUE`, `caption_assets.toml` and the README table are all made from these models.
A value outside its range is refused when it is set, with the range in the message.

Precedence, weakest first: the defaults here, `caption_assets.toml`, then `--set` or the launchpad of a run.
"""

import difflib
import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from caption_assets.retention import parse_policy
from caption_assets.retention.gates import GATE_PARAMETERS, GATE_PREFIX
from caption_assets.retention.script import parse_scripts
from caption_assets.settings.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS, STAGE2_PROMPT

SETTINGS_FILE = "caption_assets.toml"

MODEL_ALIASES = {
    "qwen": "Qwen/Qwen2.5-VL-7B-Instruct",
    "qwen2.5": "Qwen/Qwen2.5-VL-7B-Instruct",
    "qwen3": "Qwen/Qwen3-VL-8B-Instruct",
}
"""Short names that the peers' users type, and the model each stands for."""

SPLITS = ("none", "stride", "scenes")
"""Ways of splitting a file into clips."""
DEDUPE_MODES = ("off", "exact", "near")
ON_DRIFT = ("keep", "flag", "fallback")
PREVIEW_FORMATS = ("webp", "avif", "mp4")
PREVIEW_SOURCES = ("packed", "clip")
PREPROCESS_DTYPES = ("uint8", "float32", "float16", "bfloat16")
FRAMES_AS = ("auto", "video", "images")
MANAGED_KWARGS: Mapping[str, str] = {
    "model": "model",
    "tokenizer": "model",
    "revision": "revision",
    "tokenizer_revision": "revision",
    "code_revision": "revision",
    "download_dir": "model_dir",
    "quantization": "fp8",
    "mm_processor_cache_gb": "disable_mmcache",
    "max_num_seqs": "caption_batch_size",
    "limit_mm_per_prompt": "nothing: a request holds one video",
    "disable_log_stats": "nothing: the run's log has the figures",
}
"""Fields of the vLLM engine that another setting decides, and which one does."""

QWEN3_FACTOR = 32
QWEN2_FACTOR = 28


TABLES_OF_VALUES = ("sampling_params", "vllm_kwargs", "enhance.vllm_kwargs")
"""Settings that are tables: `NAME.KEY=VALUE` sets one entry."""

RANGE_FAULTS = ("greater_than_equal", "greater_than", "less_than_equal", "less_than", "string_too_short")

KINDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    str | None: "a text or null",
    str | list[str]: "a text or a list of texts",
    list[str]: "a list of texts",
    list[int]: "a list of whole numbers",
    dict[str, float]: "a table of names and numbers",
    dict[str, Any]: "a table of names and values",
}
"""How messages call the types of settings."""


class SettingsError(ValueError):
    """A setting has an unknown name or a value outside its range. The message names the allowed ones."""


def _one_of(known: Iterable[str]) -> AfterValidator:
    names = tuple(known)

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"unknown value {value!r}; allowed: {', '.join(names)}.{_suggestion(value, names)}")
        return value

    return AfterValidator(check)


def _parsed_by(parse: Callable[[str], object]) -> AfterValidator:
    """Refuse what `parse` refuses."""

    def check(value: str) -> str:
        parse(value)
        return value

    return AfterValidator(check)


def _addresses(urls: list[str]) -> list[str]:
    for url in urls:
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query:
            raise ValueError(f"{parts.scheme}://{parts.hostname}…: a key belongs into an environment variable")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a server; allowed: http://… or https://…")
    return urls


def _without_managed(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Refuse engine fields that a setting decides, or that are no fields at all."""
    for name in kwargs:
        if name in MANAGED_KWARGS:
            raise ValueError(f"{name} is decided by {MANAGED_KWARGS[name]}; take it out of vllm_kwargs")
    return kwargs


def _sampling_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Refuse sampling fields that no engine has, or that are out of range."""
    try:
        return SamplingFields.model_validate(values).model_dump(exclude_unset=True)
    except ValidationError as error:
        faults = (_explain(fault, SamplingFields.model_fields) for fault in error.errors())
        raise ValueError("; ".join(dict.fromkeys(faults))) from None


EngineKwargs = Annotated[dict[str, Any], AfterValidator(_without_managed)]
BaseUrls = Annotated[list[str], AfterValidator(_addresses)]


class SettingsModel(BaseModel):
    """A group of settings: unknown names are refused and values never change after creation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SamplingFields(SettingsModel):
    """Sampling fields that every engine accepts; the engine without a model ignores all but the seed.

    A field that is not set is left to the engine; the defaults here say what engines then do.
    """

    model_config = ConfigDict(strict=True)

    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1)
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    seed: int = Field(0, ge=0, le=2**32 - 1)
    stop: str | list[str] = ""
    min_tokens: int = Field(0, ge=0)
    ignore_eos: bool = False
    repetition_detection: dict[str, Any] = Field(default_factory=dict)
    stop_token_ids: list[int] = Field(default_factory=list)
    include_stop_str_in_output: bool = False
    bad_words: list[str] = Field(default_factory=list)
    logit_bias: dict[str, float] = Field(default_factory=dict)
    allowed_token_ids: list[int] = Field(default_factory=list)
    structured_outputs: dict[str, Any] = Field(default_factory=dict)
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    thinking_token_budget: int = Field(0, ge=0)
    extra_args: dict[str, Any] = Field(default_factory=dict)


class EnhanceSettings(SettingsModel):
    """Settings of the asset enhanced_captions, written `enhance.NAME`."""

    enabled: bool = Field(True, description="Rewrite each kept caption. Off: the table has no enhanced caption.")
    model: str = Field("Qwen/Qwen3-14B", min_length=1, description="Text model. The signal engine uses its own.")
    revision: str | None = Field(None, description="Revision of the text model; resolved to a commit.")
    prompt_variant: Annotated[str, _one_of(ENHANCE_PROMPTS)] = Field(
        "default", description=f"Built-in prompt: {', '.join(ENHANCE_PROMPTS)}."
    )
    prompt_text: str | None = Field(None, description='Prompt of your own; wins over the variant, also when "".')
    max_output_tokens: int = Field(512, ge=1, le=32_768, description="Longest enhanced caption, in tokens.")
    model_batch_size: int = Field(128, ge=0, le=65_536, description="Captions in flight; 0 lets the engine decide.")
    fp8: bool = Field(False, description="Run the text model with weights of 8 bits.")
    vllm_kwargs: EngineKwargs = Field(default_factory=dict, description="As `vllm_kwargs`, for the text model.")
    base_urls: BaseUrls = Field(
        default_factory=list, description="Servers of the text model, where `openai.base_urls` do not serve it."
    )
    on_drift: Annotated[str, _one_of(ON_DRIFT)] = Field(
        "fallback",
        description="An enhanced caption that drifted from its source: keep (show it), flag (show it and say so) or "
        "fallback (show the caption itself and say so).",
    )
    drift_min_length_ratio: float = Field(
        0.5, ge=0, le=1, description="Drifted below so many times the words of the source."
    )
    drift_max_length_ratio: float = Field(
        5.0, ge=1, le=1000, description="Drifted above so many times the words of the source."
    )
    drift_max_lost: float = Field(
        0.5, ge=0, le=1, description="Drifted above this share of the source's content words that are lost."
    )


class ServerSettings(SettingsModel):
    """Settings of the engine `openai`, written `openai.NAME`."""

    base_urls: BaseUrls = Field(
        default_factory=lambda: ["http://127.0.0.1:8000/v1"],
        min_length=1,
        description="Servers of the same model, used in turn; each ends with /v1 as a rule.",
    )
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the key. The key is never stored."
    )
    timeout_s: float = Field(300.0, gt=0, le=86_400, description="Longest wait for one answer, in seconds.")
    max_retries: int = Field(
        6,
        ge=0,
        le=100,
        description="How often a request is sent again after 429, 5xx, a timeout or a broken connection.",
    )
    max_concurrency: int = Field(64, ge=1, le=65_536, description="Requests in flight.")
    frames_as: Annotated[str, _one_of(FRAMES_AS)] = Field(
        "auto",
        description="How frames travel: video (as vLLM takes the packed JPEGs), images, or auto (asks the server).",
    )


def _gate(name: str, default: Any = None) -> Any:
    """Return the field of a gate's parameter: its range and meaning are where the gate is, in retention/gates.py."""
    parameter = GATE_PARAMETERS[GATE_PREFIX + name]
    value = parameter.default if default is None else default
    return Field(value, ge=parameter.minimum, le=parameter.maximum, description=parameter.description)


class GateSettings(SettingsModel):
    """Thresholds of the gates that every candidate passes, written `gates.NAME`; docs/gates.md says why they are so."""

    min_words: int = _gate("min_words", 3)
    max_words: int = _gate("max_words")
    echo_words: int = _gate("echo_words")
    max_repeated_share: float = _gate("max_repeated_share")
    max_zlib_ratio: float = _gate("max_zlib_ratio")
    script: Annotated[str, _parsed_by(parse_scripts)] = _gate("script")
    max_foreign_share: float = _gate("max_foreign_share")
    same_caption: Annotated[str, _one_of(GATE_PARAMETERS[GATE_PREFIX + "same_caption"].choices)] = _gate("same_caption")
    same_words: int = _gate("same_words")
    same_distance: float = _gate("same_distance")

    @property
    def parameters(self) -> dict[str, Any]:
        """The thresholds under the names that `retention.decide` takes."""
        return {GATE_PREFIX + name: value for name, value in self.model_dump().items()}


class Settings(SettingsModel):
    """All settings. The names are the ones of the peers wherever a peer has the same thing."""

    # clips
    split: Annotated[str, _one_of(SPLITS)] = Field(
        "none",
        description="Clips of a file: none (the whole file), stride (equal lengths) or scenes (cuts found in the "
        "picture; needs `caption_assets[scenes]`).",
    )
    split_length_s: float = Field(10.0, gt=0, le=86_400, description="Seconds of a clip, where split is stride.")
    min_clip_length_s: float = Field(
        2.0,
        ge=0,
        le=86_400,
        description="Shortest clip in seconds, where split is on; a shorter joins a neighbour.",
    )
    max_clip_length_s: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="Longest clip in seconds, where split is scenes; a longer one is cut evenly.",
    )
    scene_threshold: float = Field(
        27.0, gt=0, le=255, description="Change of the picture that is a cut, where split is scenes; lower finds more."
    )

    # windows
    window_size: int = Field(256, ge=4, le=1_000_000, description="Frames in a full window.")
    remainder_threshold: int = Field(
        128, ge=1, le=1_000_000, description="A rest of at least so many frames is a window of its own."
    )
    sampling_fps: float = Field(2.0, gt=0, le=240, description="Sampled frames per second of video, 4 to 768 a window.")

    # which windows stand for the next ones
    dedupe_windows: Annotated[str, _one_of(DEDUPE_MODES)] = Field(
        "exact",
        description="Caption a window that looks like the one before it only once: off, exact (every sampled pixel is "
        "equal) or near (a still camera).",
    )
    dedupe_distance: float = Field(
        0.03, ge=0, le=0.25, description="near: share of perceptual hash bits that may differ, on average over frames."
    )

    # how a window looks to a model
    frame_quality: int = Field(95, ge=1, le=100, description="JPEG quality of the packed frames.")

    # captions
    model: Annotated[str, AfterValidator(lambda name: MODEL_ALIASES.get(name, name))] = Field(
        "Qwen/Qwen3-VL-8B-Instruct",
        min_length=1,
        description=f"Vision-language model; aliases: {', '.join(MODEL_ALIASES)}. The signal engine uses its own.",
    )
    revision: str | None = Field(None, description="Revision of the model; resolved to a commit before hashing.")
    prompt_variant: Annotated[str, _one_of(CAPTION_PROMPTS)] = Field(
        "default", description=f"Built-in prompt: {', '.join(CAPTION_PROMPTS)}."
    )
    prompt_text: str | None = Field(None, description='Prompt of your own; wins over the variant, also when "".')
    prompt_key: str | None = Field(
        None,
        min_length=1,
        description='Prompt per clip: the text of this key in its JSON sidecar, also ""; wins over both.',
    )
    system_prompt: str | None = Field(None, description="System turn put before the prompt.")
    caption_num: int = Field(1, ge=1, le=64, description="Candidates per window; above 1 needs temperature above 0.")
    sampling_params: Annotated[dict[str, Any], AfterValidator(_sampling_fields)] = Field(
        default_factory=lambda: {"temperature": 0.1, "top_p": 0.001, "repetition_penalty": 1.05},
        description=f"Sampling fields of the engine: {', '.join(SamplingFields.model_fields)}.",
    )
    max_output_tokens: int = Field(512, ge=1, le=32_768, description="Longest caption, in tokens.")
    model_dir: str | None = Field(
        None,
        description="Folder of weights, MODEL_DIR/<model>; what is missing is fetched into it. None: the hub's cache.",
    )
    fp8: bool = Field(False, description="Run the model with weights of 8 bits.")
    preprocess_dtype: Annotated[str, _one_of(PREPROCESS_DTYPES)] = Field(
        "uint8", description=f"Type in which frames are handed to the model: {', '.join(PREPROCESS_DTYPES)}."
    )
    model_does_preprocess: bool = Field(
        False, description="Let the model's own processor choose the size of frames again, with its own limits."
    )
    disable_mmcache: bool = Field(False, description="Keep no cache of processed frames in the engine.")
    caption_batch_size: int = Field(0, ge=0, le=65_536, description="Windows in flight; 0 lets the engine decide.")
    vllm_kwargs: EngineKwargs = Field(
        default_factory=dict,
        description="Any other field of the vLLM engine, such as max_model_len; `--engine-arg NAME=VALUE` sets one.",
    )
    generate_stage2_caption: bool = Field(False, description="Let the model see its first caption and refine it.")
    stage2_prompt_text: str = Field(STAGE2_PROMPT, description="What is asked in the second stage.")

    # retention
    keep_candidate_mode: Annotated[str, _parsed_by(parse_policy)] = Field(
        "random_any",
        description="Which candidates are kept: random_any, similar_one_simhash, all, first, longest, consensus, "
        "judge; `a > b` lets b break the ties of a.",
    )
    retention_seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the random policy.")
    keep_original_sample: bool = Field(
        True, description="Keep the caption of a sidecar (.txt, .json) as one more candidate."
    )

    gates: GateSettings = Field(default_factory=lambda: GateSettings.model_validate({}))
    enhance: EnhanceSettings = Field(default_factory=lambda: EnhanceSettings.model_validate({}))
    openai: ServerSettings = Field(default_factory=lambda: ServerSettings.model_validate({}))

    # previews
    target_fps: float = Field(1.0, gt=0, le=60, description="Preview frames per second of video.")
    target_height: int = Field(240, ge=16, le=4320, description="Preview height in pixels; never upscaled.")
    quality: int = Field(50, ge=0, le=100, description="Preview quality on the scale of WebP; 100 is the best.")
    compression_level: int = Field(4, ge=0, le=6, description="Preview effort: higher takes longer, for smaller files.")
    preview_format: Annotated[str, _one_of(PREVIEW_FORMATS)] = Field(
        "webp", description="webp, avif or mp4 (H.264); `caption-assets doctor` lists what this machine can write."
    )
    preview_source: Annotated[str, _one_of(PREVIEW_SOURCES)] = Field(
        "packed",
        description="packed: from the sampled frames. clip: decodes again where target_fps is above sampling_fps.",
    )

    # limits: a clip beyond them is quarantined, so the clip recipe holds them
    max_pixels: int = Field(8192 * 8192, ge=4096, description="Largest picture that is decoded, in pixels.")
    max_duration_s: float = Field(86_400.0, gt=0, description="Longest clip, in seconds.")
    max_frames: int = Field(2_000_000, ge=1, le=10_000_000, description="Most frames of a clip.")
    max_streams: int = Field(64, ge=1, le=1000, description="Most streams (pictures, sound, subtitles …) in a file.")
    # what one clip may cost: a machine with more of it may read a clip that another could not, so no recipe holds it
    clip_timeout_s: float = Field(600.0, gt=0, description="Longest time one clip may take to decode, in seconds.")
    worker_memory_mb: int = Field(
        8192, ge=1024, le=1_048_576, description="Address space of one worker process, in MiB."
    )
    # tuning: may not change a result
    workers: int = Field(0, ge=0, le=1024, description="Clips decoded at once; 0 is one for each core.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.caption_num > 1 and self.sampling_params.get("temperature", 1.0) == 0:
            raise ValueError("caption_num above 1 needs temperature above 0: at 0 all candidates are the same")
        if self.split == "stride" and self.split_length_s < self.min_clip_length_s:
            raise ValueError(
                f"split_length_s: must not be below min_clip_length_s, which is {self.min_clip_length_s:g} "
                f"(it is {self.split_length_s:g})"
            )
        if self.split == "scenes" and self.max_clip_length_s < 2 * self.min_clip_length_s:
            raise ValueError(
                "max_clip_length_s: must be twice min_clip_length_s or more, so that a long scene can be cut; allowed: "
                f"{2 * self.min_clip_length_s:g} or more (it is {self.max_clip_length_s:g})"
            )
        return self

    @property
    def frame_factor(self) -> int:
        """Side of a model's visual token in pixels: frames are packed at multiples of it."""
        return QWEN2_FACTOR if "qwen2" in self.model.lower() else QWEN3_FACTOR

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """Return the defaults with `caption_assets.toml` of `folder` (the current one by default) over them."""
        path = (folder or Path.cwd()) / SETTINGS_FILE
        if not path.is_file():
            return cls.of({})
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: not valid TOML: {error}") from error
        return cls.of(values, origin=str(path))

    @classmethod
    def of(cls, values: Mapping[str, object], origin: str = "settings") -> Self:
        """Validate `values` (nested mappings).

        Raises:
            SettingsError: one line per faulty setting, with its name, its value and what is allowed.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            lines = [f"{origin}: {_explain(fault, dict(setting_names()))}" for fault in error.errors()]
            raise SettingsError("\n".join(lines)) from None

    def with_overrides(self, assignments: Sequence[str]) -> Self:
        """Return these settings with `KEY=VALUE` strings applied.

        A dotted key reaches into a group (`enhance.enabled=false`, `sampling_params.temperature=0.7`). The value is
        read as JSON where it is JSON, else taken as text.
        """
        values = self.model_dump()
        for assignment in assignments:
            key, separator, text = assignment.partition("=")
            if not separator:
                raise SettingsError(f"--set {assignment}: write KEY=VALUE")
            _assign(values, key.strip(), _read_value(key.strip(), text))
        return type(self).of(values, origin="--set")


def engine_assignment(argument: str) -> str:
    """Return the assignment of a setting that `--engine-arg NAME=VALUE` stands for; NAME is spelled as vLLM does.

    Raises:
        SettingsError: it is no NAME=VALUE, or the name is that of no field.
    """
    name, separator, text = argument.partition("=")
    field = name.strip().removeprefix("--").replace("-", "_")
    if not separator or not field.isidentifier():
        raise SettingsError(
            f"--engine-arg {argument}: write NAME=VALUE, such as max-model-len=8192 or enforce-eager=true; a value "
            "with fields of its own is JSON"
        )
    return f"vllm_kwargs.{field}={text}"


def setting_names() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting as `(dotted name, field)`, in the order they are declared."""
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, SettingsModel):
            yield from ((f"{name}.{inner}", info) for inner, info in group.model_fields.items())
        else:
            yield name, field


def _assign(values: dict[str, Any], key: str, value: object) -> None:
    known = [name for name, _ in setting_names()]
    group, _, inner = key.partition(".")
    table, _, entry = key.rpartition(".")
    if table in TABLES_OF_VALUES:
        holder = values[group] if "." in table else values
        name = table.rpartition(".")[2]
        holder[name] = {**holder[name], entry: value}
    elif key not in known:
        raise SettingsError(f"--set {key}: no such setting.{_suggestion(key, known)}")
    elif inner:
        values[group] = {**values[group], inner: value}
    else:
        values[key] = value


def _read_value(key: str, text: str) -> object:
    field = dict(setting_names()).get(key)
    if field is not None and field.annotation is str:
        return text  # a prompt such as `true` or `12` stays a text
    if field is not None and field.annotation == (str | None):
        return None if text == "null" else text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _suggestion(value: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(value, known, n=1)
    return f" Did you mean {close[0]}?" if close else f" Known: {', '.join(known)}"


def _explain(fault: Any, fields: Mapping[str, FieldInfo]) -> str:
    """Return a fault as a sentence: the name, what is wrong, what is allowed, what it is."""
    name = ".".join(str(part) for part in fault["loc"] if part not in ("str", "list[str]"))
    if fault["type"] == "extra_forbidden":
        return f"{name}: no such setting.{_suggestion(name, list(fields))}"
    if fault["type"] == "value_error":
        message = str(fault["msg"]).removeprefix("Value error, ")
        return f"{name}: {message}" if name else message
    if name not in fields:
        return f"{name}: {fault['msg']} (it is {fault['input']!r})"
    kind, limits = KINDS.get(fields[name].annotation, "of the right kind"), _limits(fields[name])
    problem = "out of range" if fault["type"] in RANGE_FAULTS else f"must be {kind}"
    return f"{name}: {problem}{f'; allowed: {limits}' if limits else ''} (it is {fault['input']!r})"


def _limits(field: FieldInfo) -> str:
    """Return the allowed range of a field in words, or "" where it has none."""
    names = ("ge", "gt", "le", "min_length")
    limit = {name: getattr(rule, name) for rule in field.metadata for name in names if hasattr(rule, name)}
    if "min_length" in limit:
        return "any text but an empty one"
    low = f"above {limit['gt']}" if "gt" in limit else str(limit["ge"]) if "ge" in limit else ""
    if "le" in limit:
        return f"{low}, up to {limit['le']}" if "gt" in limit else f"{low} to {limit['le']}"
    return f"{low} or more" if "ge" in limit else low
