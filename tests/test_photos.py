"""Photographs: the digit's ink is found as it was drawn, and what is not one digit is said to be doubtful."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from app import drawing
from gpvae_core.data.images import prepare, to_model_input
from gpvae_core.errors import InputError
from tests import photographs
from tests.photographs import CAMERA, NOT_ONE_DIGIT, ONE_DIGIT, Scene, clean, enlarged, photograph

RIGHT = 12  # grey levels, mean over the 784 pixels


@cache
def misfit_of(name: str) -> tuple[float, tuple[str, ...]]:
    return misfit(ONE_DIGIT[name])


def misfit(scene: Scene) -> tuple[float, tuple[str, ...]]:
    """Mean distance in grey levels to the model input of the clean drawing, and the doubts."""
    prepared = prepare(photograph(scene), "photo")
    return float(np.abs(prepared.image.astype(float) - to_model_input(clean(scene))).mean()), prepared.doubts


@pytest.mark.parametrize("name", ONE_DIGIT)
def test_the_digit_is_found_or_doubted(name):
    distance, doubts = misfit_of(name)
    assert distance < RIGHT or doubts


def test_all_32_photographs_of_one_digit_are_right_without_doubts():
    """Without this, doubting everything would pass."""
    results = {name: misfit_of(name) for name in ONE_DIGIT}
    assert [name for name, (distance, doubts) in results.items() if distance >= RIGHT or doubts] == []
    assert len(results) >= 32
    assert np.median([distance for distance, _ in results.values()]) < 1.5


@pytest.mark.parametrize("name", NOT_ONE_DIGIT)
def test_what_is_not_one_digit_never_passes_without_a_word(name):
    try:
        prepared = prepare(photograph(NOT_ONE_DIGIT[name]), "photo")
    except InputError as error:
        said = [str(error)]
        assert said[0].startswith("'photo' ")
    else:
        said = list(prepared.doubts)
    assert said
    for sentence in said:
        assert len(sentence.split()) <= 25 and "\n" not in sentence


def blank_sheets() -> dict[str, Scene]:
    """Empty sheets in every light, on every paper, at several sizes."""
    papers: dict[str, tuple[photographs.Effect, ...]] = {
        "plain": (),
        "ruled": (photographs.lines(0.11, 0.3, 1.5),),
        "squared": (photographs.lines(0.09, 0.25), photographs.lines(0.09, 0.25, upright=True)),
        "rough": (photographs.grain(0.05, 0.006),),
    }
    lights = {
        "even": (),
        "falling": (photographs.falling(0.6, 130),),
        "shadow": (photographs.corner_shadow(0.45, 0.9, 0.01),),
        "desk": (photographs.desk(0.15, 0.1, -6, 0.1),),
    }
    shapes = [(240, 320), (360, 270)]
    return {
        f"{paper} {light} {seed} {'camera' if camera else 'exact'}": Scene(
            "", shape, effects=(*papers[paper], *lights[light], *camera), seed=seed
        )
        for paper in papers
        for light in lights
        for seed, (shape, camera) in enumerate(zip(shapes, (CAMERA, ()), strict=True))
    }


def test_no_blank_sheet_passes_without_a_word():
    silent = []
    for name, scene in blank_sheets().items():
        try:
            doubts = prepare(photograph(scene), "photo").doubts
        except InputError:
            continue
        silent += [] if doubts else [name]
    assert silent == []


EFFECTS: dict[str, tuple[photographs.Effect, ...]] = {
    "plain": (),
    "falling light": (photographs.falling(0.6, 200),),
    "shadow": (photographs.corner_shadow(0.4, 0.7, 0.02),),
    "ruled": (photographs.lines(0.1, 0.35, -2),),
    "desk": (photographs.desk(0.2, 0.1, 6),),
    "specks": (photographs.specks(4),),
    "chalk": (photographs.negative(),),
}


def right_ones(figures: list[np.ndarray]) -> tuple[int, int]:
    """How many photographs of the figures (28, 28) are right without doubts, and how many wrong without doubts."""
    right = wrong = 0
    for number, figure in enumerate(figures):
        for effects in EFFECTS.values():
            scene = Scene("", (300, 400), effects=(*effects, *CAMERA), seed=number, figure=enlarged(figure, 170))
            distance, doubts = misfit(scene)
            right += not doubts and distance < RIGHT
            wrong += not doubts and distance >= RIGHT
    return right, wrong


def test_photographs_of_mnist_digits(mnist):
    """Handwriting that nobody drew for this test: 49 photographs."""
    right, wrong = right_ones(list(mnist.test.images[:7]))
    assert right >= 48 and wrong == 0


def test_photographs_of_scikit_learns_digits(digits):
    right, wrong = right_ones(list(digits.test.images[:3]))
    assert right >= 20 and wrong == 0


@pytest.mark.parametrize("height", [40, 150, 600])
@pytest.mark.parametrize("dark", [True, False])
def test_a_clean_drawing_gets_no_doubts(height, dark):
    for digit in photographs.GLYPHS:
        ink = np.pad(photographs.drawn(digit, height, 0.1), height // 6)
        picture = np.rint(255 * (1 - ink if dark else ink)).astype(np.uint8)
        assert prepare(picture, digit).doubts == (), digit


def test_a_stroke_of_the_drawing_sheet_gets_no_doubts():
    for strokes in ([[[60, 40], [200, 50], [110, 220]]], [[[90, 30], [60, 140], [190, 130]], [[150, 90], [140, 240]]]):
        assert prepare(drawing.picture(drawing.simplified(strokes)), "the drawing").doubts == ()


def test_a_dot_far_off_is_dirt_and_a_bar_near_by_is_part():
    five = np.pad(photographs.drawn("5 in two", 200, 0.08), 60)
    alone = to_model_input(np.rint(255 * (1 - five)).astype(np.uint8))
    dotted = five.copy()
    dotted[20:28, 20:28] = 1
    assert np.array_equal(to_model_input(np.rint(255 * (1 - dotted)).astype(np.uint8)), alone)
    assert alone[4:7].max() > 200  # its bar


def test_a_crop_around_one_of_three_digits_is_that_digit():
    three = NOT_ONE_DIGIT["three digits"]
    whole = prepare(photograph(three), "photo")
    assert any("3 separate figures" in doubt for doubt in whole.doubts)
    height, width = three.shape
    crop = (round(0.36 * width), round(0.25 * height), round(0.64 * width), round(0.75 * height))
    cropped = prepare(photograph(three), "photo", crop=crop)
    assert cropped.doubts == ()
    assert np.abs(cropped.image.astype(float) - to_model_input(clean(replace(three, digit="5", more=())))).mean() < 3
    left, top, right, bottom = cropped.box
    assert crop[0] < left < right < crop[2] and crop[1] < top < bottom < crop[3]


def test_the_box_surrounds_the_ink():
    scene = replace(ONE_DIGIT["ruled on a desk in falling light"], shape=(900, 1200))
    left, top, right, bottom = prepare(photograph(scene), "photo").box
    assert abs((left + right) / 2 - 600) < 30 and abs((top + bottom) / 2 - 450) < 15
    assert abs(bottom - top - 0.4 * 1.09 * 900) < 20
