"""What a clip is: one pass over its packets, and its first frame decoded.

Times, counts and shapes come from what is in the file, not from what its header promises: headers are wrong or silent
on a third of real files.
"""

import math
import statistics
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from caption_assets.settings.groups import ClipSettings
from caption_assets.video.container import declared_size
from caption_assets.video.demux import (
    UnreadableVideo,
    describe_error,
    is_picture,
    open_clip,
    video_packets,
)
from caption_assets.video.random_access import is_random_access
from caption_assets.video.sparse import NO_PTS, PacketIndex

__all__ = ["ClipFacts", "UnreadableVideo", "probe_clip"]

FALLBACK_FPS = Fraction(25)
"""Frames a second of a stream that gives neither times nor a rate."""

MAX_PACKETS_TO_FIRST_FRAME = 1000
"""Packets fed to the decoder before a stream without a first frame is given up."""

TIME_STEP_TOLERANCE_S = 0.00105
"""Seconds. WebM rounds times to milliseconds, so steps of a constant rate differ by up to one."""

STEP_TOLERANCE = 0.1
"""Share of the usual step by which steps may differ at a constant rate: jitter of a clock, far below a lost frame."""

STREAMED_CONTAINERS = frozenset(("mpeg", "mpegts"))
"""Containers in which a cut packet looks like a whole one."""

CONTAINERS_WITH_DTS = frozenset(("mov,mp4,m4a,3gp,3g2,mj2", "mpeg", "mpegts"))
"""Containers that store decoding times beside presentation times; for the others the library makes them up."""

GUESSED_PTS = frozenset((("avi", "h264"), ("avi", "hevc")))
"""Container and codec where the library invents presentation times in the order of decoding: AVI stores none, and
pictures of these codecs are reordered."""

COLOR_SPACES = {
    0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m",
    8: "ycgco", 9: "bt2020nc", 10: "bt2020c", 14: "ictcp",
}  # fmt: skip
COLOR_PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film",
    9: "bt2020", 10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
COLOR_TRANSFERS = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100", 10: "log316",
    11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084",
    17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip
COLOR_RANGES = {1: "limited", 2: "full"}
"""Names of ISO/IEC 23091-2 code points, as ffprobe prints them; the rest is "unspecified"."""

UNREADABLE_MATRICES = frozenset((8, 11, 14, 15, 16, 17))
"""YCgCo and its lossless kinds, Y'D'zD'x, ICtCp, IPT-C2 (Dolby Vision without a base layer): no Y'CbCr of any RGB."""

HDR_TRANSFERS = frozenset(("smpte2084", "arib-std-b67"))


@dataclass(frozen=True)
class ClipFacts:
    """What is true of a clip's video stream.

    container, codec, pix_fmt: names of the library.
    n_frames: frames that are displayed.
    pts: ascending presentation times in `time_base`, one per frame.
    packets: what the file holds in its own order, to plan which of it is decoded.
    time_base: seconds of one unit of `pts`.
    by_pts: whether decoded frames carry the times in `pts`; else they match by their order of output.
    first_pts_s: seconds on the container's clock at which the first frame is shown.
    duration_s: seconds from the first frame to the end of the last one.
    fps: average frames a second, (n - 1) / (last time - first time); the stream's rate for a single frame.
    is_vfr: frame times are uneven beyond the rounding of the container.
    width, height: of the decoded picture, in its own pixels.
    rotation: degrees clockwise (0, 90, 180, 270) that turn the decoded picture upright, after `mirrored`.
    mirrored: the decoded picture is to be flipped left to right before it is turned.
    sample_aspect_ratio: width over height of one pixel of the decoded picture.
    display_width, display_height: of the upright picture with square pixels.
    bit_depth: bits of one component.
    interlaced: of the first frame.
    n_key_frames: among the displayed frames.
    declared_frames: what the header promises, 0 where it does not.
    bytes: size of the file.
    flags: names of what is unusual. notes: one sentence on each flag that needs words.
    """

    container: str
    codec: str
    pix_fmt: str
    n_frames: int
    pts: tuple[int, ...]
    packets: PacketIndex
    time_base: Fraction
    by_pts: bool
    first_pts_s: float
    duration_s: float
    fps: float
    is_vfr: bool
    width: int
    height: int
    rotation: int
    mirrored: bool
    sample_aspect_ratio: Fraction
    display_width: int
    display_height: int
    color_range: str
    color_space: str
    color_primaries: str
    color_transfer: str
    bit_depth: int
    interlaced: bool
    has_audio: bool
    n_key_frames: int
    declared_frames: int
    bytes: int
    flags: tuple[str, ...]
    notes: tuple[str, ...]

    @cached_property
    def times_s(self) -> tuple[float, ...]:
        """Seconds of every frame from the clip's first frame, ascending."""
        first, numerator, denominator = self.pts[0], self.time_base.numerator, self.time_base.denominator
        return tuple((pts - first) * numerator / denominator for pts in self.pts)


@dataclass(frozen=True)
class _Picture:
    """A packet that is displayed, as the container describes it; times in the stream's time base."""

    pts: int | None
    dts: int | None
    duration: int
    is_key: bool
    is_corrupt: bool


@dataclass(frozen=True)
class _Timeline:
    """Presentation times of the frames. `last_duration` is that of the last frame, 0 where unknown."""

    pts: tuple[int, ...]
    by_pts: bool
    n_key_frames: int
    last_duration: int


def probe_clip(path: Path, limits: ClipSettings = ClipSettings()) -> ClipFacts:  # noqa: B008 - frozen
    """Read what is true of the clip at `path`.

    A file that was cut but whose index survives gives the frames that are wholly there, and the flag "truncated".

    Raises:
        UnreadableVideo: no frame of it can be used, or it is over a limit; the message is for its uploader.
    """
    with open_clip(path, limits) as (container, stream):
        size = path.stat().st_size
        promised = declared_size(path) or 0
        pictures, packets, first = _read_pictures(container, stream, limits)
        cut = promised > size
        n_read = len(pictures)
        whole = _without_cut_tail(pictures, cut and container.format.name in STREAMED_CONTAINERS)
        has_pts = (container.format.name, stream.codec_context.name) not in GUESSED_PTS
        if cut and container.format.name == "avi":
            whole = _without_uncertain_tail(whole, has_pts, stream.codec_context.has_b_frames)
        if first is None:
            raise UnreadableVideo("no frame of the video can be decoded; re-encode it, for example as H.264 in MP4")
        if not whole:
            raise UnreadableVideo("the file is cut and no frame of what is left is certain; upload it again")
        rate = _stream_rate(stream)
        timeline = _timeline(whole, first.pts, has_pts, rate, _time_base(stream))
        return _facts(container, stream, first, timeline, packets, rate, size, promised, n_read - len(whole), limits)


def _read_pictures(
    container: InputContainer, stream: VideoStream, limits: ClipSettings
) -> tuple[list[_Picture], PacketIndex, VideoFrame | None]:
    """Return every displayed packet, all packets, both in file order, and the first frame that decodes cleanly."""
    codec, extradata = stream.codec_context.name, stream.codec_context.extradata
    pictures: list[_Picture] = []
    pts, is_key, is_access = array("q"), bytearray(), bytearray()
    keeps_both_times, differ = container.format.name in CONTAINERS_WITH_DTS, False
    first: VideoFrame | None = None
    for n_packets, packet in enumerate(video_packets(container, stream)):
        if n_packets >= limits.max_packets:
            raise UnreadableVideo(f"over {limits.max_packets:,} packets; split the file")
        if first is None and n_packets < MAX_PACKETS_TO_FIRST_FRAME:
            first = _first_frame(stream, packet)
        if packet.size:
            pts.append(NO_PTS if packet.pts is None else packet.pts)
            differ = differ or (None not in (packet.pts, packet.dts) and packet.pts != packet.dts)
            is_key.append(packet.is_keyframe)
            is_access.append(packet.is_keyframe and is_random_access(memoryview(packet), codec, extradata))
        if is_picture(packet, codec):
            pictures.append(
                _Picture(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, packet.is_corrupt)
            )
            if len(pictures) > limits.max_frames:
                raise UnreadableVideo(f"over {limits.max_frames:,} frames; split the file")
    return pictures, PacketIndex(pts, bytes(is_key), bytes(is_access), keeps_both_times and differ), first


def _first_frame(stream: VideoStream, packet: "Packet[VideoStream]") -> VideoFrame | None:
    try:
        frames = stream.codec_context.decode(packet if packet.size else None)
    except (av.FFmpegError, EOFError) as error:
        if isinstance(error, MemoryError):
            raise
        if stream.codec_context.is_open:
            return None
        raise UnreadableVideo(f"the decoder does not start: {describe_error(error)}") from error
    return next((frame for frame in frames if not frame.is_corrupt), None)


def _without_cut_tail(pictures: Sequence[_Picture], last_is_cut: bool) -> list[_Picture]:
    """Drop what the end of the file cut in two: packets marked corrupt at the end, or the very last one."""
    end = len(pictures)
    if last_is_cut and end and not pictures[-1].is_corrupt:
        end -= 1
    while end and pictures[end - 1].is_corrupt:
        end -= 1
    return list(pictures[:end])


def _without_uncertain_tail(pictures: list[_Picture], has_pts: bool, reorders: bool) -> list[_Picture]:
    """Drop what has no certain place in a cut AVI, which stores no times: frames take the places of those before them.

    With one decoded ahead of its turn, that is the one shown last; where many may be, all from the last key frame on.
    """
    if has_pts:
        shown_last = max((p.pts for p in pictures if p.pts is not None), default=None) if reorders else None
        return [p for p in pictures if p.pts is None or p.pts != shown_last]
    last_key = max((index for index, picture in enumerate(pictures) if picture.is_key), default=0)
    return pictures[:last_key]


def _stream_rate(stream: VideoStream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or FALLBACK_FPS


def _time_base(stream: VideoStream) -> Fraction:
    return stream.time_base or Fraction(1, 1000)


def _timeline(
    pictures: Sequence[_Picture], first_pts: int | None, has_pts: bool, rate: Fraction, time_base: Fraction
) -> _Timeline:
    """Put the packets into presentation order.

    By pts where all have one and no two are equal; packets before the first frame that decodes (the leading pictures
    of a stream cut out of another) are not displayed. Otherwise by dts, sorted; otherwise at the stream's rate, which
    ends at the times that are known.
    """
    known = {picture.pts for picture in pictures if picture.pts is not None}
    if has_pts and len(known) == len(pictures) and (first_pts is None or first_pts in known):
        shown = sorted(
            (p for p in pictures if first_pts is None or p.pts >= first_pts),  # type: ignore[operator]
            key=lambda p: p.pts,  # type: ignore[arg-type,return-value]
        )
        pts = tuple(p.pts for p in shown if p.pts is not None)
        return _Timeline(pts, first_pts is not None, sum(p.is_key for p in shown), shown[-1].duration)

    n_keys = sum(p.is_key for p in pictures)
    dts = sorted(p.dts for p in pictures if p.dts is not None)
    if len(dts) == len(pictures):
        return _Timeline(tuple(dts), False, n_keys, pictures[-1].duration)
    step = 1 / (rate * time_base)
    given = sorted(known)[: len(pictures)]
    n_missing = len(pictures) - len(given)
    start = given[0] if given else n_missing * step
    filled = [math.floor(start - step * i) for i in range(n_missing, 0, -1)]
    return _Timeline((*filled, *given), False, n_keys, pictures[-1].duration)


def _facts(
    container: InputContainer,
    stream: VideoStream,
    first: VideoFrame,
    timeline: _Timeline,
    packets: PacketIndex,
    rate: Fraction,
    size: int,
    promised: int,
    n_cut: int,
    limits: ClipSettings,
) -> ClipFacts:
    time_base, pts = _time_base(stream), timeline.pts
    n_frames = len(pts)
    times_s = [float((p - pts[0]) * time_base) for p in pts]
    span_s = times_s[-1]
    if span_s > limits.max_duration_s:
        raise UnreadableVideo(f"{span_s:,.1f} s long, allowed: up to {limits.max_duration_s:,g} s; split the file")
    steps = [after - before for before, after in pairwise(times_s)]
    usual_step = statistics.median(steps) if steps else 0.0
    last_step = float(timeline.last_duration * time_base)
    # A last duration far from the rest is a muxer's leftover, not a frame shown for minutes.
    if last_step <= 0 or (usual_step > 0 and last_step > 10 * usual_step):
        last_step = usual_step or float(1 / rate)
    fps = (n_frames - 1) / span_s if span_s > 0 else float(rate)
    is_vfr = is_uneven(times_s, steps, usual_step)

    rotation, mirrored = _orientation(first)
    aspect = _sample_aspect_ratio(stream)
    upright = (max(1, round(first.width * aspect)), first.height)
    display_width, display_height = upright if rotation in (0, 180) else upright[::-1]
    if display_width * display_height > 4 * limits.max_pixels:
        aspect = Fraction(1)
        display_width, display_height = (
            (first.width, first.height) if rotation in (0, 180) else (first.height, first.width)
        )
    transfer = COLOR_TRANSFERS.get(first.color_trc, "unspecified")
    full_by_format = first.format.name.startswith("yuvj")
    declared_frames = stream.frames
    first_pts_s = float(pts[0] * time_base)

    said: dict[str, str] = {}
    if promised > size:
        said["truncated"] = (
            f"truncated: the container promises {promised:,} bytes, the file holds {size:,}; {n_frames:,} frames up to "
            f"{span_s + last_step:.1f} s are there"
        )
    elif n_cut:
        said["truncated"] = (
            f"truncated: the last {n_cut} packets are cut off; {n_frames:,} frames up to {span_s + last_step:.1f} s "
            "are there"
        )
    if is_vfr:
        longest = max(range(len(steps)), key=steps.__getitem__)
        said["vfr"] = (
            f"variable frame rate: the usual step is {usual_step * 1000:.1f} ms, the longest {steps[longest]:.2f} s "
            f"at {times_s[longest]:.2f} s"
        )
    if declared_frames == 0:
        said["no_frame_count"] = ""
    elif declared_frames != n_frames:
        said["header_frame_count_wrong"] = f"the header promises {declared_frames:,} frames, {n_frames:,} are shown"
    if not timeline.by_pts:
        said["missing_pts"] = "the file does not say when each frame is shown: frames are placed by their order"
    if rotation or mirrored:
        said["rotated"] = ""
    if aspect != 1:
        said["non_square_pixels"] = ""
    if first_pts_s > (usual_step or float(1 / rate)):
        said["late_start"] = ""
    if stream.metadata.get("alpha_mode") == "1" and not first.format.name.startswith("yuva"):
        said["alpha_not_decoded"] = "the transparency of VP8 and VP9 is not decoded: colours it hides are shown"
    if transfer in HDR_TRANSFERS:
        said["hdr"] = f"HDR ({transfer}): tone mapped to SDR (ITU-R BT.2390), highlights are compressed"
    if first.colorspace in UNREADABLE_MATRICES and not first.format.is_rgb:
        name = COLOR_SPACES.get(first.colorspace, str(first.colorspace))
        said["unreadable_matrix"] = f"the colour matrix {name} cannot be read: read as BT.601, colours are wrong"

    return ClipFacts(
        container=container.format.name,
        codec=stream.codec_context.name,
        pix_fmt=first.format.name,
        n_frames=n_frames,
        pts=pts,
        packets=packets,
        time_base=time_base,
        by_pts=timeline.by_pts,
        first_pts_s=first_pts_s,
        duration_s=span_s + last_step,
        fps=fps,
        is_vfr=is_vfr,
        width=first.width,
        height=first.height,
        rotation=rotation,
        mirrored=mirrored,
        sample_aspect_ratio=aspect,
        display_width=display_width,
        display_height=display_height,
        color_range="full" if full_by_format else COLOR_RANGES.get(first.color_range, "unspecified"),
        color_space=COLOR_SPACES.get(first.colorspace, "unspecified"),
        color_primaries=COLOR_PRIMARIES.get(first.color_primaries, "unspecified"),
        color_transfer=transfer,
        bit_depth=first.format.components[0].bits,
        interlaced=first.interlaced_frame,
        has_audio=bool(container.streams.audio),
        n_key_frames=timeline.n_key_frames,
        declared_frames=declared_frames,
        bytes=size,
        flags=tuple(said),
        notes=tuple(note for note in said.values() if note),
    )


def is_uneven(times_s: Sequence[float], steps: Sequence[float], usual_step: float) -> bool:
    """Tell whether frame times leave an even grid, or steps differ, by more than rounding and jitter explain."""
    if len(steps) < 2:
        return False
    tolerance = max(TIME_STEP_TOLERANCE_S, STEP_TOLERANCE * usual_step)
    if any(abs(step - usual_step) > tolerance for step in steps):
        return True
    mean_step = times_s[-1] / len(steps)
    drift = max(abs(time - i * mean_step) for i, time in enumerate(times_s))
    return drift > max(TIME_STEP_TOLERANCE_S, mean_step / 2)


def _orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Return the degrees clockwise, to the nearest quarter, and the mirroring that make the decoded picture upright."""
    side_data = cast("SideDataContainer", frame.side_data)
    if SideDataType.DISPLAYMATRIX not in side_data:
        return 0, False
    matrix = bytes(side_data[SideDataType.DISPLAYMATRIX])
    # Row vectors (x, y) times [[a, b], [c, d]], 16.16 fixed point, y down (ISO/IEC 14496-12, 8.3.2.3).
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    if a == 0 and b == 0:
        return 0, mirrored
    return round(math.degrees(math.atan2(b, a)) / 90) % 4 * 90, mirrored


def _sample_aspect_ratio(stream: VideoStream) -> Fraction:
    """Return width over height of a pixel; 1 where the stream does not say."""
    ratio = stream.sample_aspect_ratio
    return ratio if ratio is not None and ratio > 0 else Fraction(1)
