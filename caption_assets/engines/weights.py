"""Where a model's weights lie, which revision they are, and how they reach this host.

A model is a local path or an id on the Hugging Face hub, whose weights lie in `engine.model_dir` or in the hub's cache.
Its revision is known without reading all the weights: the commit of what came from the hub, else a digest of the files.
A branch or a tag is resolved once per process and first on this host, so that two runs do not differ because the hub
moved between them. To move on, set another revision.
"""

import hashlib
import json
import logging
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from caption_assets.engines.protocol import EngineSpec, EngineUnavailable

WHOLE_BYTES = 1 << 26
"""Files up to this size (64 MiB) are digested whole."""
SLICES, SLICE_BYTES = 64, 1 << 16
"""Of a larger file, this many slices of this size are digested, evenly spaced from the first byte to the last."""
UNREAD_SUFFIXES = (".md", ".png", ".jpg", ".jpeg", ".gif", ".mp4", ".pdf")
"""Files of a model folder that no engine reads."""
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
NEVER_FETCHED = ("*.onnx", "onnx/*", "*.h5", "*.msgpack", "*.tflite", "*.ot", "original/*", "*.gguf")
"""Weights in formats that neither vLLM nor Transformers reads from a folder."""
NOTE = ".caption_assets.json"
"""Says in a fetched folder which commit it holds and, once all of it is there, the digest of its files."""
COMMIT = re.compile(r"[0-9a-f]{40}")
REMEDIES = {
    "GatedRepoError": "give the consent that its makers ask for on its page of the hub and set HF_TOKEN",
    "HFValidationError": "check the name of the model in the settings",
    "RepositoryNotFoundError": "check the name of the model in the settings, or set HF_TOKEN if it is private",
    "RevisionNotFoundError": "check its revision in the settings",
    "OfflineModeIsEnabled": "unset HF_HUB_OFFLINE",
}
"""What to do about an error of the hub, by its class."""

log = logging.getLogger(__name__)


class WeightsError(EngineUnavailable):
    """A model cannot be had: it is not on this host and cannot be fetched. The message says what to do."""


@dataclass(frozen=True)
class Model:
    """A model with its revision fixed.

    id: on the hub, or the name of a local folder or file; a path is no identity.
    revision: the commit on the hub, or `sha256:…` of the files (see `digest_of`).
    path: folder or file of the weights, None where they are not on this host.
    folder: where to fetch them, None for the cache of the hub.
    """

    id: str
    revision: str
    path: Path | None
    folder: Path | None = None


def locate(spec: EngineSpec) -> Model:
    """Return the model of `spec` with its revision, without fetching weights.

    Raises:
        WeightsError: the model is neither on this host nor on the hub, or the hub does not answer.
    """
    return _locate(spec.model, spec.stage.revision, spec.engine.model_dir)


def fetch(spec: EngineSpec) -> Path:
    """Return the folder (or file) with the weights of `spec`. What is missing is fetched once for all processes.

    Raises:
        WeightsError: they cannot be fetched.
    """
    model = locate(spec)
    needs_no_weights = spec.stage.vllm_kwargs.get("load_format") == "dummy"  # vLLM makes them up, for benchmarks
    if model.path is not None and (needs_no_weights or _is_complete(model.path)):
        return model.path
    if model.path is not None and not COMMIT.fullmatch(model.revision):
        raise WeightsError(
            f"{spec.model}: {model.path} holds no weights, or lacks a shard that its index names; copy the missing "
            f"files ({', '.join(WEIGHT_SUFFIXES)}) into it, or delete it if it came from the hub: it is fetched again"
        )
    path = _download(model)
    _locate.cache_clear()
    return path


def digest_of(path: Path) -> str:
    """Return `sha256:` and 32 hex digits of a model's files: names, sizes and bytes.

    Hidden files and files that no engine reads (read-me, pictures) do not count. Of a file above 64 MiB only 64 slices
    of 64 KiB are read, the first and the last bytes among them: a folder of 17 GB takes a tenth of a second, and other
    weights of the same shape still differ.
    """
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file()):
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        if path.is_dir() and (re.search(r"(^|/)\.", name) or file.suffix.lower() in UNREAD_SUFFIXES):
            continue
        size = file.stat().st_size
        digest.update(f"{name}\x1f{size}\x1f".encode())
        with file.open("rb") as stream:
            if size <= WHOLE_BYTES:
                digest.update(stream.read())
                continue
            for index in range(SLICES):
                stream.seek((size - SLICE_BYTES) * index // (SLICES - 1))
                digest.update(stream.read(SLICE_BYTES))
    return f"sha256:{digest.hexdigest()[:32]}"


@cache
def _locate(model: str, revision: str | None, model_dir: str | None) -> Model:
    local = Path(model).expanduser()
    if local.exists():
        return Model(local.resolve().name, _revision_of(local), local.resolve())
    if model.startswith(("/", ".", "~")):
        raise WeightsError(f"{model}: there is no such folder of weights; check the name of the model in the settings")
    if model_dir is None:
        commit, snapshot = _resolve(model, revision, None)
        return Model(model, commit, snapshot)
    folder = Path(model_dir).expanduser() / model
    if revision is not None and not _note(folder).get("commit", "").startswith(revision):
        folder = folder.with_name(f"{folder.name}@{revision}")
    note = _note(folder)
    # A note without a digest: the folder is being fetched, or was when that was interrupted.
    if "digest" in note or (not note and folder.is_dir() and _is_complete(folder)):
        return Model(model, _revision_of(folder), folder)
    commit, _ = _resolve(model, note.get("commit", revision), folder)
    return Model(model, commit, None, folder)


def _resolve(model: str, revision: str | None, folder: Path | None) -> tuple[str, Path | None]:
    """Return the commit of a revision and its folder in the hub's cache. The hub is asked if the cache cannot tell."""
    import huggingface_hub as hub

    try:
        try:
            cached = hub.snapshot_download(
                model, revision=revision, local_files_only=True, allow_patterns="config.json"
            )
            return Path(cached).name, Path(cached)
        except FileNotFoundError:
            if revision is not None and COMMIT.fullmatch(revision):
                return revision, None
            return str(hub.HfApi().model_info(model, revision=revision).sha), None
    except Exception as error:
        raise _not_to_be_had(model, revision, folder, error) from error


def _download(model: Model) -> Path:
    """Fetch what is missing of a model, and return its folder. The library locks files, resumes and retries."""
    import huggingface_hub as hub

    log.info("fetching %s at %s; this happens once on this host", model.id, model.revision)
    note = {"model": model.id, "commit": model.revision}
    try:
        files = hub.HfApi().model_info(model.id, revision=model.revision).siblings or ()
        has_safetensors = any(file.rfilename.endswith(".safetensors") for file in files)
        ignored = [*NEVER_FETCHED, *(("*.bin", "*.pt", "*.pth") if has_safetensors else ())]
        if model.folder is not None and not _note(model.folder):
            _write_note(model.folder, note)
        path = Path(
            hub.snapshot_download(model.id, revision=model.revision, local_dir=model.folder, ignore_patterns=ignored)
        )
    except Exception as error:
        raise _not_to_be_had(model.id, model.revision, model.folder, error) from error
    if model.folder is not None:
        _write_note(path, {**note, "digest": digest_of(path)})
    return path


def _revision_of(path: Path) -> str:
    """Return the commit that a folder was fetched at, as long as nobody changed it, else the digest of its files."""
    digest, note = digest_of(path), _note(path)
    return note["commit"] if note.get("digest") == digest else digest


def _note(folder: Path) -> dict[str, str]:
    try:
        note: dict[str, str] = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note


def _write_note(folder: Path, note: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{NOTE}.{os.getpid()}"
    temporary.write_text(json.dumps(note), encoding="utf-8")
    temporary.replace(folder / NOTE)


def _is_complete(path: Path) -> bool:
    """Tell whether weights are there, with every shard that an index names."""
    if path.is_file():
        return True
    for index in path.glob("*.safetensors.index.json"):
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all((path / shard).is_file() for shard in shards)
    return any(file.suffix in WEIGHT_SUFFIXES for file in path.iterdir())


def _not_to_be_had(model: str, revision: str | None, folder: Path | None, error: Exception) -> WeightsError:
    kind, reason = type(error).__name__, (str(error).strip().splitlines() or [""])[0]
    place = f"{model} at revision {revision}" if revision else model
    copy = f"put its files into {folder}" if folder else "name a folder that holds its files as the model"
    return WeightsError(
        f"{place}: not all of it is on this host, and the hub does not give it ({kind}: {reason}); "
        f"{REMEDIES.get(kind, 'try again')}, or {copy}"
    )
