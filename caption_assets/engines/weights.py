"""Where a model's weights are, which revision they are, and how they get onto this host.

A model is a local path, or an id on the Hugging Face hub whose weights lie in `engine.model_dir` or in the hub's cache.
Its revision is known without reading the weights: the commit of what came from the hub, else a digest of the files.
A branch or a tag is looked up once a process, first among what is on this host: two runs do not differ because the
hub moved between them. To move on, name another revision.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from caption_assets.engines.protocol import EngineSpec, EngineUnavailable

WHOLE_BYTES = 1 << 26
"""Files up to this size (64 MiB) are digested whole."""
SLICES, SLICE_BYTES = 64, 1 << 16
"""Of larger files, this many slices of this size are digested, evenly spaced from the first byte to the last."""
UNREAD_SUFFIXES = (".md", ".png", ".jpg", ".jpeg", ".gif", ".mp4", ".pdf")
"""Files of a model folder that no engine reads."""
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
INVENTED = "dummy"
"""The `load_format` of vLLM that fills a model with random numbers: for benchmarks, a config is all it takes."""
NEVER_FETCHED = ("*.onnx", "onnx/*", "*.h5", "*.msgpack", "*.tflite", "*.ot", "original/*", "*.gguf")
"""Weights in formats that neither vLLM nor Transformers reads from a folder."""
FETCHED_NOTE = ".caption_assets.json"
"""Says, in a folder that was fetched, which commit it holds and what its digest was."""
COMMIT = re.compile(r"[0-9a-f]{40}")

log = logging.getLogger(__name__)


class WeightsError(EngineUnavailable):
    """A model cannot be had: it is not on this host and cannot be fetched. The message says what to do."""


@dataclass(frozen=True)
class Model:
    """A model with its revision fixed.

    id: of the hub, or the name of a local folder or file: a path is no identity.
    revision: the commit on the hub, or `sha256:…` of the files (see `digest_of`).
    path: folder or file of the weights, where they are on this host already.
    fetch_into: folder to fetch them into, None for the cache of the hub.
    """

    id: str
    revision: str
    path: Path | None
    fetch_into: Path | None = None


def locate(spec: EngineSpec) -> Model:
    """Return the model of `spec` with its revision, without fetching weights.

    Raises:
        WeightsError: it is neither here nor on the hub, or the hub cannot be asked.
    """
    return _locate(spec.model, spec.stage.revision, spec.engine.model_dir)


def fetch(spec: EngineSpec) -> Path:
    """Return the folder (or file) with the weights of `spec`; what is missing is fetched once for all processes.

    Raises:
        WeightsError: they cannot be fetched.
    """
    model = locate(spec)
    invents = spec.stage.vllm_kwargs.get("load_format") == INVENTED
    if model.path is not None and (invents or _is_complete(model.path)):
        return model.path
    if model.path is not None and not COMMIT.fullmatch(model.revision):
        raise WeightsError(
            f"{spec.model}: {model.path} holds no weights, or not every shard that its index names; copy the missing "
            f"files ({', '.join(WEIGHT_SUFFIXES)}) into it, or delete it if it came from the hub: it is fetched again"
        )
    place = model.fetch_into or _hub_cache()
    place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.parent / f".{place.name}.lock" if model.fetch_into else place / f".{_slug(model.id)}.lock")
    with lock:
        path = _snapshot(model)
    _locate.cache_clear()
    return path


def digest_of(path: Path) -> str:
    """Return `sha256:` and 32 hex digits of a model's files: names, sizes and bytes.

    Hidden files and files that no engine reads (read-me, pictures) do not count. Of a file above 64 MiB only 64 slices
    of 64 KiB are read, evenly spaced, the first and the last bytes among them: a folder of 17 GB takes a tenth of a
    second, and other weights of the same shape still differ.
    """
    digest = hashlib.sha256()
    for file in sorted(_files(path)):
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
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


def is_offline() -> bool:
    """Tell whether the user forbids asking the hub."""
    return any(
        os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


@cache
def _locate(model: str, revision: str | None, model_dir: str | None) -> Model:
    local = Path(model).expanduser()
    if local.exists():
        return Model(local.resolve().name, _digest_of_folder(local), local.resolve())
    if model.startswith(("/", ".", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model):
        raise WeightsError(f"{model}: no such folder of weights, and no id on the hub")
    if model_dir is None:
        commit = _commit(model, revision)
        return Model(model, commit, _cached_snapshot(model, commit))
    return _locate_in(Path(model_dir).expanduser(), model, revision)


def _locate_in(model_dir: Path, model: str, revision: str | None) -> Model:
    """Find the model below `model_dir`: the folder of its name, or `name@revision` where that holds another one."""
    plain = model_dir / model
    note = _note(plain)
    is_asked_for = revision is None or note.get("commit", "").startswith(revision) or revision == note.get("revision")
    folder = plain if is_asked_for else model_dir / f"{model}@{revision}"
    if _is_whole(folder):
        return Model(model, _digest_of_folder(folder), folder)
    folder = plain if revision is None else model_dir / f"{model}@{revision}"
    return Model(model, _commit(model, revision), None, folder)


def _digest_of_folder(path: Path) -> str:
    """Return the commit that a folder was fetched at, as long as nobody changed it, else the digest of its files."""
    digest = digest_of(path)
    note = _note(path)
    return note["commit"] if note.get("digest") == digest else digest


def _note(path: Path) -> dict[str, str]:
    try:
        note: dict[str, str] = json.loads((path / FETCHED_NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for file in path.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if file.is_file() and not hidden and file.suffix.lower() not in UNREAD_SUFFIXES:
            yield file


def _is_whole(folder: Path) -> bool:
    """Tell whether a folder of `model_dir` was fetched to the end, or filled by somebody.

    Else it is being fetched, or was when that was ended: who gets its lock goes on with it.
    """
    return bool(_note(folder)) or (folder.is_dir() and _is_complete(folder))


def _is_complete(path: Path) -> bool:
    """Tell whether weights are there, every shard that an index names among them."""
    if path.is_file():
        return True
    for index in path.glob("*.safetensors.index.json"):
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all((path / shard).is_file() for shard in shards)
    return any(file.suffix in WEIGHT_SUFFIXES for file in path.iterdir())


def _commit(model: str, revision: str | None) -> str:
    """Return the commit of a revision: what the cache of this host says, else what the hub says."""
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    reference = _hub_cache() / f"models--{model.replace('/', '--')}" / "refs" / (revision or "main")
    if reference.is_file():
        return reference.read_text(encoding="utf-8").strip()
    if is_offline():
        raise WeightsError(
            f"{model}: not on this host, and HF_HUB_OFFLINE forbids to fetch it; put its files into a folder and name "
            "that as the model, set engine.model_dir, or unset HF_HUB_OFFLINE"
        )
    hub = _hub()
    try:
        commit = hub.HfApi().model_info(model, revision=revision).sha
    except Exception as error:
        raise WeightsError(_why_not(model, revision, error)) from error
    return str(commit)


def _cached_snapshot(model: str, commit: str) -> Path | None:
    snapshot = _hub_cache() / f"models--{model.replace('/', '--')}" / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def _snapshot(model: Model) -> Path:
    hub = _hub()
    if is_offline():
        raise WeightsError(f"{model.id}: some of its weights are missing, and HF_HUB_OFFLINE forbids to fetch them")
    log.info("fetching %s at %s; this happens once on this host", model.id, model.revision)
    try:
        names = hub.list_repo_files(model.id, revision=model.revision)
        has_safetensors = any(name.endswith(".safetensors") for name in names)
        ignored = [*NEVER_FETCHED, *(("*.bin", "*.pt", "*.pth") if has_safetensors else ())]
        folder = Path(
            hub.snapshot_download(
                model.id, revision=model.revision, local_dir=model.fetch_into, ignore_patterns=ignored
            )
        )
    except Exception as error:
        raise WeightsError(_why_not(model.id, model.revision, error)) from error
    if model.fetch_into is not None:
        note = {"model": model.id, "commit": model.revision, "digest": digest_of(folder)}
        (folder / FETCHED_NOTE).write_text(json.dumps(note), encoding="utf-8")
    return folder


def _why_not(model: str, revision: str | None, error: Exception) -> str:
    kind = type(error).__name__
    at = f" at revision {revision}" if revision else ""
    if kind == "GatedRepoError":
        return f"{model}: its makers ask for consent on its page of the hub; give it there and set HF_TOKEN"
    if kind in ("RepositoryNotFoundError", "RevisionNotFoundError"):
        return f"{model}{at}: the hub has no such model (or it is private: set HF_TOKEN)"
    reason = str(error).strip().splitlines()
    why = f"{kind}: {reason[0] if reason else ''}"
    return f"{model}{at}: the hub cannot be reached ({why}); set engine.model_dir, or try again"


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME") or str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()


def _slug(model: str) -> str:
    return model.replace("/", "--")


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise WeightsError(
            "weights come from the hub, which needs the package huggingface_hub; install 'caption_assets[gpu]', "
            "'caption_assets[cpu]' or 'caption_assets[transformers]'"
        ) from error
    return huggingface_hub
