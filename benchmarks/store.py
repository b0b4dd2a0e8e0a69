"""Write pretrained/NAME/test.parquet: every difficulty score and the exact gaps of each test image.

python -m gpvae_core gaps --checkpoint NAME --out GAPS.parquet
python -m benchmarks.store NAME GAPS.parquet [--data-dir DIR]
"""

import argparse
from pathlib import Path

import numpy as np

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import load_dataset
from gpvae_core.errors import InputError
from gpvae_core.gap_table import read_gaps
from gpvae_core.scores import score_images
from gpvae_core.stored import GAPS, NAME, write_stored


def store(name: str, gaps: Path, data_dir: Path | None) -> None:
    """Score the test set and keep it with the gaps. Raises InputError where these are of something else."""
    checkpoint = load_checkpoint(name)
    training = checkpoint.training
    data = load_dataset(training["dataset"], data_dir, seed=int(training["seed"]))
    rows = read_gaps(gaps, checkpoint, dataset=data.name, split="test")
    if len(rows) != len(data.test):
        raise InputError(f"{gaps} holds {len(rows)} of {len(data.test)} test images; go on with --resume")
    columns = score_images(checkpoint.model, data.test)
    columns |= {key: np.array([row[key] for row in rows], dtype=np.float64) for key in GAPS}
    write_stored(checkpoint.folder, columns, digest=checkpoint.digest, dataset=data.name)
    size = (checkpoint.folder / NAME).stat().st_size
    print(f"{len(rows)} images, {', '.join(columns)}: {size:,} bytes in {checkpoint.folder / NAME}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("gaps", type=Path)
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    store(arguments.name, arguments.gaps, arguments.data_dir)
