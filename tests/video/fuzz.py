"""Damage many files, take each through the probe, the decoder and the packs in real workers, and report.

    make fuzz                            500 files, seed 0
    make fuzz FILES=2000 SEED=7
    python -m tests.video.fuzz --files 50 --keep /tmp/mutants

Exit status 1 when a file has no answer (its worker died or hung), or when a file that was only cut gave a frame that
is not its own.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from caption_assets.video.workers import WorkerFailure, map_clips
from tests.video.judging import Trial, Verdict, judge, truth_of
from tests.video.mutate import MUTATIONS, Mutant, make_mutants, make_sources

TIMEOUT_S = 60.0
MEMORY_BYTES = 4 << 30

Answers = list[tuple[Mutant, Verdict | WorkerFailure]]


def fuzz(folder: Path, sources: Sequence[Path], n_files: int, seed: int, kinds: Sequence[str] = MUTATIONS) -> Answers:
    """Return every damaged file with what became of it, in the order in which they were done."""
    sources = list(sources)
    truths = dict(map_clips(truth_of, sources, workers=_cores(), timeout_s=600))
    trials = (
        Trial(mutant, truths if mutant.kind == "splice" else {mutant.source: truths[mutant.source]}, folder / "packs")
        for mutant in make_mutants(sources, folder / "mutants", n_files, seed, kinds)
    )
    answers = map_clips(judge, trials, workers=_cores(), timeout_s=TIMEOUT_S, memory_bytes=MEMORY_BYTES)
    return [(trial.mutant, answer) for trial, answer in answers]


def faults(answers: Answers) -> list[str]:
    """Return what may never happen: no answer, an answer without a reason, a cut file with a frame not its own."""
    found = []
    for mutant, answer in answers:
        name = mutant.path.name
        if isinstance(answer, WorkerFailure):
            found.append(f"{name}: {answer.kind}: {answer.reason}")
            continue
        if answer.outcome != "ok" and not answer.reason:
            found.append(f"{name}: {answer.outcome} without a reason")
        if mutant.kind == "cut" and (answer.n_foreign or answer.n_misplaced):
            found.append(f"{name}: cut, {answer.n_foreign} foreign and {answer.n_misplaced} misplaced frames")
    return found


def report(answers: Answers) -> str:
    """Return two tables: outcomes per kind of damage, and frames that were damaged unseen, per source."""
    lines = [f"{'damage':10} {'files':>5} {'ok':>5} {'partial':>7} {'lost':>5} {'quar.':>5} {'none':>5} {'worst s':>8}"]
    for kind in dict.fromkeys(mutant.kind for mutant, _ in answers):
        those = [answer for mutant, answer in answers if mutant.kind == kind]
        n = Counter("none" if isinstance(a, WorkerFailure) else a.outcome for a in those)
        worst = max((a.seconds for a in those if isinstance(a, Verdict)), default=0.0)
        lines.append(
            f"{kind:10} {len(those):5} {n['ok']:5} {n['partial']:7} {n['lost']:5} {n['quarantined']:5} {n['none']:5} "
            f"{worst:8.2f}"
        )
    lines.append("")
    lines.append(f"{'source':32} {'files':>5} {'listed':>7} {'handed out':>10} {'foreign':>8} {'in files':>8}")
    by_source: dict[str, list[Verdict]] = defaultdict(list)
    for mutant, answer in answers:
        if isinstance(answer, Verdict):
            by_source[mutant.source.name].append(answer)
    for name, verdicts in sorted(by_source.items()):
        lines.append(
            f"{name:32} {len(verdicts):5} {sum(v.n_listed for v in verdicts):7} {sum(v.n_clean for v in verdicts):10} "
            f"{sum(v.n_foreign for v in verdicts):8} {sum(v.n_foreign > 0 for v in verdicts):8}"
        )
    reasons = Counter(a.reason for _, a in answers if isinstance(a, Verdict) and a.outcome == "quarantined")
    lines += ["", "reasons of quarantine:", *(f"{n:5}  {reason}" for reason, n in reasons.most_common(20))]
    lines.append(f"largest worker: {max((a.rss_mb for _, a in answers if isinstance(a, Verdict)), default=0)} MB")
    return "\n".join(lines)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, default=500, help="damaged files (default 500)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same files (default 0)")
    parser.add_argument("--keep", type=Path, help="leave the files in this folder")
    arguments = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        answers = fuzz(folder, make_sources(folder / "sources"), arguments.files, arguments.seed)
    print(report(answers))
    found = faults(answers)
    for fault in found:
        print(f"FAULT {fault}")
    print(f"{len(answers)} files, seed {arguments.seed}, {len(found)} faults, {time.monotonic() - start:.0f} s")
    return 1 if found or len(answers) != arguments.files else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
