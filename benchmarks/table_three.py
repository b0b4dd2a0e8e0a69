"""The paper's Table 3 on our hardware: milliseconds to infer a batch of 128 at d = 50, method by method.

    python -m benchmarks.table_three [--data-dir DIR] [--images N] [--passes 5] [--device cpu]

As section 5 of Kim (2022): inference over the whole test set in batches of 128, the time a batch, averaged over PASSES
passes. "reconstructed": the encoder's q, a draw from it, and its decoded image; "encoder": q alone. MNIST, fresh
weights, float32; the passes go round the methods, so that all see the same machine. Every method runs as it is in the
library, nothing compiled. Writes benchmarks/results/table-three.json.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import command, device_name, hardware, markdown, store_result, told
from benchmarks.paper_tables import CELLS
from gpvae_core.data import ImageSet, load_dataset
from gpvae_core.models import ModelConfig, VariationalAutoencoder, build
from gpvae_core.tensors import full_precision
from gpvae_core.training.evaluation import generator_on

DIM, BATCH = 50, 128
NAMES = ("vae", "vae-3", "gpvae", "fullcov", "hf-1", "hf-8", "iaf-1", "iaf-2", "iaf-4", "iaf-8", "me-5", "rme-5")
NAMES += ("gn-2", "vlae-4", "savae-1", "savae-2", "savae-4", "savae-8")
ROWS = {name: CELLS[name] for name in NAMES} | {"gpvae-unit": ("gpvae-unit", {})}
# Kim (2022), Table 3, MNIST: milliseconds on an RTX 2080 Ti
PAPER = {"vae": 3.6, "savae-1": 9.7, "savae-2": 18.1, "savae-4": 32.2, "savae-8": 60.8}
PAPER |= {"iaf-1": 4.8, "iaf-2": 5.9, "iaf-4": 6.2, "iaf-8": 7.7, "gpvae": 9.9}


@torch.no_grad()
@full_precision()
def a_pass(model: VariationalAutoencoder, images: ImageSet, *, reconstructed: bool) -> float:
    """Milliseconds a batch, over all ``images``."""
    generator, started, batches = generator_on(model.device, 0), time.perf_counter(), 0
    for first in range(0, len(images), BATCH):
        x = images.pixels(slice(first, first + BATCH)).to(model.device)
        q = model.encoder.infer(x, model.generative).q
        if reconstructed:
            z, _ = q.rsample_with_log_prob(1, generator=generator)
            model.generative.decode(z[0])
        batches += 1
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - started) / batches


def measured(images: ImageSet, passes: int, device: str) -> dict[str, dict[str, list[float]]]:
    """Both times of every row, pass by pass."""
    models = {
        name: build(ModelConfig(method=method, options=options, latent_dim=DIM), seed=0).to(device).eval()
        for name, (method, options) in ROWS.items()
    }
    found = {name: {"reconstructed": [], "encoder": []} for name in ROWS}  # type: dict[str, dict[str, list[float]]]
    for name, model in models.items():
        a_pass(model, images.take(np.arange(min(len(images), 2 * BATCH))), reconstructed=True)
        print(f"{name} is warm", flush=True)
    for _ in range(passes):
        for name, model in models.items():
            for kind, several in found[name].items():
                several.append(a_pass(model, images, reconstructed=kind == "reconstructed"))
            print(f"{name}: {found[name]['reconstructed'][-1]:.1f} ms a batch", flush=True)
    return found


def table(record: dict[str, Any]) -> list[list[str]]:
    """One row a method, the fastest first, and its time over the plain VAE's."""
    rows = [["method", "reconstructed, ms", "encoder, ms", "reconstructed, VAE = 1", "the paper's, VAE = 1"]]
    means = {name: {kind: float(np.mean(v)) for kind, v in several.items()} for name, several in record["rows"].items()}
    for name, mean in sorted(means.items(), key=lambda item: item[1]["reconstructed"]):
        ratio = mean["reconstructed"] / means["vae"]["reconstructed"]
        paper = f"{PAPER[name] / PAPER['vae']:.2f}" if name in PAPER else ""
        rows.append([name, f"{mean['reconstructed']:.1f}", f"{mean['encoder']:.1f}", f"{ratio:.2f}", paper])
    return rows


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, help="Only the first test images.")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    given = parser.parse_args()
    test = load_dataset("mnist", given.data_dir, seed=0).test
    images = test.take(np.arange(min(given.images or len(test), len(test))))
    record = {
        "command": command("table_three", given.data_dir),
        "hardware": hardware(),
        "device": device_name(given.device),
        "images": len(images),
        "rows": measured(images, given.passes, given.device),
    }
    store_result("table-three.json", record)
    print(markdown(table(record)))


if __name__ == "__main__":
    told(main)
