"""What the benchmarks share: where results go, what they ran on, which images they take."""

import json
import platform
from pathlib import Path

import numpy as np
import torch

from gpvae_core.checkpoints import Checkpoint, write_atomically
from gpvae_core.data import load_dataset

RESULTS = Path(__file__).parent / "results"


def hardware() -> str:
    """Threads, architecture and torch version, as every result states them."""
    return f"{torch.get_num_threads()} CPU threads, {platform.machine()}, torch {torch.__version__}"


def test_images(checkpoint: Checkpoint, data_dir: Path | None, count: int) -> tuple[np.ndarray, torch.Tensor]:
    """``count`` test images spread evenly over the whole test set: their numbers and pixels (count, C, H, W)."""
    training = checkpoint.training
    test = load_dataset(training["dataset"], data_dir, seed=int(training["seed"])).test
    indices = np.linspace(0, len(test) - 1, count).round().astype(int)
    return indices, test.take(indices).pixels()


def store_result(name: str, record: object) -> None:
    """Write benchmarks/results/NAME, JSON, whole or not at all."""
    write_atomically(RESULTS / name, (json.dumps(record, indent=2) + "\n").encode())
