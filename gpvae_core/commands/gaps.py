"""Exact gaps of whole data sets, and the scores learned from them."""

import time
from pathlib import Path
from typing import Any

import click
import torch
from tqdm import tqdm

from gpvae_core.checkpoints import load_checkpoint, save_heads
from gpvae_core.commands import options
from gpvae_core.diagnostics.gap_heads import fit_heads
from gpvae_core.diagnostics.gap_table import gap_table, read_gaps, read_rows, save_gaps, settings_file
from gpvae_core.errors import InputError
from gpvae_core.files import json_bytes, read_json, write_atomically
from gpvae_core.paths import grid_cache
from gpvae_core.tables import Row, check_suffix

SAVE_SECONDS = 20.0


@click.command()
@options.checkpoint
@options.method
@options.dataset
@options.split
@options.limit
@options.tolerance
@click.option("--gaussians", is_flag=True, help="Also find the best diagonal and full Gaussian of each image.")
@click.option("--batch-size", type=options.COUNT, default=64, help="Images at once; more for a GPU.")
@click.option("--out", type=options.FilePath, required=True, help="CSV or Parquet file to write, by its suffix.")
@click.option("--resume", is_flag=True, help="Go on with the table in --out.")
@options.data_dir
@options.device
def gaps(
    checkpoint: str,
    dataset: str | None,
    split: str,
    limit: int | None,
    tolerance: float,
    gaussians: bool,
    batch_size: int,
    out: Path,
    resume: bool,
    data_dir: Path | None,
    device: str,
    method: str | None,
    **settings: Any,
) -> None:
    """Exact log p(x), KLs and gaps of a whole split, one row per image; beside it OUT.json says what was computed."""
    check_suffix(out)
    opened = options.opened(checkpoint, method, settings, device)
    data = options.data_of(opened, dataset, data_dir)
    images = options.limited(data.split(split), limit)
    settings = {
        "checkpoint": opened.name,
        "method": opened.config.method,
        "digest": opened.digest,
        "dataset": data.name,
        "split": split,
        "tolerance": tolerance,
        "gaussians": gaussians,
    }
    rows = _rows_so_far(out, settings, resume)
    engine = opened.engine(tolerance=tolerance, cache=grid_cache())
    table = gap_table(engine, opened.model, images, start=len(rows), batch_size=batch_size, gaussians=gaussians)
    if not rows:
        write_atomically(settings_file(out), json_bytes(settings))
    saved = time.monotonic()
    with tqdm(total=len(images), initial=len(rows), unit="img") as bar:
        for batch in table:
            rows += batch
            bar.update(len(batch))
            if time.monotonic() - saved > SAVE_SECONDS or len(rows) == len(images):
                save_gaps(out, settings, rows)
                saved = time.monotonic()
    missed = sum(row["log_evidence_error"] > tolerance for row in rows)
    means = [
        f"{sum(row[f'kl_{stage}'] for row in rows) / len(rows):.3f} ({label})"
        for stage, label in opened.model.encoder.labels.items()
    ]
    click.echo(
        f"{len(rows)} images in {out}: mean KL in nats {', '.join(means)}; "
        f"{missed} beyond the tolerance of {tolerance:g} nats, each with its own error"
    )


def _rows_so_far(out: Path, settings: dict[str, Any], resume: bool) -> list[Row]:
    """What --out holds already. Raises InputError where it holds something else, or was not asked for."""
    if not out.exists():
        return []
    if not resume:
        raise InputError(f"{out} exists already; go on with it by --resume, or choose another --out")
    before = read_json(settings_file(out))
    for key, value in settings.items():
        if before.get(key) != value:
            raise InputError(
                f"{out} was computed with {key} = {before.get(key)}, not {value}; give that, or another --out"
            )
    return read_rows(out, before)


@click.command()
@options.checkpoint
@click.option("--gaps", "table", type=options.FilePath, required=True, help="What `gaps --split validation` wrote.")
@click.option("--seed", type=options.SEED, default=0, help="Of the small networks.")
@options.data_dir
def calibrate(checkpoint: str, table: Path, seed: int, data_dir: Path | None) -> None:
    """Fit the learned difficulty scores to exact gaps of validation images, and keep them beside the weights."""
    opened = load_checkpoint(checkpoint)
    data = options.data_of(opened, None, data_dir)
    rows = read_gaps(table, opened, dataset=data.name, split="validation")
    x = data.validation.pixels(slice(0, len(rows)))
    inference = opened.model.infer(x)
    method = list(inference.stages)[-1]
    kl = torch.tensor([row[f"kl_{method}"] for row in rows], dtype=torch.float64)
    heads = fit_heads(opened.model, x, inference, kl, seed=seed)
    save_heads(opened, heads, images=len(rows), tolerance=read_json(settings_file(table))["tolerance"])
    click.echo(f"learned scores of {opened.name}, fitted to {len(rows)} validation images, in {opened.folder}")
