"""One group of settings for each stage: names, defaults, allowed ranges and meanings.

A group is what the code of its stage takes, what the Dagster launchpad shows, and what the stage's recipe hashes. So a
new setting touches its group, the code that uses it, and a test. Mark it `Later` if it can change a result.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from caption_assets.retention import parse_policy
from caption_assets.retention.gates import GATE_PARAMETERS, GATE_PREFIX
from caption_assets.retention.script import parse_scripts
from caption_assets.settings.errors import explain, not_one_of
from caption_assets.settings.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS, STAGE2_PROMPT, Prompt, choose_prompt

MODEL_ALIASES = {
    "qwen": "Qwen/Qwen2.5-VL-7B-Instruct",
    "qwen2.5": "Qwen/Qwen2.5-VL-7B-Instruct",
    "qwen3": "Qwen/Qwen3-VL-8B-Instruct",
}
"""Short names that users of other tools type, and the model that each stands for."""

MANAGED_KWARGS: Mapping[str, str] = {
    "model": "model",
    "tokenizer": "model",
    "revision": "revision",
    "tokenizer_revision": "revision",
    "code_revision": "revision",
    "download_dir": "engine.model_dir",
    "quantization": "fp8",
    "mm_processor_cache_gb": "engine.disable_mmcache",
    "max_num_seqs": "caption.caption_batch_size",
    "limit_mm_per_prompt": "nothing: a request holds one video",
    "disable_log_stats": "nothing: the run's log has the figures",
}
"""Fields of the vLLM engine that another setting decides, and which one does."""

QWEN3_FACTOR = 32
QWEN2_FACTOR = 28

PACKETS_PER_FRAME = 2
"""Packets of the video stream for each displayed frame: codecs hide at most one reference a frame."""


@dataclass(frozen=True)
class Later:
    """Marks a setting that was added after its recipe existed.

    The recipe holds such a setting only where it differs from `first_default`, its default when it was added. So the
    new setting changes no id that is in a ledger.

        sharpness: Annotated[int, Later(["window"], first_default=0)] = Field(0, ge=0, description="…")
    """

    kinds: Collection[str]
    first_default: object


def _one_of(known: Iterable[str]) -> AfterValidator:
    names = tuple(known)

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(not_one_of(value, names))
        return value

    return AfterValidator(check)


def _parsed_by(parse: Callable[[str], object]) -> AfterValidator:
    """Refuse what `parse` refuses."""

    def check(value: str) -> str:
        parse(value)
        return value

    return AfterValidator(check)


def _server_urls(urls: list[str]) -> list[str]:
    for url in urls:
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query:
            raise ValueError(f"{parts.scheme}://{parts.hostname}…: put the key into an environment variable")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the address of a server; allowed: http://… or https://…")
    return urls


def _without_managed(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Refuse engine fields that another setting decides."""
    for name in kwargs:
        if name in MANAGED_KWARGS:
            raise ValueError(f"{name} is decided by {MANAGED_KWARGS[name]}; take it out of vllm_kwargs")
    return kwargs


def _sampling_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Refuse sampling fields that no engine has, or that are out of range."""
    try:
        return SamplingFields.model_validate(values).model_dump(exclude_unset=True)
    except ValidationError as error:
        sentences = (explain(each, SamplingFields.model_fields) for each in error.errors())
        raise ValueError("; ".join(dict.fromkeys(sentences))) from None


EngineKwargs = Annotated[dict[str, Any], AfterValidator(_without_managed)]
BaseUrls = Annotated[list[str], AfterValidator(_server_urls)]


class Group(BaseModel):
    """A group of settings. It refuses unknown names, and its values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SamplingFields(Group):
    """Sampling fields that every engine accepts; the engine `signal` ignores all but the seed.

    The engine decides a field that is not set; the defaults here say what engines then do.
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


class ClipSettings(Group):
    """The clips of a file, and the limits of a file that is read at all."""

    split: Literal["none", "stride", "scenes"] = Field(
        "none",
        description="Clips of a file: none (the whole file), stride (equal lengths) or scenes (split at cuts in the "
        "picture; needs `caption_assets[scenes]`).",
    )
    split_length_s: float = Field(10.0, gt=0, le=86_400, description="stride: length of a clip, in seconds.")
    min_clip_length_s: float = Field(
        2.0, ge=0, le=86_400, description="Shortest clip, in seconds; a shorter one joins a neighbour."
    )
    max_clip_length_s: float = Field(
        60.0, gt=0, le=86_400, description="scenes: longest clip, in seconds; a longer one is split evenly."
    )
    scene_threshold: float = Field(
        27.0, gt=0, le=255, description="scenes: change that counts as a cut; a lower value finds more."
    )
    max_pixels: int = Field(8192 * 8192, ge=4096, description="Largest picture that is decoded, in pixels.")
    max_duration_s: float = Field(86_400.0, gt=0, description="Longest file, in seconds.")
    max_frames: int = Field(2_000_000, ge=1, le=10_000_000, description="Most frames in a file.")
    max_streams: int = Field(64, ge=1, le=1000, description="Most streams in a file: video, sound, subtitles.")

    @property
    def max_packets(self) -> int:
        """Most packets of the video stream, displayed or not."""
        return PACKETS_PER_FRAME * self.max_frames

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if self.split == "stride" and self.split_length_s < self.min_clip_length_s:
            raise ValueError(
                f"split_length_s must not be below min_clip_length_s, which is {self.min_clip_length_s:g} "
                f"(it is {self.split_length_s:g})"
            )
        if self.split == "scenes" and self.max_clip_length_s < 2 * self.min_clip_length_s:
            raise ValueError(
                "max_clip_length_s must be at least twice min_clip_length_s, so that a long scene can be split; "
                f"allowed: {2 * self.min_clip_length_s:g} or more (it is {self.max_clip_length_s:g})"
            )
        return self


class WindowSettings(Group):
    """The windows of a clip, and the frames sampled from each."""

    window_size: int = Field(256, ge=4, le=1_000_000, description="Frames in a full window.")
    remainder_threshold: int = Field(
        128,
        ge=1,
        le=1_000_000,
        description="Frames left at the end of a clip that make a window of their own; fewer join the last window.",
    )
    sampling_fps: float = Field(2.0, gt=0, le=240, description="Sampled frames per second of video, 4 to 768 a window.")


class DedupeSettings(Group):
    """Windows that look like the one before them and show its captions."""

    mode: Literal["off", "exact", "near"] = Field(
        "exact",
        description="Caption windows that look alike only once: off, exact (every sampled pixel is equal) or near (a "
        "still camera).",
    )
    distance: float = Field(
        0.03,
        ge=0,
        le=0.25,
        description="near: share of perceptual hash bits that may differ, on average over the frames.",
    )


class CaptionSettings(Group):
    """What a vision-language model is asked about a window, and how the window looks to it."""

    purpose: ClassVar[Literal["caption"]] = "caption"

    model: Annotated[str, AfterValidator(lambda name: MODEL_ALIASES.get(name, name))] = Field(
        "Qwen/Qwen3-VL-8B-Instruct",
        min_length=1,
        description=f"Vision-language model; aliases: {', '.join(MODEL_ALIASES)}. The engine signal uses its own.",
    )
    revision: str | None = Field(None, description="Revision of the model; resolved to a commit.")
    prompt_variant: Annotated[str, _one_of(CAPTION_PROMPTS)] = Field(
        "default", description=f"Built-in prompt: {', '.join(CAPTION_PROMPTS)}."
    )
    prompt_text: str | None = Field(
        None, description='A prompt of your own; it replaces the built-in one, even when it is "".'
    )
    prompt_key: str | None = Field(
        None,
        min_length=1,
        description='A prompt for each clip: the text under this key in its JSON sidecar, even ""; it wins over both.',
    )
    system_prompt: str | None = Field(None, description="System turn put before the prompt.")
    caption_num: int = Field(1, ge=1, le=64, description="Candidates per window; above 1 needs temperature above 0.")
    sampling_params: Annotated[dict[str, Any], AfterValidator(_sampling_fields)] = Field(
        default_factory=lambda: {"temperature": 0.1, "top_p": 0.001, "repetition_penalty": 1.05},
        description=f"Sampling fields of the engine, also for enhancement: {', '.join(SamplingFields.model_fields)}.",
    )
    max_output_tokens: int = Field(512, ge=1, le=32_768, description="Longest caption, in tokens.")
    generate_stage2_caption: bool = Field(False, description="Have the model refine its first caption.")
    stage2_prompt_text: str = Field(STAGE2_PROMPT, description="What the second stage asks.")
    frame_quality: int = Field(95, ge=1, le=100, description="JPEG quality of the packed frames.")
    fp8: bool = Field(False, description="Run the model with 8-bit weights.")
    vllm_kwargs: EngineKwargs = Field(
        default_factory=dict,
        description="Any other field of the vLLM engine, such as max_model_len; `--engine-arg NAME=VALUE` sets one.",
    )
    caption_batch_size: int = Field(0, ge=0, le=65_536, description="Windows in flight; 0 lets the engine decide.")

    @property
    def frame_factor(self) -> int:
        """Side of the model's visual token in pixels: the sides of packed frames are multiples of it."""
        return QWEN2_FACTOR if "qwen2" in self.model.lower() else QWEN3_FACTOR

    @property
    def prompt(self) -> Prompt:
        """The prompt of a clip that has none of its own."""
        return choose_prompt(CAPTION_PROMPTS, self.prompt_variant, self.prompt_text)

    @property
    def max_in_flight(self) -> int | None:
        """Requests in flight; None lets the engine decide."""
        return self.caption_batch_size or None

    @property
    def seed(self) -> int | None:
        """The seed of the first candidate, if one is set."""
        value = self.sampling_params.get("seed")
        return value if isinstance(value, int) else None

    @property
    def engine_sampling(self) -> dict[str, Any]:
        """The sampling fields that engines get; a seed travels with each candidate."""
        return {name: value for name, value in self.sampling_params.items() if name != "seed"}

    def asking(self, prompt: str) -> Self:
        """Return these settings with another prompt text."""
        return self.model_copy(update={"prompt_text": prompt})

    @model_validator(mode="after")
    def _candidates_differ(self) -> Self:
        if self.caption_num > 1 and self.sampling_params.get("temperature", 1.0) == 0:
            raise ValueError("caption_num above 1 needs temperature above 0: at 0 all candidates are the same")
        return self


class RetentionSettings(Group):
    """The candidates of a window that are kept."""

    keep_candidate_mode: Annotated[str, _parsed_by(parse_policy)] = Field(
        "random_any",
        description="Policy that chooses the kept candidates: random_any, similar_one_simhash, all, first, longest, "
        "consensus, judge; with `a > b` b breaks the ties of a.",
    )
    retention_seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the random policy.")
    keep_original_sample: bool = Field(True, description="Add the caption of a sidecar (.txt, .json) as a candidate.")


def _gate(name: str, default: Any = None) -> Any:
    """Return the field of a gate's parameter; its range and meaning are declared in retention/gates.py."""
    parameter = GATE_PARAMETERS[GATE_PREFIX + name]
    value = parameter.default if default is None else default
    return Field(value, ge=parameter.minimum, le=parameter.maximum, description=parameter.description)


class GateSettings(Group):
    """Thresholds of the gates that every candidate must pass; docs/gates.md has the reasons."""

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
        return {GATE_PREFIX + name: value for name, value in self}


class EnhanceSettings(Group):
    """What a text model is asked about a kept caption, and what counts as drift."""

    purpose: ClassVar[Literal["enhance"]] = "enhance"

    enabled: bool = Field(True, description="Rewrite each kept caption.")
    model: str = Field("Qwen/Qwen3-14B", min_length=1, description="Text model; the engine signal uses its own.")
    revision: str | None = Field(None, description="Revision of the text model; resolved to a commit.")
    prompt_variant: Annotated[str, _one_of(ENHANCE_PROMPTS)] = Field(
        "default", description=f"Built-in prompt: {', '.join(ENHANCE_PROMPTS)}."
    )
    prompt_text: str | None = Field(
        None, description='A prompt of your own; it replaces the built-in one, even when it is "".'
    )
    max_output_tokens: int = Field(512, ge=1, le=32_768, description="Longest enhanced caption, in tokens.")
    model_batch_size: int = Field(128, ge=0, le=65_536, description="Captions in flight; 0 lets the engine decide.")
    fp8: bool = Field(False, description="Run the text model with 8-bit weights.")
    vllm_kwargs: EngineKwargs = Field(default_factory=dict, description="As `caption.vllm_kwargs`, for the text model.")
    base_urls: BaseUrls = Field(default_factory=list, description="Servers of the text model; none: openai.base_urls.")
    on_drift: Literal["keep", "flag", "fallback"] = Field(
        "fallback",
        description="What to do with an enhanced caption that drifted from its source: keep (show it), flag (show it "
        "and say so) or fallback (show the source and say so).",
    )
    drift_min_length_ratio: float = Field(
        0.5, ge=0, le=1, description="Drifted below this many times the words of the source."
    )
    drift_max_length_ratio: float = Field(
        5.0, ge=1, le=1000, description="Drifted above this many times the words of the source."
    )
    drift_max_lost: float = Field(0.5, ge=0, le=1, description="Drifted above this share of content words lost.")

    @property
    def prompt(self) -> Prompt:
        """The system turn of each request."""
        return choose_prompt(ENHANCE_PROMPTS, self.prompt_variant, self.prompt_text)

    @property
    def max_in_flight(self) -> int | None:
        """Requests in flight; None lets the engine decide."""
        return self.model_batch_size or None


class PreviewSettings(Group):
    """Small animations of windows (WebP), for people to look at."""

    target_fps: float = Field(1.0, gt=0, le=60, description="Frames of a preview per second of video.")
    target_height: int = Field(240, ge=16, le=4320, description="Height in pixels; never upscaled.")
    quality: int = Field(50, ge=0, le=100, description="Quality on the scale of WebP; 100 is the best.")
    compression_level: int = Field(4, ge=0, le=6, description="Effort: higher takes longer and makes smaller files.")


class EngineSettings(Group):
    """How models are run in this process."""

    model_dir: str | None = Field(
        None,
        description="Folder of weights, MODEL_DIR/<model>; missing ones are fetched into it. None: the hub's cache.",
    )
    preprocess_dtype: Literal["uint8", "float32", "float16", "bfloat16"] = Field(
        "uint8", description="Type in which the model gets frames: uint8, float32, float16, bfloat16."
    )
    model_does_preprocess: bool = Field(
        False, description="Let the model's own processor resize the frames again, within its own limits."
    )
    disable_mmcache: bool = Field(False, description="Keep no cache of processed frames in the engine.")


class OpenAISettings(Group):
    """Servers of the engine `openai`."""

    base_urls: BaseUrls = Field(
        default_factory=lambda: ["http://127.0.0.1:8000/v1"],
        min_length=1,
        description="Servers of the same model, used in turn; each usually ends with /v1.",
    )
    api_key_env: str = Field("OPENAI_API_KEY", description="Environment variable with the key, which is never stored.")
    timeout_s: float = Field(300.0, gt=0, le=86_400, description="Longest wait for an answer, in seconds.")
    max_retries: int = Field(6, ge=0, le=100, description="Retries after 429, 5xx, a timeout or a broken connection.")
    max_concurrency: int = Field(64, ge=1, le=65_536, description="Requests in flight.")
    frames_as: Literal["auto", "video", "images"] = Field(
        "auto",
        description="How frames travel: video (as vLLM takes the packed JPEGs), images, or auto (ask the server).",
    )


class DecodeSettings(Group):
    """Worker processes that read video. No recipe holds these: they change what is read in time, not what is read."""

    workers: int = Field(0, ge=0, le=1024, description="Files read at once; 0 means one for each core.")
    clip_timeout_s: float = Field(600.0, gt=0, description="Longest time for one file, in seconds.")
    worker_memory_mb: int = Field(8192, ge=1024, le=1_048_576, description="Address space of one process, in MiB.")
