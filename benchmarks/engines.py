"""How much of vLLM's own speed the platform keeps: output tokens a second, over `LLM.generate` on the same inputs.

    python -m benchmarks.engines                                       the tiny checkpoint, on the CPU build of vLLM
    python -m benchmarks.engines --shape qwen3-vl-8b --random-weights  a GPU: the real shape, weights made up
    python -m benchmarks.engines --processor                           what the model's processor takes for a window

Both sides get windows ready made: `LLM.generate` arrays of pixels and prompts, the engine of the platform packed JPEGs
and messages, so that reading JPEGs, rendering prompts and handing over completions count against the platform. Every
answer has the same number of tokens (`ignore_eos`), since random weights never stop by themselves. Each round has
windows of its own, the same for both sides, so that no cache is warm. On a CPU both engines are loaded and take turns;
on a GPU they are loaded one after the other, since each fills it.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import simplejpeg

from caption_assets.cores import usable_cores
from caption_assets.engines.devices import has_cuda
from caption_assets.engines.dispatcher import stream
from caption_assets.engines.families import FrameShape, family_of
from caption_assets.engines.protocol import EngineSpec, Message, PackedFrames, Request
from caption_assets.engines.vllm import VllmEngine, frames_metadata
from caption_assets.engines.vllm_arguments import (
    engine_arguments,
    installed_version,
    prepare_environment,
    processor_threads,
    sampling_params,
)
from caption_assets.settings.groups import CaptionSettings
from caption_assets.video.budget import fit_resolution

PROMPT = "Describe the video in detail: what is seen, and the story it tells."
SAMPLING = {"temperature": 0.7, "top_p": 0.95, "ignore_eos": True}
FACTOR = 32
NVIDIA_SMI = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
SHAPES = ("tiny", "qwen3-vl-8b")


@dataclass(frozen=True)
class Load:
    """What is asked: windows a round, frames of a window, their size in pixels, candidates and tokens of an answer."""

    windows: int
    frames: int
    height: int
    width: int
    candidates: int
    max_tokens: int


@dataclass
class Tally:
    """What one side did, per round."""

    seconds: list[float] = field(default_factory=list)
    output_tokens: list[int] = field(default_factory=list)
    prompt_tokens: list[int] = field(default_factory=list)
    gpu_busy: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    @property
    def output_rates(self) -> list[float]:
        """Output tokens a second."""
        return [tokens / seconds for tokens, seconds in zip(self.output_tokens, self.seconds, strict=True)]


Side = Callable[[int], tuple[int, int]]
"""Answers the windows of a round and returns (prompt tokens, output tokens)."""


def main() -> None:
    """Run both sides and print a table."""
    arguments = _arguments()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    prepare_environment()
    load = _load_of(arguments)
    with tempfile.TemporaryDirectory() as folder:
        spec = _spec(arguments, _checkpoint(arguments, Path(folder)))
        if arguments.processor:
            processor(spec, load, arguments.rounds)
            return
        # Both are made first on a CPU, so that they take turns; on a GPU one has it after the other.
        sides = (lambda: plain_vllm(spec, load), lambda: platform(spec, load))
        tallies = (in_turn if not has_cuda() else one_after_the_other)(sides, arguments.rounds)
    report(arguments, load, *tallies)


@contextlib.contextmanager
def plain_vllm(spec: EngineSpec, load: Load) -> Iterator[Side]:
    """`LLM.generate` with the same engine fields, on arrays of pixels and rendered prompts."""
    from vllm import LLM

    path = Path(spec.model)
    family = family_of(path)
    assert family is not None
    fields = engine_arguments(spec, path, family, on_cpu=not has_cuda())
    before = set(psutil.Process().children(recursive=True))
    llm = LLM(**fields)
    tokenizer = llm.get_tokenizer()
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": PROMPT}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    options = family.processor_options(FrameShape(load.frames, load.height, load.width))

    def answer(number: int) -> tuple[int, int]:
        inputs, params = [], []
        for window, frames in enumerate(packed_windows(load, number)):
            for seed in seeds_of(load, window):
                inputs.append(
                    {
                        "prompt": text,
                        "multi_modal_data": {"video": [(decoded(frames), frames_metadata(frames))]},
                        "mm_processor_kwargs": options,
                    }
                )
                params.append(sampling_params(SAMPLING, seed, load.max_tokens))
        with timed(answer):
            made = llm.generate(inputs, params, use_tqdm=False)
        return sum(len(m.prompt_token_ids) for m in made), sum(len(m.outputs[0].token_ids) for m in made)

    answer.clock = []  # type: ignore[attr-defined]
    answer.processes = set(psutil.Process().children(recursive=True)) - before  # type: ignore[attr-defined]
    yield answer
    llm.llm_engine.engine_core.shutdown()


@contextlib.contextmanager
def platform(spec: EngineSpec, load: Load) -> Iterator[Side]:
    """The engine of the platform, on packed frames and messages."""
    before = set(psutil.Process().children(recursive=True))
    engine = VllmEngine(spec, {})

    def answer(number: int) -> tuple[int, int]:
        requests = requests_of(load, number)
        with timed(answer):
            made = list(stream(engine, requests))
        faults = [completion.error for completion in made if completion.error]
        if faults:
            raise SystemExit(f"the engine failed: {faults[0]}")
        return sum(c.prompt_tokens or 0 for c in made), sum(c.output_tokens or 0 for c in made)

    answer.clock = []  # type: ignore[attr-defined]
    answer.processes = set(psutil.Process().children(recursive=True)) - before  # type: ignore[attr-defined]
    try:
        yield answer
    finally:
        engine.close()


def processor(spec: EngineSpec, load: Load, rounds: int) -> None:
    """Print what the model's processor takes for a window, with one thread and with more: vLLM has one queue for it."""
    from caption_assets.engines import vllm

    vllm.MOST_PROCESSOR_THREADS = 1  # here each number is set by itself
    os.environ.pop("OMP_NUM_THREADS", None)
    engine = VllmEngine(spec, {})
    prompts = [engine._prepare(request).inputs for request in requests_of(load, 0)]
    cores = usable_cores()
    print(f"{load.frames} frames of {load.width}x{load.height}, vLLM {installed_version()}, {cores} cores\n")
    try:
        for threads in sorted({1, 2, 4, 8, cores} & set(range(1, cores + 1))):
            taken = []
            with processor_threads(threads):
                for number in range(rounds + 1):
                    for prompt in prompts:
                        fresh = {**prompt, "multi_modal_uuids": {"video": [f"{threads}/{number}/{len(taken)}"]}}
                        started = time.perf_counter()
                        engine._portal.call(engine._render, fresh)
                        taken.append(time.perf_counter() - started)
            warm = taken[len(prompts) :]
            print(f"{threads} threads: {1000 * statistics.median(warm):.0f} ms a window")
    finally:
        engine.close()


def requests_of(load: Load, number: int) -> list[Request]:
    """Return the requests of a round."""
    messages = [Message("user", PROMPT, with_video=True)]
    return [
        Request(f"{number}/{window}", "caption", messages, seeds_of(load, window), load.max_tokens, SAMPLING, frames)
        for window, frames in enumerate(packed_windows(load, number))
    ]


@contextlib.contextmanager
def timed(side: Any) -> Iterator[None]:
    """Add (seconds, CPU seconds of this process and of the side's own) to the side's clock."""
    started, used = time.perf_counter(), _cpu_s(side)
    yield
    side.clock.append((time.perf_counter() - started, _cpu_s(side) - used))


def _cpu_s(side: Any) -> float:
    times = [process.cpu_times() for process in (psutil.Process(), *side.processes)]
    return sum(each.user + each.system for each in times)


def in_turn(sides: Sequence[Callable[[], Any]], rounds: int) -> list[Tally]:
    """Load both sides and let them take turns, so that a busy machine is busy for both."""
    tallies = [Tally() for _ in sides]
    with contextlib.ExitStack() as stack:
        answers = [stack.enter_context(side()) for side in sides]
        for number in range(rounds + 1):
            for answer, tally in zip(answers, tallies, strict=True):
                _measure(answer, tally, number)
    return tallies


def one_after_the_other(sides: Sequence[Callable[[], Any]], rounds: int) -> list[Tally]:
    """Load one side, let it do all its rounds, then the other."""
    tallies = []
    for side in sides:
        tally = Tally()
        with side() as answer:
            for number in range(rounds + 1):
                _measure(answer, tally, number)
        tallies.append(tally)
    return tallies


def _measure(answer: Any, tally: Tally, number: int) -> None:
    """Run a round and write it down; round 0 only warms up."""
    with gpu_samples() as samples:
        prompt_tokens, output_tokens = answer(number)
    if number == 0:
        return
    seconds, cpu_s = answer.clock[-1]
    tally.cpu_s.append(cpu_s)
    tally.seconds.append(seconds)
    tally.prompt_tokens.append(prompt_tokens)
    tally.output_tokens.append(output_tokens)
    busy = _between_first_and_last(samples)
    if busy:
        tally.gpu_busy.append(statistics.fmean(busy))


def _between_first_and_last(samples: Sequence[float]) -> list[float]:
    """Return the samples from the first to the last in which the GPU did anything."""
    working = [position for position, busy in enumerate(samples) if busy > 0]
    return list(samples[working[0] : working[-1] + 1]) if working else []


@contextlib.contextmanager
def gpu_samples() -> Iterator[list[float]]:
    """Percent of the time that kernels ran on the first GPU, five times a second; nothing where there is none."""
    samples: list[float] = []
    if not has_cuda():
        yield samples
        return
    process = subprocess.Popen(NVIDIA_SMI, stdout=subprocess.PIPE, text=True)

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError):
                samples.append(float(line))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield samples
    finally:
        process.terminate()
        process.wait()
        reader.join()


def packed_windows(load: Load, number: int) -> list[PackedFrames]:
    """Return the windows of a round: coarse moving noise, which a JPEG keeps about as small as film."""
    windows = []
    for window in range(load.windows):
        rng = np.random.default_rng((number, window))
        blocks = rng.integers(0, 255, (load.frames, load.height // 16, load.width // 16, 3), dtype=np.uint8)
        pictures = np.ascontiguousarray(blocks.repeat(16, 1).repeat(16, 2))
        jpegs = [simplejpeg.encode_jpeg(picture, quality=95) for picture in pictures]
        windows.append(PackedFrames(jpegs, [0.5 * i for i in range(load.frames)], load.width, load.height))
    return windows


def decoded(frames: PackedFrames) -> Any:
    """Return the frames as an array of pixels."""
    return np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in frames.jpegs])


def seeds_of(load: Load, window: int) -> list[int]:
    """Return the seeds of a window's candidates."""
    return [1000 * window + index for index in range(load.candidates)]


def report(arguments: argparse.Namespace, load: Load, plain: Tally, ours: Tally) -> None:
    """Print what was asked, a table of medians, and the ratio."""
    print(
        f"{arguments.shape}: {load.windows} windows a round, {load.frames} frames of {load.width}x{load.height}, "
        f"{load.candidates} candidates of {load.max_tokens} tokens, medians of {arguments.rounds} rounds; "
        f"vLLM {installed_version()} on {_device()}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n"
    )
    print("| | windows/s | prompt tokens/s | output tokens/s | CPU ms a window | GPU busy |")
    print("|---|---|---|---|---|---|")
    for name, tally in (("`LLM.generate`", plain), ("the platform's engine", ours)):
        seconds = statistics.median(tally.seconds)
        busy = f"{statistics.median(tally.gpu_busy):.0f} %" if tally.gpu_busy else "-"
        print(
            f"| {name} | {load.windows / seconds:.2f} | {statistics.median(tally.prompt_tokens) / seconds:,.0f} | "
            f"{statistics.median(tally.output_rates):,.0f} | "
            f"{1000 * statistics.median(tally.cpu_s) / load.windows:.0f} | {busy} |"
        )
    ratios = [a / b for a, b in zip(ours.output_rates, plain.output_rates, strict=True)]
    print(f"\nratio {statistics.median(ratios):.3f} (rounds: {', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    used = [a / b for a, b in zip(plain.cpu_s, ours.cpu_s, strict=True)]
    print(f"ratio by CPU time {statistics.median(used):.3f} (rounds: {', '.join(f'{ratio:.2f}' for ratio in used)})")
    if arguments.json:
        figures = {"shape": arguments.shape, "ratio": statistics.median(ratios), "load": vars(load)}
        sides = {"plain": vars(plain), "platform": vars(ours)}
        arguments.json.write_text(json.dumps({**figures, **sides}, indent=1), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--random-weights", action="store_true", help="needed for qwen3-vl-8b: no weights are read")
    parser.add_argument("--processor", action="store_true", help="measure only the model's processor")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--windows", type=int, help="windows a round (96; on the 8B shape 128)")
    parser.add_argument("--frames", type=int, help="frames of a window (8; on the 8B shape 18)")
    parser.add_argument("--size", type=_size, help="WIDTHxHEIGHT of frames (448x256; on the 8B shape 1080p's budget)")
    parser.add_argument("--candidates", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, help="tokens of every answer (48; on the 8B shape 256)")
    parser.add_argument("--engine-arg", action="append", default=[], metavar="NAME=JSON", help="field of the engine")
    parser.add_argument("--json", type=Path, help="file for the figures of every round")
    arguments = parser.parse_args()
    if arguments.shape != "tiny" and not arguments.random_weights:
        parser.error("--shape qwen3-vl-8b reads no weights; say --random-weights")
    return arguments


def _size(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    if width % FACTOR or height % FACTOR:
        raise argparse.ArgumentTypeError(f"both sides must be multiples of {FACTOR}, not {text}")
    return width, height


def _load_of(arguments: argparse.Namespace) -> Load:
    tiny = arguments.shape == "tiny"
    frames = arguments.frames or (8 if tiny else 18)
    width, height = arguments.size or (
        (448, 256) if tiny else reversed(fit_resolution(1080, 1920, frames, factor=FACTOR))
    )
    return Load(
        arguments.windows or (96 if tiny else 128),
        frames,
        height,
        width,
        arguments.candidates,
        arguments.max_tokens or (48 if tiny else 256),
    )


def _spec(arguments: argparse.Namespace, checkpoint: Path) -> EngineSpec:
    fields: dict[str, object] = {"max_model_len": 8192} if arguments.shape == "tiny" else {"load_format": "dummy"}
    for assignment in arguments.engine_arg:
        name, _, value = assignment.partition("=")
        fields[name] = json.loads(value)
    return EngineSpec(CaptionSettings(model=str(checkpoint), vllm_kwargs=fields))


def _checkpoint(arguments: argparse.Namespace, folder: Path) -> Path:
    from tests.engines.tiny_checkpoint import make_checkpoint, make_shape_of_qwen3_vl_8b

    return make_checkpoint(folder) if arguments.shape == "tiny" else make_shape_of_qwen3_vl_8b(folder)


def _device() -> str:
    if not has_cuda():
        return "the CPU"
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
