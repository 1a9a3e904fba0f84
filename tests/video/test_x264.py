import io
from fractions import Fraction

import av
import numpy as np

from caption_assets.video.x264 import repeatable


def test_the_same_pictures_give_the_same_bytes():
    rng = np.random.default_rng(7)
    noise = [rng.integers(0, 255, (180, 320, 3), np.uint8) // 4 + 80 for _ in range(24)]
    pictures = [av.VideoFrame.from_ndarray(each, format="rgb24").reformat(format="yuv420p") for each in noise]
    assert len({encoded(pictures) for _ in range(8)}) == 1


def encoded(pictures: list[av.VideoFrame]) -> bytes:
    film = io.BytesIO()
    with av.open(film, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options=repeatable("libx264", {"crf": "26"}))
        stream.height, stream.width, stream.pix_fmt = 180, 320, "yuv420p"
        stream.codec_context.thread_count = 1
        for number, picture in enumerate(pictures):
            picture.pts, picture.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return film.getvalue()


def test_own_parameters_and_other_encoders_are_kept():
    assert repeatable("libx265", {"crf": "3"}) == {"crf": "3"}
    given = repeatable("libx264", {"x264-params": "open-gop=1", "g": "12"})
    assert given["g"] == "12"
    assert given["x264-params"].split(":")[-1] == "open-gop=1"
