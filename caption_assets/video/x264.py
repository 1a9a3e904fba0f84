"""What libx264 is told, whatever it encodes."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path


def repeatable(encoder: str, options: Mapping[str, str]) -> dict[str, str]:
    """Return the options of an encoder, for libx264 with one more: the same pictures then give the same bytes.

    Its AVX-512 code, as PyAV 18.1 brings it, reads memory that nobody wrote: thirty pictures that were encoded sixteen
    times in a process, by one thread, gave up to ten different streams, by AVX2 one.
    """
    if encoder != "libx264" or not _has_avx512():
        return dict(options)
    given = options.get("x264-params")
    return {**options, "x264-params": "asm=AVX2" + (f":{given}" if given else "")}


@cache
def _has_avx512() -> bool:
    """Tell whether x264 would use AVX-512 here. A processor that has it has AVX2 too."""
    try:
        return " avx512" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # not Linux
        return False
