"""Put a trained checkpoint into pretrained/, or renew what stands there: weights, manifest, test table and card.

    python -m gpvae_core settle --checkpoint runs/TRAINED --out runs/RUN
    python -m gpvae_core gaps --checkpoint runs/RUN --split validation --out VALIDATION.parquet
    python -m gpvae_core calibrate --checkpoint runs/RUN --gaps VALIDATION.parquet
    python -m gpvae_core gaps --checkpoint runs/RUN --out GAPS.parquet
    python -m benchmarks.ship NAME --run runs/RUN --gaps GAPS.parquet [--data-dir DIR]

manifest.json keeps the digest of each model's weights and test numbers that a test recomputes; test.parquet every score
and exact gap of each test image; README.md, the card, is computed from these. Without --run the weights and their
commands stay, without --gaps the table.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

from benchmarks.card import card
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import Dataset, dataset_of
from gpvae_core.diagnostics.gap_table import read_gaps
from gpvae_core.diagnostics.judgement import posterior_report
from gpvae_core.diagnostics.scores import score_images
from gpvae_core.diagnostics.stored import NAME, gap_columns, write_stored
from gpvae_core.errors import InputError
from gpvae_core.exact import PosteriorEngine
from gpvae_core.files import read_json, write_atomically
from gpvae_core.paths import CONFIG, HEADS, MANIFEST, PRETRAINED, WEIGHTS
from gpvae_core.training.evaluation import evaluate_elbo

EXACT_IMAGES = 5


def entry(checkpoint: Checkpoint, data: Dataset) -> dict[str, object]:
    """The manifest's: digest, provenance and test numbers."""
    means = {
        key: float(value.double().mean()) for key, value in evaluate_elbo(checkpoint.model, data.test, seed=0).items()
    }
    engine = PosteriorEngine(checkpoint.model.generative)
    keys = ("log_evidence", "kl_base", "kl_marginal", "uncertainty")
    exact = []
    for index in range(EXACT_IMAGES):
        report = posterior_report(engine, checkpoint.model, data.test.pixels(slice(index, index + 1)))
        exact.append({"index": index, **{key: report[key] for key in keys}})
    return {
        "sha256": checkpoint.digest,
        "dataset": data.name,
        "test": {"images": len(data.test), "noise_seed": 0, **means},
        "exact": exact,
    }


def store(checkpoint: Checkpoint, data: Dataset, gaps: Path) -> None:
    """Score the test set and keep it with the gaps. Raises InputError where these are of something else."""
    rows = read_gaps(gaps, checkpoint, dataset=data.name, split="test")
    if len(rows) != len(data.test):
        raise InputError(f"{gaps} holds {len(rows)} of {len(data.test)} test images; go on with --resume")
    columns = score_images(checkpoint.model, data.test)
    names = gap_columns(checkpoint.model.encoder.labels)
    columns |= {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}
    write_stored(checkpoint.folder, columns, digest=checkpoint.digest, dataset=data.name)


def main() -> None:
    """Ship one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--gaps", type=Path)
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    folder = PRETRAINED / arguments.name
    if not arguments.gaps and not (folder / NAME).exists():
        raise InputError(f"{folder} holds no {NAME} yet, so there can be no card; give --gaps")
    if arguments.run:
        folder.mkdir(exist_ok=True)
        for name in (WEIGHTS, CONFIG, HEADS):
            if (arguments.run / name).exists():
                shutil.copyfile(arguments.run / name, folder / name)
    checkpoint = load_checkpoint(folder)
    data = dataset_of(checkpoint, None, arguments.data_dir)
    manifest = (read_json(MANIFEST) if MANIFEST.exists() else {}) | {arguments.name: entry(checkpoint, data)}
    write_atomically(MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    if arguments.gaps:
        store(checkpoint, data, arguments.gaps)
    trained_in = str(arguments.run) if arguments.run else None
    write_atomically(folder / "README.md", card(checkpoint, data, trained_in).encode())
    print(f"pretrained/{arguments.name}: {sum(p.stat().st_size for p in folder.iterdir()):,} bytes")


if __name__ == "__main__":
    main()
