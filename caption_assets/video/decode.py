"""Decoding chosen frames of a clip, in one pass, and only those that came out clean.

The whole stream is decoded from its first packet to the last wanted frame. What a decoder conceals (a damaged packet
and every picture predicted from it, up to the next key frame) is never handed out: the caller sees those frames
missing.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from caption_assets.video.demux import (
    ProbeLimits,
    UnreadableVideo,
    decode_packet,
    is_picture,
    open_clip,
    video_packets,
)
from caption_assets.video.probe import ClipFacts


def decode_frames(
    path: Path,
    facts: ClipFacts,
    wanted: Collection[int],
    limits: ProbeLimits = ProbeLimits(),  # noqa: B008 - frozen
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield (index, frame) for the wanted frames that decode cleanly, ascending, each once.

    The frames are as decoded: not turned, not scaled (`UprightScaler` does that). A wanted frame that does not come
    out cleanly is left out, so what is missing is `wanted` less what was yielded.

    Args:
        path: the clip that `facts` were probed from.
        facts: of the clip.
        wanted: indices of frames, 0 to facts.n_frames - 1, in any order.
        limits: those the clip was probed with.

    Raises:
        ValueError: a wanted index is not a frame of the clip.
        UnreadableVideo: the file cannot be read at all, or, where frames are placed by their order, the number of
            decoded frames is not the number of packets, so no frame already yielded is certain to be the right one.
        TimesOutOfOrder: facts.by_pts is not true of this file, so no frame already yielded is certain either; call
            again with by_pts=False.
    """
    wanted = frozenset(wanted)
    if not wanted:
        return
    if min(wanted) < 0 or max(wanted) >= facts.n_frames:
        raise ValueError(f"wanted frames {min(wanted)} to {max(wanted)}, allowed: 0 to {facts.n_frames - 1}")
    with open_clip(path, limits) as (container, stream):
        packets = video_packets(container, stream)
        by = _decode_by_time if facts.by_pts else _decode_by_order
        yield from by(packets, stream, facts, wanted)


class TimesOutOfOrder(UnreadableVideo):
    """The packets carry decoding times as presentation times, so frames must be matched by their order instead."""


class _Damage:
    """Which frames depend on something broken.

    A group of pictures is a key frame and what follows it in the file. From a broken packet on, the rest of its group
    is suspect; so are the pictures of the next group that are shown before its key frame, which refer to both groups.
    """

    def __init__(self) -> None:
        self._group = 0
        self._position = 0
        self._key_pts: dict[int, int | None] = {}
        self._place: dict[int, tuple[int, int]] = {}  # pts -> group, position in the file; until the frame comes out
        self._broken_from: dict[int, int] = {}  # group -> first suspect position

    @property
    def is_any(self) -> bool:
        """Whether anything was damaged so far."""
        return bool(self._broken_from)

    def feed(self, packet: "Packet[VideoStream]") -> None:
        """Note a packet on its way into the decoder."""
        self._position += 1
        if packet.is_keyframe:
            self._group += 1
            self._key_pts[self._group] = packet.pts
        if packet.pts is not None:
            self._place[packet.pts] = (self._group, self._position)

    def broke(self, pts: int | None) -> None:
        """Note that the packet or frame at `pts` is damaged; None means the packet fed last."""
        group, position = (
            self._place.get(pts, (self._group, self._position))
            if pts is not None
            else (
                self._group,
                self._position,
            )
        )
        self._broken_from[group] = min(position, self._broken_from.get(group, position))

    def taints(self, pts: int) -> bool:
        """Tell whether the frame at `pts`, which just came out, is suspect; forgets the frame."""
        if pts not in self._place:
            return True  # a time that no packet has
        group, position = self._place.pop(pts)
        if position >= self._broken_from.get(group, position + 1):
            return True
        key_pts = self._key_pts.get(group)
        leads = key_pts is not None and pts < key_pts
        return leads and group - 1 in self._broken_from


def _decode_by_time(
    packets: "Iterator[Packet[VideoStream]]", stream: VideoStream, facts: ClipFacts, wanted: frozenset[int]
) -> Iterator[tuple[int, VideoFrame]]:
    index_of = {facts.pts[index]: index for index in wanted}
    last_pts = facts.pts[max(wanted)]
    damage = _Damage()
    packets_reorder = False
    last_fed = last_out = -(1 << 63)
    for packet in packets:
        damage.feed(packet)
        if packet.pts is not None:
            packets_reorder = packets_reorder or packet.pts < last_fed
            last_fed = packet.pts
        if packet.is_corrupt:
            damage.broke(packet.pts)
        try:
            frames, complained = decode_packet(stream, packet)
        except (av.FFmpegError, EOFError) as error:
            if isinstance(error, MemoryError):
                raise
            damage.broke(packet.pts)
            continue
        if complained:
            damage.broke(packet.pts)
        for frame in frames:
            if frame.pts is None:
                continue
            if frame.is_corrupt:
                damage.broke(frame.pts)
            clean = not damage.taints(frame.pts)
            if frame.pts < last_out and not packets_reorder and not damage.is_any:
                raise TimesOutOfOrder("the frames are not in the order of their times")
            last_out = frame.pts
            index = index_of.pop(frame.pts, None)
            if clean and index is not None:
                yield index, frame
            if frame.pts >= last_pts:
                return
        if not packet.size:
            return


def _decode_by_order(
    packets: "Iterator[Packet[VideoStream]]", stream: VideoStream, facts: ClipFacts, wanted: frozenset[int]
) -> Iterator[tuple[int, VideoFrame]]:
    """Count frames as they come out. The first error makes the place of everything after it uncertain."""
    codec = stream.codec_context.name
    n_fed = n_out = 0
    for packet in packets:
        at_end = not packet.size or n_fed == facts.n_frames
        if packet.is_corrupt and not at_end:
            return
        n_fed += is_picture(packet, codec)
        try:
            frames, complained = decode_packet(stream, None if at_end else packet)
        except (av.FFmpegError, EOFError) as error:
            if isinstance(error, MemoryError):
                raise
            return
        if complained:
            return
        for frame in frames:
            if frame.is_corrupt:
                return
            if n_out in wanted:
                yield n_out, frame
            n_out += 1
        if at_end:
            break
    if n_out != facts.n_frames:
        raise UnreadableVideo(
            f"{facts.n_frames:,} packets gave {n_out:,} frames and the packets have no times, so no frame is certain; "
            "re-encode the video, for example as H.264 in MP4"
        )
