"""Preprocessing: what must not matter does not, and junk gets a sentence."""

import base64
import contextlib
import hashlib
import os
import struct
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gpvae_core.data import load_dataset
from gpvae_core.data.images import DIGITS, MNIST, prepare, read_image, to_model_input
from gpvae_core.errors import InputError


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


def mass_centres(images: np.ndarray) -> np.ndarray:
    """(2, N): y and x of the centre of mass, in edge coordinates."""
    images = images.astype(float)
    return np.stack([(images.sum(3 - axis) * (np.arange(28) + 0.5)).sum(1) / images.sum((1, 2)) for axis in (1, 2)])


def test_ink_is_white_fits_the_box_and_is_centred_by_mass():
    image = seen(encoded(drawn_digit()))
    assert image.shape == (28, 28)
    rows, columns = np.flatnonzero(image.max(1) > 25), np.flatnonzero(image.max(0) > 25)
    assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 21
    assert np.abs(np.array(mass_centres(image[None])) - 14.5).max() <= 0.6
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
    "bomb": (lambda: encoded(Image.new("1", (20_000, 20_000))), "holds 400,000,000 pixels, more than 25,000,000"),
    "large": (lambda: encoded(Image.new("1", (6_000, 6_000))), "holds 36,000,000 pixels"),
}


@pytest.mark.parametrize("name", JUNK)
def test_junk_gets_one_sentence(name):
    data, message = JUNK[name]
    with pytest.raises(InputError, match=message) as caught:
        seen(data() if callable(data) else data)
    assert "\n" not in str(caught.value)
    assert "try again" in str(caught.value) or "use a darker pen" in str(caught.value)


# --- placement --------------------------------------------------------------------------------------------------


def test_the_digits_that_digits_2d_was_trained_on_stay_bit_for_bit():
    """Its weights, table and card belong to these images; the digest is of the arrays at commit d0dcde2."""
    digits = load_dataset("digits")
    digest = hashlib.sha256()
    for part in (digits.train, digits.validation, digits.test):
        digest.update(part.images.tobytes())
        digest.update(part.labels.tobytes())
    assert digest.hexdigest() == "49e3d07d5a038713b2e42c9f25682bb58850a69836b45964f04f3878c3aae7d2"


def test_mnist_fed_back_in_black_on_white_is_itself(mnist):
    images = mnist.test.images[:400]
    fed = np.stack([to_model_input(255 - image) for image in images])
    assert np.abs(mass_centres(fed).mean(1) - mass_centres(images).mean(1)).max() < 0.05
    assert np.abs(mass_centres(fed).mean(1) - 14.5).max() < 0.05
    assert np.abs(fed.astype(float) - images).mean() < 4
    assert np.array_equal(fed, images)


def test_digits_fed_back_in_black_on_white_are_themselves(digits):
    for image in digits.test.images:
        assert np.array_equal(to_model_input(255 - image, placement=DIGITS), image)


@pytest.mark.parametrize(
    ("times", "by", "most"),
    [
        (1, "NEAREST", 1),
        (2, "NEAREST", 1),
        (4, "NEAREST", 1),
        (10, "NEAREST", 1),
        (4, "BICUBIC", 9),
        (10, "BICUBIC", 9),
    ],
)
def test_mnist_enlarged_and_off_centre_comes_back(mnist, times, by, most):
    """Smooth enlargement has no sharp edge to measure the size by: hence two bounds."""
    images = mnist.test.images[:60]
    fed = []
    for image in images:
        size = (28 * times, 28 * times)
        sheet = Image.new("L", (40 * times, 44 * times), 255)
        sheet.paste(Image.fromarray(255 - image).resize(size, Image.Resampling[by]), (9 * times, 5 * times))
        prepared = prepare(np.asarray(sheet))
        assert not prepared.doubts
        fed.append(prepared.image)
    assert np.abs(np.stack(fed).astype(float) - images).mean() < most
    assert np.abs(mass_centres(np.stack(fed)).mean(1) - mass_centres(images).mean(1)).max() < 0.05


def test_a_small_or_displaced_28x28_drawing_is_placed_anew():
    small = np.asarray(drawn_digit().resize((8, 8), Image.Resampling.BOX))
    sheet = np.full((28, 28), 255, np.uint8)
    sheet[2:10, 15:23] = small
    placed = to_model_input(sheet)
    assert np.ptp(np.flatnonzero(placed.max(1) > 60)) >= 17
    assert np.abs(mass_centres(placed[None]) - MNIST.centre).max() <= 0.6


def test_a_crop_is_looked_at_alone():
    two = Image.new("L", (600, 300), 255)
    two.paste(drawn_digit(), (0, 0))
    two.paste(drawn_digit().rotate(180), (300, 0))
    whole, half = prepare(np.asarray(two)), prepare(np.asarray(two), crop=(0, 0, 300, 300))
    assert any("2 separate figures" in doubt for doubt in whole.doubts)
    assert not half.doubts
    assert np.abs(half.image - seen(encoded(drawn_digit()))).mean() < 1
    left, top, right, bottom = half.box
    assert 25 < left < 45 and 40 < top < 55 and 185 < right < 200 and 240 < bottom < 260
    with pytest.raises(InputError, match="leaves nothing of it; draw the crop again"):
        prepare(np.asarray(two), crop=(700, 0, 800, 100))


# --- files ------------------------------------------------------------------------------------------------------


def tiff(values: np.ndarray) -> bytes:
    return encoded(Image.fromarray(values), "TIFF")


def test_light_ink_on_a_transparent_ground_is_seen():
    digit = drawn_digit()
    chalk = Image.merge("LA", (Image.new("L", digit.size, 250), digit.point(lambda v: 255 - v)))
    assert np.abs(seen(encoded(chalk)) - seen(encoded(digit))).mean() < 1
    assert np.abs(seen(encoded(chalk.convert("RGBA"), "WEBP", lossless=True)) - seen(encoded(digit))).mean() < 1


def test_a_picture_with_transparent_corners_keeps_its_paper():
    digit = drawn_digit().point(lambda v: v * 200 // 255)
    round_mask = Image.new("L", digit.size, 0)
    ImageDraw.Draw(round_mask).rounded_rectangle((0, 0, *digit.size), 60, fill=255)
    assert np.abs(seen(encoded(Image.merge("LA", (digit, round_mask)))) - seen(encoded(drawn_digit()))).mean() < 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_whole_numbers_of_8_to_16_bits_in_16_are_read(bits):
    levels = np.rint(np.asarray(drawn_digit()) / 255 * (2**bits - 1)).astype(np.uint16)
    for data in (tiff(levels), encoded(Image.fromarray(levels))):
        assert np.abs(seen(data) - seen(encoded(drawn_digit()))).mean() < 1


@pytest.mark.parametrize(
    ("scale", "shift"), [(1, 0), (0.9, 0), (255, 0), (65535, 0), (2, -1), (4095, 0), (3e5, 0), (1.001, 0), (256, 0)]
)
def test_floats_of_any_range_are_read(scale, shift):
    values = (np.asarray(drawn_digit()) / 255 * scale + shift).astype(np.float32)
    assert np.abs(seen(tiff(values)) - seen(encoded(drawn_digit()))).mean() < 1


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_floats_that_are_no_numbers_get_a_sentence(odd):
    values = np.asarray(drawn_digit()).astype(np.float32)
    values[3, 4] = odd
    with pytest.raises(InputError, match=r"^'digit' holds pixels that are no finite numbers .* try again$"):
        seen(tiff(values))


HEIC = (  # a seven of 96x96 pixels, saved by pillow-heif 1.8
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ACJpbG9jAAAAAERAAAEAAQAAAAABegABAAAAAAAAAYYAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt"
    "AAAAAAABAAAA1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoDCBhZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xy"
    "bmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABgAAAAYAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAAY5t"
    "ZGF0AAABgigBr1hX4sZBs1NsPju8BVPRL3/tqfUgRZ8YvWydlk3Vcl/aGpd/m8GJYjXvXhkNEUTrkxAX6EhPNoI/M6KeIIL1Bz9x"
    "lclHd2i/2FMClXnZbT+WBT7yDihGWTqKYxjN/nkFAO8cHuVei31igrJdlLtV07z79qzQgAIpMkGdJkg8VrFTv2YL0GdCvxyJNLrr"
    "9VqNvoqAwrUQEeyWojl1JG3ecHGX+oCqw+5AZ1qlX/izQzTaf7ABdeXn0Q4IPzSuSDoHYOMiipkOn+jV9yGqFBlQAJnvLamrQvbA"
    "UQkH81HiQ33oKoOuSZOONr+XyHFN8bvZPGnxvqYrFCMgGUYsAp3jPwvqYpFCMhqv4dujl41LNWpYf4qP5Z1UXGb8k5TlkdlH00sK"
    "vaZSEeutKwEwRi2+e1tSKHlQL3wL14JJAsjOXeWRH+HfdvBJy9UzTEHOTTYEmWvUcUfZ8zYRAt3phcYwmHACLgBDHUePAwAcSifw"
    "rYs65lVWXw0LJLDOER9DKAxk"
)


def test_heic_is_read():
    seven = Image.new("L", (96, 96), 255)
    ImageDraw.Draw(seven).line([(20, 20), (70, 20), (40, 80)], fill=10, width=9, joint="curve")
    assert np.abs(seen(base64.b64decode(HEIC)) - seen(encoded(seven))).mean() < 4


def test_a_damaged_heic_gets_a_sentence():
    whole = base64.b64decode(HEIC)
    for data in (whole[:600], whole[:200], whole[:20], whole[:12]):
        with pytest.raises(InputError, match=r"^'digit' is (damaged|not an image that can be read).* try again$"):
            seen(data)


def test_avif_is_read():
    assert np.abs(seen(encoded(drawn_digit().convert("RGB"), "AVIF")) - seen(encoded(drawn_digit()))).mean() < 3


LARGE = {
    "JPEG": ({"quality": 90}, "RGB"),
    "PNG": ({}, "RGB"),
    "PNG in a palette": ({}, "P"),
    "PNG with alpha": ({}, "RGBA"),
    "PNG of 16 bits": ({}, "I;16"),
    "WEBP": ({"quality": 90}, "RGB"),
    "TIFF": ({}, "L"),
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_picture_is_reduced_and_stays_the_same_digit(kind):
    options, mode = LARGE[kind]
    large = drawn_digit().resize((1800, 1800), Image.Resampling.BICUBIC)
    large = Image.fromarray(np.asarray(large).astype(np.uint16) * 257) if mode == "I;16" else large.convert(mode)
    turn = Image.Exif()
    turn[0x0112] = 6
    data = encoded(large.transpose(Image.Transpose.ROTATE_90), kind.split()[0], exif=turn, **options)
    grey = read_image(data, "digit")
    assert max(grey.shape) <= 1024
    assert np.abs(to_model_input(grey, "digit") - seen(encoded(drawn_digit()))).mean() < 4


MEASURE = """
import os, resource, sys
from pathlib import Path
from PIL import Image
from gpvae_core.data.images import prepare, read_image

def highest():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

Image.init()
for path in sys.argv[1:]:  # each in a copy of this process, whose peak is its own: a program inherits its parent's
    if os.fork() == 0:
        before = highest()
        prepare(read_image(Path(path), "photo"), "photo")
        print(path, highest() - before, flush=True)
        os._exit(0)
    os.wait()
"""


PHOTOS = {
    "JPEG": ("RGB", (6000, 4000), {}),
    "JPEG, progressive": ("RGB", (4500, 4000), {"progressive": True}),
    "PNG": ("RGB", (4500, 3000), {}),
    "PNG, grey": ("L", (6000, 4000), {}),
    "PNG, 16 bits": ("I;16", (6000, 4000), {}),
    "PNG, palette": ("P", (6000, 4000), {}),
    "TIFF": ("RGB", (4500, 3000), {"compression": "tiff_deflate"}),
    "GIF": ("P", (6000, 4000), {}),
    "WEBP": ("RGB", (2160, 1600), {"method": 0}),
    "AVIF": ("RGB", (2500, 2000), {"speed": 10}),
    "AVIF, alpha": ("RGBA", (2500, 2000), {"speed": 10}),
    "PNG, alpha": ("RGBA", (4500, 3000), {}),
    "PNG, grey with alpha": ("LA", (4500, 3000), {}),
    "PNG, palette with alpha": ("P", (6000, 4000), {"transparency": b"\x80" * 256}),
    "TIFF, alpha": ("RGBA", (4300, 3000), {"compression": "tiff_lzw"}),
    "TIFF, one strip": ("RGB", (3000, 2000), {"compression": "tiff_lzw", "strip_size": 10**9}),
}


def test_large_photos_take_little_memory(tmp_path):
    """In MiB beyond the process: at most 60. Whole in floats 24 megapixels took 580."""
    for kind, (mode, size, options) in PHOTOS.items():
        drawn_digit().resize(size).convert(mode).save(tmp_path / kind, kind.split(",")[0], **options)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, *PHOTOS],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    taken = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in run.stdout.splitlines()}
    assert set(taken) == set(PHOTOS)
    assert {kind: mib for kind, mib in taken.items() if not 1 < mib < 60} == {}


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [("PNG", "RGB", {}), ("JPEG", "RGB", {"progressive": True, "subsampling": 0}), ("WEBP", "RGB", {"method": 0})],
)
def test_a_photo_that_would_take_much_is_named_with_the_cure(kind, mode, options):
    data = encoded(Image.new(mode, (6000, 4000)), kind, **options)
    with pytest.raises(InputError, match=r"24,000,000 pixels, more than the [\d,]+ that a picture of its kind.*JPEG"):
        read_image(data, "photo")


@pytest.mark.parametrize("size", [(25_000_000, 1), (1, 25_000_000), (20_001, 2)])
def test_a_thread_of_a_picture_is_refused_before_it_is_decoded(size):
    data = encoded(Image.new("L", size), "PNG")
    with pytest.raises(InputError, match=rf"'thread' measures {size[0]:,}x{size[1]:,} pixels, more than 20,000"):
        read_image(data, "thread")


def test_a_tiff_in_one_strip_is_counted_twice():
    data = encoded(Image.new("RGB", (3740, 3000)), "TIFF", compression="tiff_lzw", strip_size=10**9)
    with pytest.raises(InputError, match=r"11,220,000 pixels, more than the 6,[\d,]+ that a picture of its kind"):
        read_image(data, "strip")


def test_a_bmp_of_runs_is_counted_with_what_they_are_unpacked_to():
    head = struct.pack("<IiiHHIIiiII", 40, 4999, 4999, 1, 8, 1, 4, 0, 0, 256, 0)
    data = b"BM" + struct.pack("<IHHI", 1082, 0, 0, 1078) + head + bytes(1024) + bytes([4, 0, 0, 1])
    with pytest.raises(InputError, match=r"24,990,001 pixels, more than the 18,[\d,]+ that a picture of its kind"):
        read_image(data, "runs")


@pytest.mark.parametrize("data", [b"", b"no picture", encoded(Image.new("L", (40, 40), 255))], ids=range(3))
def test_a_long_name_is_cut_and_on_one_line(data):
    with pytest.raises(InputError) as caught:
        prepare(read_image(data, "a\n" * 2500), "a\n" * 2500)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("size", [(1, 5000), (3, 9000), (9000, 1)])
def test_a_thread_of_a_jpeg_is_read_or_refused_in_a_sentence(size):
    data = encoded(Image.new("L", size, 200), "JPEG")
    with contextlib.suppress(InputError):
        assert max(read_image(data, "thread").shape) <= 1024


# found by benchmarks.fuzz: a line steeper than those that are tried, and then a figure no darker than its ground
STEEP = """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAEgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDYpLDAx
NDQ0Hyc5PTgyPC4zNDL/wAALCAAgACABAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUF
BAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY1ODk6Q0RFRkdISUpTVFVW
Y2RXZVpZWGZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDyMXHycTGytbX1NXT0tjZ2uHi
4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/APH/APka/wAUMoGRoQgjQrHBFVLR8CQzYnKCCQoWFxgZGiUmJygpKjQ1NjX/AK6f
63n6KKK6D/ka/wDsYP8A04//AHRS6N/66f63n6KKK6D/AJGv/sYP/Tj/APdH/o3/AK6f63//2Q==
"""


def test_a_picture_of_hardly_anything_is_a_sentence():
    with pytest.raises(InputError, match="'steep' "):
        prepare(read_image(base64.b64decode(STEEP), "steep"), "steep")
