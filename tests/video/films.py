"""Small videos made on the spot whose pictures show their own number, so any reader can tell which frame it got."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.video.encoders import repeatable

CLIPS = Path(__file__).parents[2] / "clips"
BITS = 10
BLOCK = 32
WIDTH, HEIGHT = BITS * BLOCK, 192


def numbered_picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A gray picture whose top row of blocks is the number in binary, and whose left edge is red below."""
    picture = np.full((height, width, 3), 90, np.uint8)
    for bit in range(BITS):
        picture[: 2 * BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 235 if number >> bit & 1 else 20
    picture[2 * BLOCK :, : 2 * BLOCK] = (220, 30, 30)
    return picture


def number_of(rgb: np.ndarray) -> int:
    """Read the number of an upright picture of any size."""
    height, width = rgb.shape[:2]
    row = rgb[round(BLOCK / HEIGHT * height)].mean(axis=1)
    return sum(1 << bit for bit in range(BITS) if row[int((bit + 0.5) * width / BITS)] > 128)


def make_film(
    path: Path,
    n_frames: int = 50,
    *,
    codec: str = "libx264",
    rate: int = 25,
    pix_fmt: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    aspect: Fraction | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
) -> Path:
    """Write `n_frames` numbered pictures. rotation: degrees counter-clockwise, as the library has it."""
    encoder_options = {"bf": "2", "g": "12"} if options is None else options
    with (
        path.open("wb") as file,
        av.open(
            file,
            "w",
            format=container_format or path.suffix[1:].replace("mkv", "matroska"),
            options=container_options or {},
        ) as container,
    ):
        stream = container.add_stream(codec, rate=rate, options=repeatable(codec, encoder_options))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        stream.codec_context.thread_count = 1
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        base = time_base or Fraction(1, rate)
        stream.codec_context.time_base = base
        for number in range(n_frames):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number), format="rgb24").reformat(format=pix_fmt)
            frame.pts = number if pts is None else pts[number]
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def encode(
    path: Path,
    frames: Sequence[av.VideoFrame],
    codec: str,
    pix_fmt: str,
    *,
    options: dict[str, str] | None = None,
    color_range: int = 0,
    matrix: int = 2,
    transfer: int = 2,
    primaries: int = 2,
    rotation: int = 0,
    aspect: Fraction | None = None,
) -> Path:
    """Write the frames as they are, 25 a second, with the given colour tags (code points of ISO/IEC 23091-2)."""
    container_format = {".mkv": "matroska", ".ts": "mpegts"}.get(path.suffix, path.suffix[1:])
    with path.open("wb") as file, av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=25, options=repeatable(codec, options or {}))
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = frames[0].width, frames[0].height, pix_fmt
        context.color_range, context.colorspace = color_range, matrix
        context.color_trc, context.color_primaries = transfer, primaries
        context.thread_count = 1
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def filtered(frame: av.VideoFrame, *filters: str) -> av.VideoFrame:
    """Put one frame through ffmpeg's own filters, as `-vf` would; each is "name=arguments"."""
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))]
    for description in filters:
        name, _, arguments = description.partition("=")
        nodes.append(graph.add(name, arguments or None))
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes).configure()
    if frame.pts is None:
        frame.pts = 0
    graph.vpush(frame)
    graph.vpush(None)
    return graph.vpull()


def psnr(picture: np.ndarray, reference: np.ndarray) -> float:
    """Decibels of two 8-bit pictures, over all components; infinite where they are equal."""
    assert picture.shape == reference.shape
    error = np.mean((picture.astype(np.float64) - reference) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def remux(source: Path, target: Path, *, shift_s: float = 0.0, options: dict[str, str] | None = None) -> Path:
    """Copy the video packets of a file into another container, `shift_s` seconds later."""
    with av.open(str(source)) as reader, av.open(str(target), "w", options=options or {}) as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        shift = round(shift_s / stream.time_base)
        for packet in reader.demux(stream):
            if packet.size:
                packet.pts += shift
                packet.dts += shift
                packet.stream = copy
                writer.mux(packet)
    return target


def cut(source: Path, target: Path, share: float) -> Path:
    """Keep the first part of a file's bytes."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def pictures_in_full(path: Path) -> list[np.ndarray]:
    """Every decoded picture of a file as RGB, by the library's own plain loop: what our decoder is compared with."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def film_of(
    path: Path,
    pictures: Iterable[np.ndarray],
    *,
    codec: str = "libx264",
    rate: int = 25,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> Path:
    """Write RGB pictures of one size as a film."""
    stream = None
    with av.open(str(path), "w") as container:
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options=repeatable(codec, options or {}))
                stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], pix_fmt
                stream.codec_context.thread_count = 1
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def frozen_film(path: Path, n_frames: int, number: int = 341) -> Path:
    """Write one picture again and again; the codec has no loss, so decoded frames are equal in every pixel."""
    return film_of(path, [numbered_picture(number)] * n_frames, options={"qp": "0"})
