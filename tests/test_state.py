"""The address bar and drawings: what goes in comes out, and whatever else is named."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from app import drawing
from app.state import State, difficulty_query, figures_query, from_query, pack_image, to_query, unpack_image
from app.words import FIRST, spoken
from gpvae_core.data.corruptions import Corruption
from gpvae_core.errors import InputError

STROKES = [[(40, 30), (200, 40), (90, 230)], [(10, 10)]]


@pytest.mark.parametrize(
    "state",
    [
        State(),
        State(checkpoint="mnist-2d", weights="0123abcd", dataset="mnist", index=0, sort="kl_base", digit="7"),
        State(way="number", index=17, dataset="digits", corruption=Corruption(rotate=-35, noise=0.15, seed=9)),
        State(way="draw", strokes=drawing.encode(STROKES), projector=True),
        State(checkpoint="mnist-2d", encoders=("gn", "me-4")),
        State(way="upload", upload=pack_image(np.arange(784, dtype=np.uint8).reshape(28, 28))),
        State(way="simulate", seed=12, z=(0.125, -1.5), versus="image:4"),
        State(way="random", index=3, dataset="digits", digit="2", versus="checkpoint:digits-2d"),
    ],
)
def test_a_link_brings_the_same_state(state):
    query = to_query(state)
    assert from_query(query) == (state, [])
    assert to_query(from_query(query)[0]) == query


def test_a_link_says_only_what_its_way_needs():
    state = State(way="draw", strokes=drawing.encode(STROKES), index=5, sort="log_width", seed=3, z=(1.0, 1.0))
    assert set(to_query(state)) == {"from", "ink"}
    assert difficulty_query(replace(state, against="kl_q", linear=True)) == {
        "sort": "log_width",
        "y": "kl_q",
        "lin": "1",
    }
    assert figures_query(replace(state, images=9, checkpoint="a")) == {"c": "a", "sort": "log_width", "n": "9"}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("i", "-1", "no whole number"),
        ("i", "9" * 40, "no whole number"),
        ("i", "0" * 11 + "9" * 40, "no whole number"),
        ("seed", "0" * 11 + "9" * 4400, "no whole number"),
        ("z", "1_0,0", "no number"),
        ("z", "\u0661,1", "no number"),
        ("seed", "1e3", "no whole number"),
        ("z", "1", "no point"),
        ("z", "nan,0", "no number"),
        ("z", "99,0", "no point"),
        ("from", "space", "none of gallery, number"),
        ("rotate", "500", "out of range"),
        ("noise", "loud", "no number"),
        ("ink", "!!!", "drawing is damaged"),
        ("ink", drawing.to_text(b"\x00\x09abc"), "drawing is damaged"),
        ("x", drawing.to_text(bytes(100)), "100 pixels, not 784"),
        ("x", drawing.to_text(bytes(10**7)), "too large"),
        ("vs", "image:x", "no whole number"),
        ("vs", "mnist", "neither image"),
        ("q", "a,b,c,d,e,f,g", "more than 6 encoders"),
        ("big", "yes", "none of 1"),
        ("colour", "red", "not known here"),
    ],
)
def test_what_cannot_be_had_is_named_and_left_out(key, value, reason):
    state, problems = from_query({key: value})
    assert state == State()
    (sentence,) = problems
    assert sentence.startswith(f"The link says {key}=") and reason in sentence and sentence.endswith("It is left out.")
    assert "\n" not in sentence and len(sentence) < 250


def test_a_links_text_cannot_carry_markup():
    _, problems = from_query({"i": "<b>**[x](http://a)**$\\"})
    assert not set("<*[]`$\\#") & set(problems[0])


# --- drawings -------------------------------------------------------------------------------------------------


@pytest.fixture
def scribble():
    """A curve as a hand draws it: hundreds of points."""
    t = np.linspace(0, 3 * np.pi, 400)
    return [np.rint(np.stack([128 + 8 * t * np.cos(t), 128 + 8 * t * np.sin(t)], 1)).astype(int).tolist()]


def test_simplifying_keeps_the_line_and_drops_most_points(scribble):
    (kept,) = drawing.simplified(scribble)
    assert len(kept) < 0.25 * len(scribble[0])
    fine = np.concatenate([np.linspace(a, b, 50) for a, b in pairwise(kept)])
    away = np.linalg.norm(np.array(scribble[0])[:, None] - fine, axis=-1).min(1)
    assert away.max() < drawing.TOLERANCE + 0.3  # the fine points lie up to a few tenths apart
    assert drawing.simplified([kept]) == [kept]


def test_a_drawing_fits_into_a_link_that_can_be_pasted(scribble):
    strokes = drawing.simplified(scribble)
    text = drawing.encode(strokes)
    assert len(text) < 300 and drawing.decode(text) == strokes
    url = to_query(State(way="draw", strokes=text))
    assert from_query(url)[0].strokes == text


def test_the_picture_is_ink_within_half_a_pen_of_the_strokes():
    picture = drawing.picture(STROKES)
    scale = drawing.SIDE / drawing.PICTURE
    y, x = np.mgrid[: drawing.PICTURE, : drawing.PICTURE]
    centres = (np.stack([x, y], -1) + 0.5) * scale
    corners = [np.array(stroke, float) for stroke in STROKES]
    dots = np.concatenate([np.linspace(a, b, 400) for s in corners for a, b in pairwise(s)] + corners)
    nearest = np.linalg.norm(centres[:, :, None] - dots, axis=-1).min(-1)
    assert (picture[nearest < drawing.PEN / 2 - scale] == 0).all()
    assert (picture[nearest > drawing.PEN / 2 + scale] == 255).all()


@pytest.mark.parametrize("junk", [[["a"]], [[1, 2, 3]], "text", [[[1, 2]] * 5000], {"a": 1}, 7])
def test_what_is_no_drawing_gets_a_sentence(junk):
    with pytest.raises(InputError, match=r"draw it again|fewer strokes"):
        drawing.simplified(junk)


def test_uploads_travel_bit_for_bit(digits):
    for image in digits.test.images[:5]:
        text = pack_image(image)
        assert len(text) < 700
        np.testing.assert_array_equal(unpack_image(text), image)


def test_what_is_wrong_with_a_link_is_said_in_its_language():
    _, problems = from_query({"z": "abc", "lang": "de", "nonsense": "1", "ink": "?"})
    assert problems == [
        "Der Link sagt z=abc, was keine Zahl ist. Das wird weggelassen.",
        "Der Link sagt nonsense=1, ein Schlüssel, den es hier nicht gibt. Das wird weggelassen.",
        "Der Link sagt ink=?, aber der Link ist beschädigt (Zeichnung); lassen Sie ihn sich noch einmal geben, "
        "oder geben Sie neu ein: Zeichnung. Das wird weggelassen.",
    ]
    assert spoken() == FIRST
