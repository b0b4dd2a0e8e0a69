"""Put a trained checkpoint into pretrained/, or renew what stands there: weights, manifest, test table and card.

    python -m gpvae_core settle --checkpoint runs/TRAINED --out runs/RUN
    python -m gpvae_core gaps --checkpoint runs/RUN --split validation --out VALIDATION.parquet
    python -m gpvae_core calibrate --checkpoint runs/RUN --gaps VALIDATION.parquet
    python -m gpvae_core gaps --checkpoint runs/RUN --out GAPS.parquet
    python -m benchmarks.ship NAME --run runs/RUN --gaps GAPS.parquet --references 1000 [--data-dir DIR]
    python -m benchmarks.ship NAME --encoders 2000 [--data-dir DIR]

manifest.json keeps the digest of each file and test numbers that a test recomputes; test.parquet every score
and exact gap of each test image; README.md, the card, is computed from these. Without --run the weights and their
commands stay, without --gaps the table, without --references the reference posteriors. --encoders computes the exact
KLs of the other encoders on the decoder, for so many test images.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.card import card
from benchmarks.common import told
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import Dataset, dataset_of
from gpvae_core.diagnostics.gap_table import read_gaps
from gpvae_core.diagnostics.judgement import places, posterior_report
from gpvae_core.diagnostics.references import save_references
from gpvae_core.diagnostics.scores import score_images
from gpvae_core.diagnostics.stored import OTHERS, gap_columns, stored_columns, write_stored
from gpvae_core.errors import InputError
from gpvae_core.exact import ExactPosterior, PosteriorEngine
from gpvae_core.files import json_bytes, write_atomically
from gpvae_core.paths import CONFIG, HEADS, MANIFEST, PRETRAINED, TABLE, WEIGHTS
from gpvae_core.shipped import digests, manifest
from gpvae_core.training.evaluation import evaluate_bounds, evaluate_elbo

Array = NDArray[np.float64]
EXACT_IMAGES = 5
BATCH = 32


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


def store_references(checkpoint: Checkpoint, data: Dataset, count: int) -> None:
    """The posteriors of the first ``count`` test images, to 1e-3 nats."""
    engine, x = checkpoint.engine(), data.test.pixels(slice(0, count))
    posteriors: list[ExactPosterior] = []
    for part in tqdm(x.split(BATCH)):
        posteriors += engine.posteriors(part, near=places(checkpoint.infer(part)))
    origin = {"checkpoint": checkpoint.name, "decoder_digest": checkpoint.decoder_digest, "dataset": data.name}
    save_references(checkpoint.folder, posteriors, origin | {"split": "test", "tolerance": str(engine.tolerance)})


def store_others(checkpoint: Checkpoint, data: Dataset, count: int) -> None:
    """KL(q || p(z|x)) of every encoder on offer for the first ``count`` test images, with its error."""
    stored, columns = stored_columns(checkpoint, data.name, len(data.test)), dict[str, Array]()
    images = data.test.take(np.arange(min(count, len(data.test))))
    for name in tqdm(checkpoint.encoders):
        bound = evaluate_bounds(checkpoint.with_method(name).model, images, seed=0)["elbo"]
        kl, error = (np.full(len(data.test), np.nan) for _ in range(2))
        kl[: len(images)] = stored["log_evidence"][: len(images)] - bound.values.numpy()
        error[: len(images)] = stored["log_evidence_error"][: len(images)] + bound.errors.numpy()
        columns |= {f"kl_{name}": kl, f"kl_{name}_error": error}
    write_stored(checkpoint.folder, columns, digest=checkpoint.digest, dataset=data.name, name=OTHERS)


def main() -> None:
    """Ship one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--gaps", type=Path)
    parser.add_argument("--references", type=int, help="Store the posteriors of so many test images.")
    parser.add_argument(
        "--encoders", type=int, help="Store the exact gaps of the other encoders on so many test images."
    )
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    folder = PRETRAINED / arguments.name
    if not arguments.gaps and not (folder / TABLE).exists():
        raise InputError(f"{folder} holds no {TABLE} yet, so there can be no card; give --gaps")
    before = manifest()
    _list(before | {arguments.name: {k: v for k, v in before.get(arguments.name, {}).items() if k != "files"}})
    if arguments.run:
        folder.mkdir(exist_ok=True)
        for name in (WEIGHTS, CONFIG, HEADS):
            if (arguments.run / name).exists():
                shutil.copyfile(arguments.run / name, folder / name)
    checkpoint = load_checkpoint(folder)
    data = dataset_of(checkpoint, None, arguments.data_dir)
    numbers = entry(checkpoint, data) if arguments.run or arguments.gaps else before[arguments.name]
    if arguments.gaps:
        store(checkpoint, data, arguments.gaps)
    if arguments.references:
        store_references(checkpoint, data, arguments.references)
    if arguments.encoders:
        store_others(checkpoint, data, arguments.encoders)
    _list(manifest() | {arguments.name: numbers | {"files": digests(folder)}})
    trained_in = str(arguments.run) if arguments.run else None
    write_atomically(folder / "README.md", card(checkpoint, data, trained_in).encode())
    print(f"pretrained/{arguments.name}: {sum(p.stat().st_size for p in folder.iterdir()):,} bytes")


def _list(entries: dict[str, dict[str, object]]) -> None:
    """Write the manifest. An entry without digests is one that is being renewed."""
    write_atomically(MANIFEST, json_bytes(entries))


if __name__ == "__main__":
    told(main)
