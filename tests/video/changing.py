"""Streams that change on the way: parts of other codec parameters in one video stream, with times that go on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from tests.video.encoders import repeatable
from tests.video.films import numbered_picture


@dataclass(frozen=True)
class Part:
    n_frames: int
    width: int = 320
    height: int = 192
    pix_fmt: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)


def make_changing_film(path: Path, codec: str, parts: Sequence[Part], container_format: str | None = None) -> Path:
    """Write numbered pictures, each part by an encoder of its own, as one stream at 25 frames a second."""
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=25, options=repeatable(codec, {}))
        stream.width, stream.height, stream.pix_fmt = parts[0].width, parts[0].height, parts[0].pix_fmt
        done = 0
        for part in parts:
            encoder = av.CodecContext.create(codec, "w")
            encoder.width, encoder.height, encoder.pix_fmt = part.width, part.height, part.pix_fmt
            encoder.framerate, encoder.time_base = Fraction(25), Fraction(1, 25)
            encoder.options, encoder.thread_count = part.options, 1
            packets = []
            for number in range(done, done + part.n_frames):
                picture = av.VideoFrame.from_ndarray(numbered_picture(number), format="rgb24")
                frame = picture.reformat(part.width, part.height, part.pix_fmt)
                frame.pts, frame.time_base = number, Fraction(1, 25)
                packets += encoder.encode(frame)
            packets += encoder.encode(None)
            for packet in packets:
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                container.mux(packet)
            done += part.n_frames
    return path
