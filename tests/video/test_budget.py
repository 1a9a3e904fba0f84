import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from caption_assets.video.budget import fit_resolution, frame_ceiling, frame_floor


@pytest.mark.parametrize(
    ("height", "width", "n_frames", "factor", "expected"),
    [
        (1080, 1920, 18, 28, (560, 1008)),
        (720, 1280, 10, 28, (560, 1008)),
        (720, 1280, 10, 32, (640, 1152)),
        (240, 320, 10, 28, (280, 392)),
        (1080, 1920, 768, 28, (224, 420)),
        (112, 112, 4, 28, (336, 336)),
        (28, 5600, 4, 28, (28, 5600)),
    ],
)
def test_known_pictures_get_these_sizes(height, width, n_frames, factor, expected):
    assert fit_resolution(height, width, n_frames, factor=factor) == expected


@given(st.integers(1, 8000), st.integers(1, 8000), st.integers(1, 768), st.sampled_from([28, 32]))
def test_sides_are_multiples_and_the_area_is_within_the_budget(height, width, n_frames, factor):
    assume(max(height, width) / min(height, width) <= 50)
    fitted_height, fitted_width = fit_resolution(height, width, n_frames, factor=factor)
    assert fitted_height % factor == fitted_width % factor == 0
    assert min(fitted_height, fitted_width) >= factor
    # Enlarging rounds up, and no side goes below the factor: only a picture that is shrunk is surely under the ceiling.
    if height * width > frame_ceiling(n_frames, factor) and min(fitted_height, fitted_width) > factor:
        assert fitted_height * fitted_width <= frame_ceiling(n_frames, factor)
    if height * width < frame_floor(factor) and max(height, width) / min(height, width) < 10:
        assert fitted_height * fitted_width >= frame_floor(factor)


def test_a_ribbon_is_refused_with_its_ratio():
    with pytest.raises(ValueError, match="201"):
        fit_resolution(10, 2010, 4)


@pytest.mark.parametrize("arguments", [(0, 10, 4), (10, -1, 4), (10, 10, 0)])
def test_sizes_below_one_are_refused(arguments):
    with pytest.raises(ValueError, match="1 or more"):
        fit_resolution(*arguments)
