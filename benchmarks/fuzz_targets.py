"""One target of ``benchmarks.fuzz``, in a process of its own: python -m benchmarks.fuzz_targets NAME RUNS FOLDER.

Nothing of the project is imported before the fuzzer has instrumented it.
"""

import contextlib
import io
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import atheris
import numpy as np
import torch
from PIL import Image

with atheris.instrument_imports(include=["app", "gpvae_core"]):
    from app import drawing, messages, playlist, state
    from gpvae_core.checkpoints import model_config
    from gpvae_core.data.archives import read_archive
    from gpvae_core.data.images import prepare, read_image
    from gpvae_core.errors import InputError
    from gpvae_core.files import json_bytes, read_json
    from gpvae_core.tensors import parse_tensors, tensor_bytes

SECONDS, MEGABYTES, LONGEST = 1, 200, 4096
HANGS = 600  # seconds; with 0 the fuzzer takes every call during which the clock's second changes for one that hangs
Target = tuple[Callable[[bytes], object], list[bytes]]  # what is called with each input, and inputs to begin with


def links(data: bytes) -> object:
    """The address bar."""
    return state.from_query(dict(parse_qsl(data.decode(errors="replace"))))


def gates(data: bytes) -> None:
    """What components send."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return
    for gate in (messages.point, messages.own, messages.drawing, lambda said: messages.chosen(said, [1, 2])):
        try:
            gate(message)
        except InputError:
            continue


def config(path: Path) -> object:
    """A checkpoint's config."""
    return model_config(read_json(path).get("model"), path)


def pictures() -> list[bytes]:
    """The same small picture in several formats."""
    image = Image.fromarray((np.eye(32) * 255).astype(np.uint8))
    buffers = {kind: io.BytesIO() for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")}
    for kind, buffer in buffers.items():
        image.save(buffer, kind)
    return [buffer.getvalue() for buffer in buffers.values()]


def archive() -> bytes:
    """A small data set as .npz."""
    buffer = io.BytesIO()
    np.savez(buffer, x_train=np.zeros((2, 28, 28), np.uint8), y_train=np.zeros(2, np.uint8))
    return buffer.getvalue()


def targets(folder: Path) -> dict[str, Target]:
    """All of them by name. ``folder`` is for files that have to be on a disk."""
    file = folder / "file"

    def on_disk(read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def call(data: bytes) -> object:
            file.write_bytes(data)
            return read(file)

        return call

    query = urlencode({"c": "digits-2d", "from": "number", "i": 3, "me": "0,0,1,1", "z": "0.5,-1"})
    scenes = playlist.encode((playlist.Scene({"c": "digits-2d", "i": "3"}, "a note"),))
    strokes = drawing.encode([[(3, 4), (50, 60), (200, 9)]])
    return {
        "pictures": (lambda data: prepare(read_image(data, "it"), "it"), pictures()),
        "links": (links, [query.encode()]),
        "playlists": (lambda data: playlist.decode(data.decode(errors="replace")), [scenes.encode()]),
        "drawings": (lambda data: drawing.decode(data.decode(errors="replace")), [strokes.encode()]),
        "messages": (gates, [b'{"version":1,"strokes":[[[1,2],[3,4]]]}', b"[0.5,1,0.1,2]", b"[1,2]", b"1"]),
        "json": (on_disk(config), [json_bytes({"model": {"latent_dim": 2, "image_shape": [1, 28, 28]}})]),
        "weights": (lambda data: parse_tensors(data, file), [tensor_bytes({"a": torch.ones(2, 3)}, {"b": "c"})]),
        "archives": (on_disk(read_archive), [archive()]),
    }


def main(name: str, runs: int, folder: Path) -> None:
    """Fuzz one target; libFuzzer ends the process."""
    call, seeds = targets(folder)[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    for k, seed in enumerate(seeds):
        (corpus / str(k)).write_bytes(seed)

    def one(data: bytes) -> None:
        began = time.process_time()
        try:
            with contextlib.suppress(InputError):
                call(data)
            if (took := time.process_time() - began) > SECONDS:
                raise TimeoutError(f"it took {took:.1f} s")
        except Exception:
            traceback.print_exc()
            (folder / f"broke-{len(data)}").write_bytes(data)
            os._exit(1)  # what the fuzzer itself does then may hang

    options = [f"-runs={runs}", f"-timeout={HANGS}", f"-malloc_limit_mb={MEGABYTES}", "-rss_limit_mb=0", "-seed=1"]
    options += [f"-max_len={LONGEST}", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
