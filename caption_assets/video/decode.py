"""Decoding chosen frames of a clip, in one pass, and only those that came out clean.

Packets go to the decoder in file order, without those that no wanted frame needs (see `sparse`); where a wanted frame
does not come out of that, the stream is decoded whole, from its first packet to the last wanted frame. What a decoder
conceals (a damaged packet and every picture predicted from it, up to the next key frame) is never handed out: the
caller sees those frames missing.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import cast

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from caption_assets.settings.groups import ClipSettings
from caption_assets.video.demux import (
    UnreadableVideo,
    decode_packet,
    is_picture,
    open_clip,
    video_packets,
)
from caption_assets.video.probe import ClipFacts
from caption_assets.video.sparse import NO_PTS, SPARSE_CODECS, Feed, PacketIndex, plan_feed


def decode_frames(
    path: Path,
    facts: ClipFacts,
    wanted: Collection[int],
    limits: ClipSettings = ClipSettings(),  # noqa: B008 - frozen
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield (index, frame) for the wanted frames that decode cleanly, each once.

    They are ascending, but for those that only a second, whole decode gave: it yields them last.

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
    if not facts.by_pts:
        with open_clip(path, limits) as (container, stream):
            yield from _decode_by_order(video_packets(container, stream), stream, facts, wanted)
        return
    missing = set(wanted)
    for sparsely in (True, False):
        with open_clip(path, limits) as (container, stream):
            feeds = _plan(facts, stream, wanted) if sparsely else None
            if sparsely and feeds is None:
                continue
            packets = video_packets(container, stream)
            try:
                for index, frame in _decode_by_time(packets, stream, facts, frozenset(missing), feeds):
                    missing.discard(index)
                    yield index, frame
            except _NotAsIndexed:
                pass
        if not missing:
            return


def _plan(facts: ClipFacts, stream: VideoStream, wanted: frozenset[int]) -> bytes | None:
    """Return what to do with each packet, or None where all must be decoded.

    Times in the order of the file, although the decoder reorders, may be times of decoding that were passed off as
    those of presentation: only a whole decode can tell.
    """
    packets = facts.packets
    certain = packets.reorders or packets.has_both_times or not stream.codec_context.has_b_frames
    if facts.codec not in SPARSE_CODECS or not certain:
        return None
    return plan_feed(facts.packets, {facts.pts[index] for index in wanted})


class _NotAsIndexed(Exception):
    """The packets are not those that the feed was planned for."""


class TimesOutOfOrder(UnreadableVideo):
    """The packets carry decoding times as presentation times, so frames must be matched by their order instead."""


class _Damage:
    """Which frames depend on something broken.

    A group of pictures is a packet that decoding can start at and what follows it in the file. From a broken packet on,
    the rest of its group is suspect; so are the pictures of the next group that are shown before its first one, which
    refer to both groups.
    """

    def __init__(self) -> None:
        self._group = 0
        self._position = 0
        self._fed_pts: int | None = None
        self._start_pts: dict[int, int | None] = {}
        self._place: dict[int, tuple[int, int]] = {}  # pts -> group, position in the file; until the frame comes out
        self._broken_from: dict[int, int] = {}  # group -> first suspect position
        self._restart_pts: int | None = None

    @property
    def is_any(self) -> bool:
        """Whether anything was damaged so far."""
        return bool(self._broken_from)

    def feed(self, pts: int | None, starts_group: bool) -> None:
        """Note a packet on its way into the decoder."""
        self._position += 1
        self._fed_pts = pts
        if starts_group:
            self._group += 1
            self._start_pts[self._group] = pts
        if pts is not None:
            self._place[pts] = (self._group, self._position)

    def restart(self) -> None:
        """Note that the decoder begins anew with the packet fed last.

        What follows that packet and is shown before it lacks what it refers to: it comes out broken, and harms nothing.
        """
        self._restart_pts = self._fed_pts

    def broke(self, pts: int | None) -> None:
        """Note that the packet or frame at `pts` is damaged; None means the packet fed last."""
        pts = self._fed_pts if pts is None else pts
        if pts is not None and self._restart_pts is not None and pts < self._restart_pts:
            return
        here = (self._group, self._position)
        group, position = here if pts is None else self._place.get(pts, here)
        self._broken_from[group] = min(position, self._broken_from.get(group, position))

    def taints(self, pts: int) -> bool:
        """Tell whether the frame at `pts`, which just came out, is suspect; forgets the frame."""
        if pts not in self._place:
            return True  # a time that no packet has
        group, position = self._place.pop(pts)
        if position >= self._broken_from.get(group, position + 1):
            return True
        start_pts = self._start_pts.get(group)
        leads = start_pts is not None and pts < start_pts
        return leads and group - 1 in self._broken_from


def _decode_by_time(
    packets: "Iterator[Packet[VideoStream]]",
    stream: VideoStream,
    facts: ClipFacts,
    wanted: frozenset[int],
    feeds: bytes | None,
) -> Iterator[tuple[int, VideoFrame]]:
    """Match frames by their times. feeds: a `Feed` for each packet; None decodes them all."""
    index_of = {facts.pts[index]: index for index in wanted}
    last_pts = facts.pts[max(wanted)]
    last_out = NO_PTS
    damage = _Damage()
    context = stream.codec_context
    fed = _chosen(packets, context, facts.packets, feeds, damage) if feeds else _all(packets, facts.packets, damage)
    for packet in fed:
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
            if frame.pts < last_out and not facts.packets.reorders and not damage.is_any:
                raise TimesOutOfOrder("the frames are not in the order of their times")
            last_out = frame.pts
            index = index_of.pop(frame.pts, None)
            if clean and index is not None:
                yield index, frame
            if frame.pts >= last_pts:
                return


def _all(
    packets: "Iterator[Packet[VideoStream]]", known: PacketIndex, damage: _Damage
) -> "Iterator[Packet[VideoStream]]":
    starts = known.starts
    for position, packet in enumerate(packets):
        # A file that has changed since is beyond the index: its own marks must do.
        is_start = bool(starts[position]) if position < len(starts) else packet.is_keyframe
        damage.feed(packet.pts, bool(packet.size) and is_start)
        yield packet


def _chosen(
    packets: "Iterator[Packet[VideoStream]]",
    context: VideoCodecContext,
    known: PacketIndex,
    feeds: bytes,
    damage: _Damage,
) -> "Iterator[Packet[VideoStream]]":
    """Yield what is to be decoded; where something was left out, first an empty packet that brings out what is inside.

    After a gap the decoder begins anew, as after a seek: it would take the gap for damage, and conceal it.

    Raises:
        _NotAsIndexed: the packets are not those that `feeds` was planned for.
    """
    starts = known.starts
    is_gap = False
    for position, packet in enumerate(packets):
        if not packet.size:
            yield packet
            return
        if position >= len(feeds) or known.pts[position] != (NO_PTS if packet.pts is None else packet.pts):
            raise _NotAsIndexed
        damage.feed(packet.pts, bool(starts[position]))
        if feeds[position] == Feed.DROP:
            is_gap = True
            continue
        if is_gap:
            yield cast("Packet[VideoStream]", Packet())
            context.flush_buffers()
            damage.restart()
            is_gap = False
        context.skip_frame = "NONREF" if feeds[position] == Feed.REFERENCE else "DEFAULT"
        yield packet


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
