"""An image of the data set, uploaded, is that image: each data set's own way from a picture to x."""

import json
from io import BytesIO

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw
from streamlit.testing.v1 import AppTest

from app.state import unpack_image
from gpvae_core.cli import cli
from gpvae_core.data.images import read_image
from gpvae_core.data.recipes import RECIPES, recipe_of, same_images
from gpvae_core.errors import InputError


def original(seed: int) -> Image.Image:
    """A page as OMNIGLOT has them: 105x105, one bit, thin black strokes on white, anywhere on the page."""
    rng = np.random.default_rng(seed)
    page = Image.new("1", (105, 105), 1)
    for _ in range(3):
        ends = [tuple(int(v) for v in place) for place in rng.integers(10, 95, (3, 2))]
        ImageDraw.Draw(page).line(ends, fill=0, width=3)
    return page


def png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def averaged(page: Image.Image) -> np.ndarray:
    """White ink on black, 28x28: each pixel the mean of the page's pixels whose centres lie within it."""
    ink = 255.0 * (1 - np.asarray(page, dtype=float))
    cell = np.ceil((np.arange(105) + 0.5) * 28 / 105).astype(int) - 1
    by = (np.arange(28)[:, None] == cell) / np.bincount(cell)[:, None]
    return by @ ink @ by.T


@pytest.mark.parametrize("seed", range(5))
def test_an_omniglot_page_becomes_the_data_sets_own_image(seed):
    page = original(seed)
    for given in (page, page.convert("RGB"), page.resize((420, 420), Image.Resampling.NEAREST)):
        prepared = recipe_of("omniglot").prepare(read_image(png(given), "page.png"), "page.png", None)
        assert np.abs(prepared.image - averaged(page)).max() <= 1 and prepared.doubts == ()
    small = Image.fromarray(255 - prepared.image)
    again = recipe_of("omniglot").prepare(read_image(png(small), "small.png"), "small.png", None)
    np.testing.assert_array_equal(again.image, prepared.image)


def test_omniglot_images_fed_back_are_themselves(data_dir):
    images = np.load(data_dir / "omniglot.npz")["test_images"][::130]
    for image in images:
        for given in (image, 255 - image):
            np.testing.assert_array_equal(recipe_of("omniglot").prepare(given, "it", None).image, image)


def test_a_blank_page_is_refused_by_every_recipe():
    for recipe in RECIPES.values():
        for side in (28, 105, 300):
            with pytest.raises(InputError, match="no ink"):
                recipe.prepare(np.full((side, side), 240, np.uint8), "blank", None)


def test_binary_and_fixed_data_sets_share_the_grey_ones_recipe_and_images():
    assert recipe_of("binary-mnist-fixed") is recipe_of("mnist") is recipe_of("folder:/a/b")
    assert recipe_of("binary-digits") is recipe_of("digits")
    assert same_images("mnist", "binary-mnist") and not same_images("mnist", "digits")


@pytest.mark.usefixtures("offline")
def test_the_app_prepares_an_upload_as_the_checkpoints_data_set_did():
    page = AppTest.from_file("../app/main.py", default_timeout=300)
    page.query_params.update({"from": "upload", "c": "omniglot-2d"})
    page.run()
    page.file_uploader[0].set_value(("page.png", png(original(1)), "image/png")).run()
    assert not page.exception and not page.error
    shown = unpack_image(page.query_params["x"])
    assert np.abs(shown - averaged(original(1))).max() <= 1
    page.selectbox(key="explore-checkpoint").set_value("digits-2d").run()
    placed = unpack_image(page.query_params["x"])
    wanted = recipe_of("digits").prepare(read_image(png(original(1)), "page.png"), "page.png", None).image
    np.testing.assert_array_equal(placed, wanted)


def test_the_command_line_prepares_an_image_as_the_checkpoints_data_set_did(tmp_path):
    numbers = []
    for name, image in (
        ("page.png", original(2)),
        ("x.png", Image.fromarray(np.rint(averaged(original(2))).astype("u1"))),
    ):
        image.save(tmp_path / name)
        arguments = ["posterior", "--checkpoint", "omniglot-2d", "--image", str(tmp_path / name)]
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        numbers.append(json.loads(result.stdout)["log_evidence"])
    assert numbers[0] == pytest.approx(numbers[1], abs=2.0)  # rounding of a pixel apart; by MNIST's recipe 100 nats
