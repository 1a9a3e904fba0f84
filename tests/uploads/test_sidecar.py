"""Original captions: what a sidecar may hold, and that a bad one is a named refusal and never a crash."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.uploads.sidecar import MAX_SIDECAR_BYTES, SidecarError, read_columns, read_original_caption

TEXTS: list[tuple[str, bytes, str | None]] = [
    ("x.txt", b"a dog runs", "a dog runs"),
    ("x.txt", b"  two\r\nlines \n", "two\nlines"),
    ("x.txt", b"\xef\xbb\xbfwith a mark", "with a mark"),
    ("x.txt", "ü 视频 🎬".encode(), "ü 视频 🎬"),
    ("x.txt", b"", None),
    ("x.txt", b" \n", None),
    ("x.txt", b'{"caption": "text files are text"}', '{"caption": "text files are text"}'),
    ("x.json", b'{"caption": "a dog"}', "a dog"),
    ("x.JSON", b'\xef\xbb\xbf{"caption": "a dog"}', "a dog"),
    ("x.json", b'{"text": "b", "caption": "a"}', "a"),
    ("x.json", b'{"text": "b"}', "b"),
    ("x.json", b'"a bare text"', "a bare text"),
    ("x.json", b'{"caption": null}', None),
    ("x.json", b'{"caption": " "}', None),
    ("x.json", b'{"other": 1}', None),
    ("x.json", b"null", None),
    ("x.json", b'{"caption": "\\ud83c\\udfac"}', "🎬"),
]
BAD: list[tuple[str, bytes, str]] = [
    ("x.txt", b"\xff\xfea\x00", "not UTF-8"),
    ("x.json", b"\xff", "not UTF-8"),
    ("x.json", b"", "not JSON"),
    ("x.json", b"{caption: 1}", "not JSON"),
    ("x.json", b'{"caption": 5}', "not a text"),
    ("x.json", b'{"caption": 0}', "not a text"),
    ("x.json", b'{"caption": false}', "not a text"),
    ("x.json", b'{"caption": ["a"]}', "not a text"),
    ("x.json", b'{"caption": []}', "not a text"),
    ("x.json", b'["a"]', "not a text"),
    ("x.json", b"[" * 200_000, "not JSON"),
    ("x.json", b'{"frames": ' + b"9" * 5000 + b"}", "not JSON"),
    ("x.json", b'{"caption": "half \\ud83c"}', "half a character"),
    ("x.txt", b"x" * (MAX_SIDECAR_BYTES + 1), "larger than 1,000,000 bytes"),
]


@pytest.mark.parametrize(("name", "content", "caption"), TEXTS)
def test_a_caption_is_read(tmp_path: Path, name: str, content: bytes, caption: str | None) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_original_caption(tmp_path / name) == caption


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_a_sidecar_that_cannot_be_used_is_named_with_the_reason(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SidecarError, match=rf"^{name}: .*{message}"):
        read_original_caption(tmp_path / name)


def test_the_largest_sidecar_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"x" * MAX_SIDECAR_BYTES)
    assert read_original_caption(tmp_path / "x.txt") == "x" * MAX_SIDECAR_BYTES


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        (b'{"question": "Who?", "n": 3, "none": null, "list": ["a"], "empty": ""}',
         {"question": "Who?", "n": None, "none": None, "list": None, "empty": ""}),
        ('{"問": " ü 🎬 "}'.encode(), {"問": " ü 🎬 "}),
        (b'"a bare caption"', {}),
        (b"[1]", {}),
    ],
)  # fmt: skip
def test_the_columns_of_a_clip_are_its_texts_as_they_are_and_the_names_of_the_rest(
    tmp_path: Path, content: bytes, columns: dict[str, str | None]
) -> None:
    (tmp_path / "x.json").write_bytes(content)
    assert read_columns(tmp_path / "x.json") == columns


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "not JSON"), (b'{"question": "half \\ud83c"}', "half a char"), (b'{"\\ud83c": "x"}', "half a character")],
)
def test_columns_that_cannot_be_stored_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(SidecarError, match=rf"^x.json: .*{message}"):
        read_columns(tmp_path / "x.json")


@given(content=st.binary(max_size=60) | st.text(alphabet='{}[]":,captionx\\u d8', max_size=30).map(str.encode))
@pytest.mark.parametrize("name", ["x.txt", "x.json"])
def test_whatever_it_holds_there_is_a_caption_that_can_be_stored_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    try:
        caption = read_original_caption(path)
    except SidecarError:
        return
    assert caption is None or (caption.strip() == caption != "" and caption.encode())
