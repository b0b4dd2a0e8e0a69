"""Preprocessing: what must not matter does not, and junk gets a sentence."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gpvae_core.errors import InputError
from gpvae_core.images import read_image, to_model_input


def drawn_digit(size: int = 300, line: int = 24) -> Image.Image:
    """A seven in dark ink on white paper, off centre."""
    image = Image.new("L", (size, size), 255)
    ImageDraw.Draw(image).line([(40, 60), (180, 60), (90, 240)], fill=10, width=line, joint="curve")
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def seen(data: bytes) -> np.ndarray:
    return to_model_input(read_image(data, "digit"), "digit").astype(float)


def test_ink_is_white_fits_the_box_and_is_centred_by_mass():
    image = seen(encoded(drawn_digit()))
    assert image.shape == (28, 28)
    rows, columns = np.flatnonzero(image.max(1) > 25), np.flatnonzero(image.max(0) > 25)
    assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 21
    centre = [(image.sum(1 - axis) * np.arange(28)).sum() / image.sum() for axis in (0, 1)]
    assert np.abs(np.array(centre) - 13.5).max() <= 0.6
    assert image.max() > 200
    assert image[0].max() == 0


@pytest.mark.parametrize("variant", ["inverted", "rgb", "jpeg", "alpha", "palette", "16-bit", "shifted", "cmyk"])
def test_encoding_and_placement_do_not_matter(variant):
    digit = drawn_digit()
    plain = seen(encoded(digit))
    transparent = Image.merge("LA", (Image.new("L", digit.size, 10), digit.point(lambda v: 255 - v)))
    wide = Image.fromarray(np.asarray(digit).astype(np.uint16) * 257)
    shifted = Image.new("L", (500, 420), 255)
    shifted.paste(digit, (150, 90))
    data = {
        "inverted": lambda: encoded(digit.point(lambda v: 255 - v)),
        "rgb": lambda: encoded(digit.convert("RGB")),
        "jpeg": lambda: encoded(digit, "JPEG", quality=95),
        "alpha": lambda: encoded(transparent),
        "palette": lambda: encoded(digit.convert("P")),
        "16-bit": lambda: encoded(wide),
        "shifted": lambda: encoded(shifted),
        "cmyk": lambda: encoded(digit.convert("CMYK"), "JPEG", quality=95),
    }[variant]()
    assert np.abs(seen(data) - plain).mean() < 3


def test_orientation_tag_is_applied():
    digit = drawn_digit()
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    assert np.abs(seen(encoded(digit.rotate(180), "JPEG", exif=exif, quality=95)) - seen(encoded(digit))).mean() < 3


def test_a_mnist_sized_image_on_black_is_taken_as_it_is(digits):
    image = digits.test.images[0]
    assert np.array_equal(to_model_input(read_image(encoded(Image.fromarray(image)), "x")), image)


JUNK = {
    "text": (b"this is not a picture", "not an image that can be read"),
    "empty": (b"", "is empty"),
    "truncated": (encoded(drawn_digit())[:200], "is damaged|not an image"),
    "blank": (encoded(Image.new("L", (50, 50), 255)), "shows no ink"),
    "one pixel": (encoded(Image.new("L", (1, 1), 0)), "shows no ink"),
    "bomb": (encoded(Image.new("1", (20_000, 20_000))), "holds 400,000,000 pixels, more than 25,000,000"),
    "large": (encoded(Image.new("1", (6_000, 6_000))), "holds 36,000,000 pixels"),
}


@pytest.mark.parametrize("name", JUNK)
def test_junk_gets_one_sentence(name):
    data, message = JUNK[name]
    with pytest.raises(InputError, match=message) as caught:
        seen(data)
    assert "\n" not in str(caught.value)
    assert "try again" in str(caught.value) or "use a darker pen" in str(caught.value)
