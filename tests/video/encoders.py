"""Two encoders that need care in tests: libx264 gives the same bytes for the same pictures, SVT-AV1 normal priority."""

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from av.container import OutputContainer


def repeatable(encoder: str, options: Mapping[str, str]) -> dict[str, str]:
    """Return the options of an encoder; libx264 gets one more, so that the same pictures give the same bytes.

    The AVX-512 code of libx264 in PyAV 18.1 reads memory that it never wrote: thirty pictures encoded sixteen times in
    one thread gave up to ten different streams. With AVX2 they gave one.
    """
    if encoder != "libx264" or not _has_avx512():
        return dict(options)
    given = options.get("x264-params")
    return {**options, "x264-params": "asm=AVX2" + (f":{given}" if given else "")}


def start_encoding(container: OutputContainer) -> None:
    """Open the encoders of a container and give every thread of this process normal priority again.

    SVT-AV1 takes real-time priority where it runs as root, for its own threads and for the one that opens it. One that
    spins then keeps everything else off its core.
    """
    container.start_encoding()
    threads = Path("/proc/self/task")
    for thread in (int(path.name) for path in threads.iterdir()) if threads.is_dir() else ():
        with suppress(ProcessLookupError, PermissionError):
            if os.sched_getscheduler(thread) == os.SCHED_FIFO:
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


@cache
def _has_avx512() -> bool:
    """Tell whether libx264 would use AVX-512 here. A processor that has it has AVX2 too."""
    try:
        return " avx512" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # not Linux
        return False
