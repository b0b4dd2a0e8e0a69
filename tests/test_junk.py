"""Junk: 500 strange uploads and 100 mangled links get a right picture or a plain sentence, never a traceback."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from app import drawing
from app.state import KEYS, State, from_query, pack_image, to_query
from gpvae_core.data.corruptions import AMOUNTS
from gpvae_core.data.images import read_image, to_model_input
from gpvae_core.errors import InputError
from tests.test_state import STROKES

PICTURE = Image.fromarray(drawing.picture(drawing.simplified([[[60, 40], [200, 50], [110, 220]]])))
RIGHT = to_model_input(np.array(PICTURE), "seven")


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- uploads: each kind gives (bytes, whether the right picture must come of it) ---------------------------------


def whole_file(rng) -> bytes:
    kind = rng.choice(["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
    return saved(PICTURE, str(kind))


def truncated(rng):
    data = whole_file(rng)
    return data[: rng.integers(1, len(data))], None


def wrong_type(rng):
    start = rng.choice([b"%PDF-1.7\n", b"PK\x03\x04", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"MZ", b"\x00"])
    return bytes(start) + rng.bytes(int(rng.integers(0, 3000))), False


def flipped(rng):
    data = bytearray(whole_file(rng))
    for place in rng.integers(0, len(data), 8):
        data[place] ^= int(rng.integers(1, 256))
    return bytes(data), None


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bomb(rng):
    side = int(rng.integers(6_000, 60_000))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(2_000_000)))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b""), False


def sixteen_bit(rng):
    values = np.array(PICTURE, dtype=np.uint16) * 257
    return saved(Image.fromarray(values), str(rng.choice(["PNG", "TIFF"]))), True


def cmyk(rng):
    return saved(PICTURE.convert("CMYK"), str(rng.choice(["JPEG", "TIFF"]))), True


def alpha(rng):
    """Black ink whose shape is in the alpha channel alone."""
    ink = Image.new("RGBA", PICTURE.size, "black")
    ink.putalpha(Image.fromarray(255 - np.array(PICTURE)))
    return saved(ink, str(rng.choice(["PNG", "WEBP"])), **{"lossless": True}), True


def palette(rng):
    return saved(PICTURE.convert("P" if rng.random() < 0.5 else "1"), str(rng.choice(["PNG", "GIF"]))), True


def animated(rng):
    frames = [PICTURE.rotate(90 * k, fillcolor=255) for k in range(int(rng.integers(2, 6)))]
    kind = str(rng.choice(["GIF", "WEBP", "PNG"]))
    return saved(frames[0], kind, save_all=True, append_images=frames[1:]), True


TURNS = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
}


def turned(rng):
    """Stored turned, with the EXIF note that says so."""
    orientation = int(rng.choice(list(TURNS)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(PICTURE.transpose(TURNS[orientation]), str(rng.choice(["JPEG", "PNG", "WEBP"])), exif=exif), True


def empty(rng):
    return b"", False


def one_pixel(rng):
    size = (1, 1) if rng.random() < 0.5 else (1, int(rng.integers(1, 400)))
    return saved(Image.new("L", size, int(rng.integers(0, 256)))), False


def blank(rng):
    return saved(Image.new("RGB", (40, 30), tuple(int(v) for v in rng.integers(0, 256, 3)))), False


KINDS = [
    truncated, wrong_type, flipped, bomb, sixteen_bit, cmyk, alpha, palette, animated, turned, empty, one_pixel, blank
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_500_uploads_give_a_right_picture_or_a_sentence(kind):
    """39 of each of 13 kinds, 507 in all."""
    for seed in range(39):
        rng = np.random.default_rng([seed, KINDS.index(kind)])
        data, right = kind(rng)
        try:
            image = to_model_input(read_image(data, "upload.png"), "upload.png")
        except InputError as error:
            sentence = str(error)
            assert not right, sentence
            assert sentence.startswith("'upload.png' ") and "\n" not in sentence and len(sentence) < 300
            continue
        assert image.shape == (28, 28) and image.dtype == np.uint8
        assert right is not False
        if right:
            assert np.abs(image.astype(int) - RIGHT).mean() < 4, f"seed {seed}: another picture"


@pytest.mark.usefixtures("offline")
def test_a_bad_upload_leaves_the_picture_before_it_on_the_page():
    page = AppTest.from_file("../app/main.py", default_timeout=120)
    page.query_params["from"] = "upload"
    page.run()
    page.file_uploader[0].set_value(("seven.png", saved(PICTURE), "image/png")).run()
    before = next(m.value for m in page.markdown if "exact log p(x)" in m.value)
    for seed, kind in enumerate((truncated, wrong_type, bomb, empty, one_pixel)):
        data, _ = kind(np.random.default_rng(seed + 1))
        page.file_uploader[0].set_value(("junk.png", data, "image/png")).run()
        assert not page.exception
        (error,) = page.error
        assert error.value.startswith("'junk.png' ")
        assert next(m.value for m in page.markdown if "exact log p(x)" in m.value) == before


# --- links ------------------------------------------------------------------------------------------------------

LINKS = [
    State(way="number", index=4, dataset="digits"),
    State(way="draw", strokes=drawing.encode(STROKES)),
    State(way="upload", upload=pack_image(RIGHT)),
    State(way="simulate", seed=2, z=(0.5, 0.5)),
    State(checkpoint="digits-2d", dataset="digits", index=9, sort="log_width", digit="all"),
]
ALPHABET = [*"0123456789abcxyzABC-_.,:;%<>'\"/\\{}[]()*`$#@!~ \t\u00e9\u2028", "NaN", "inf", "../", "-1"]
STRANGE = ["1e99", "-5", "99999999999999", "0x10", "true", "image:3", "checkpoint:", "a" * 5000]


def mangled(rng) -> dict[str, str]:
    query = to_query(LINKS[rng.integers(len(LINKS))])
    keys = [*KEYS, *AMOUNTS, "noise-seed", "unknown"]
    for _ in range(int(rng.integers(1, 4))):
        key = str(rng.choice(keys if rng.random() < 0.5 else list(query)))
        value = list(query.get(key, ""))
        action = rng.integers(4)
        if action == 0:
            value = list(rng.choice(ALPHABET, int(rng.integers(0, 12))))
        elif action == 1 and value:
            value = value[: int(rng.integers(len(value)))]
        elif action == 2:
            value.insert(int(rng.integers(len(value) + 1)), str(rng.choice(ALPHABET)))
        else:
            value = [str(rng.choice(STRANGE))]
        query[key] = "".join(value)
    return query


MANGLED = [mangled(np.random.default_rng([seed, 77])) for seed in range(100)]


def pages() -> list[dict[str, str]]:
    """The first of the 100 for each way to an image and checkpoint that they ask for, with a complaint or without."""
    first: dict[tuple[str, str, bool], dict[str, str]] = {}
    for query in MANGLED:
        state, problems = from_query(query)
        first.setdefault((state.way, state.checkpoint, bool(problems)), query)
    return list(first.values())


def test_100_mangled_links_are_read_and_what_cannot_be_had_is_a_sentence():
    for query in MANGLED:
        _, problems = from_query(query)
        for said in problems:
            assert said.startswith("The link says ") and len(said) < 400 and "Traceback" not in said
    assert len(pages()) > 15


@pytest.mark.usefixtures("offline")
def test_mangled_links_give_a_page_or_a_sentence():
    for query in pages():
        page = AppTest.from_file("../app/main.py", default_timeout=120)
        for key, value in query.items():
            page.query_params[key] = value
        page.run()
        assert not page.exception, query
        shows = any("exact log p(x)" in m.value for m in page.markdown)
        waits = bool(page.info) or page.segmented_control(key="explore-way").value == "upload"
        assert shows or waits or page.error, query
        for said in (*page.error, *page.warning):
            assert len(said.value) < 400 and "Traceback" not in said.value
