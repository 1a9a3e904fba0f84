"""Which packets of a clip have to be decoded to get chosen frames, and no others.

Most frames of a video are never looked at. Of those, pictures that nothing refers to need not be decoded, nor does
anything that follows the last wanted frame of a group of pictures. What is left gives the wanted frames bit for bit.
"""

from array import array
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import pairwise

NO_PTS = -(1 << 63)
"""Stands for the time of a packet that has none (AV_NOPTS_VALUE)."""

SPARSE_CODECS = frozenset(
    ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9", "mjpeg", "prores", "dnxhd")
)
"""Codecs of which the tests show the same pictures as from a full decode. Not AV1: with frames left out libdav1d gives
wrong pictures."""


@dataclass(frozen=True)
class PacketIndex:
    """The packets of a video stream in file order.

    pts: presentation time of each in the stream's time base, NO_PTS where it has none.
    is_key: 1 for each that the container marks as key. is_access: 1 for each of those that decoding can start at.
    has_both_times: the container keeps decoding times beside presentation times, and they differ.
    """

    pts: "array[int]"
    is_key: bytes
    is_access: bytes
    has_both_times: bool = False

    @cached_property
    def reorders(self) -> bool:
        """Whether the frames are shown in another order than they are stored in."""
        known = [pts for pts in self.pts if pts != NO_PTS]
        return any(after < before for before, after in pairwise(known))

    @property
    def starts(self) -> bytes:
        """1 for each packet that nothing after it reaches behind, as far as is known of the codec."""
        return self.is_access if any(self.is_access) else self.is_key


class Feed(IntEnum):
    """What the decoder is to do with a packet."""

    DROP = 0
    """Never sees it."""
    REFERENCE = 1
    """Decodes it if other frames refer to it."""
    WHOLE = 2
    """Decodes it."""


def plan_feed(packets: PacketIndex, wanted: Collection[int]) -> bytes:
    """Return a `Feed` for each packet, such that the frames at the times `wanted` come out exact.

    A group runs from one access packet to the next. After its last wanted frame a group is dropped, except where
    wanted leading pictures of the next group (shown before its access packet, stored after it: an open group) may refer
    to it. So whatever is dropped ends just before an access packet.

    wanted: presentation times, in the unit of the index.
    """
    wanted = frozenset(wanted)
    plan = bytearray(len(packets.pts))
    starts = [0, *(i for i in range(1, len(plan)) if packets.is_access[i])]
    is_wanted = [pts in wanted for pts in packets.pts]
    next_needs_this = False
    for group in range(len(starts) - 1, -1, -1):
        start = starts[group]
        end = starts[group + 1] if group + 1 < len(starts) else len(plan)
        last = end - 1 if next_needs_this else next((i for i in range(end - 1, start - 1, -1) if is_wanted[i]), -1)
        if last < start:
            next_needs_this = False
            continue
        starts_here = bool(packets.is_access[start])
        next_needs_this = starts_here and any(
            is_wanted[i] and packets.pts[i] < packets.pts[start] for i in range(start + 1, last + 1)
        )
        for i in range(start, last + 1):
            plan[i] = Feed.WHOLE if is_wanted[i] else Feed.REFERENCE
    return bytes(plan)
