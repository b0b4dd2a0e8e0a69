"""Exact gaps of whole data sets, and the scores learned from them."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
import torch
from tqdm import tqdm

from gpvae_core.checkpoints import Checkpoint, load_checkpoint, save_heads
from gpvae_core.commands import options
from gpvae_core.data import Dataset, dataset_of
from gpvae_core.diagnostics.gap_heads import fit_heads
from gpvae_core.diagnostics.gap_table import gap_rows, numbers, read_gaps, read_rows, save_gaps, settings_file
from gpvae_core.errors import InputError
from gpvae_core.exact import PosteriorEngine
from gpvae_core.files import json_bytes, read_json, write_atomically
from gpvae_core.paths import grid_cache
from gpvae_core.shipped import is_shipped
from gpvae_core.spread import Engine, spread
from gpvae_core.tables import Row, check_suffix

SAVE_SECONDS = 20.0


@dataclass(frozen=True)
class Part:
    """Images ``first`` to ``stop`` of a split, and of what they are to be judged under: as the options say."""

    checkpoint: str
    method: str | None
    own: tuple[tuple[str, Any], ...]
    dataset: str | None
    data_dir: Path | None
    split: str
    tolerance: float
    gaussians: bool
    device: str
    first: int = 0
    stop: int = 0


def rows_of(part: Part) -> list[Row]:
    """The table's rows of these images, in whatever process."""
    opened, data, engine = _ready(replace(part, first=0, stop=0))
    images = data.split(part.split)
    return gap_rows(engine, opened.model, images, range(part.first, part.stop), gaussians=part.gaussians)


@lru_cache(maxsize=1)
def _ready(work: Part) -> tuple[Checkpoint, Dataset, PosteriorEngine]:
    """What every part of one work needs, opened once in each process."""
    opened = options.opened(work.checkpoint, work.method, dict(work.own), work.device)
    data = dataset_of(opened, work.dataset, work.data_dir)
    return opened, data, opened.engine(tolerance=work.tolerance, cache=grid_cache())


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
@options.spread
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
    jobs: int,
    ray: str | None,
    gpus_a_run: float,
    data_dir: Path | None,
    device: str,
    method: str | None,
    **settings: Any,
) -> None:
    """Exact log p(x), KLs and gaps of a whole split, one row per image; beside it OUT.json says what was computed."""
    check_suffix(out)
    options.check_out(out.parent)
    on = Engine(jobs, ray, gpus_a_run)
    work = Part(checkpoint, method, tuple(settings.items()), dataset, data_dir, split, tolerance, gaussians, device)
    _ready.cache_clear()  # of an earlier call in this process: the checkpoint's folder may have changed since
    opened, data, _ = _ready(work)
    options.say(data)
    total = len(options.limited(data.split(split), limit))
    settings = {
        "checkpoint": opened.name,
        "method": opened.config.method,
        "options": opened.config.options,
        "digest": opened.digest,
        "dataset": data.name,
        "split": split,
        "tolerance": tolerance,
        "gaussians": gaussians,
    }
    rows = _rows_so_far(out, settings, resume, total)
    starts = range(len(rows), total, batch_size)
    parts = [replace(work, first=first, stop=min(first + batch_size, total)) for first in starts]
    if not rows:
        write_atomically(settings_file(out), json_bytes(settings))
    saved = time.monotonic()
    with tqdm(total=total, initial=len(rows), unit="img") as bar:
        for batch in _in_order(parts, spread(rows_of, parts, on, _failed)):
            rows += batch
            bar.update(len(batch))
            if time.monotonic() - saved > SAVE_SECONDS or len(rows) == total:
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


def _in_order(parts: list[Part], found: Iterable[tuple[Part, list[Row]]]) -> Iterator[list[Row]]:
    """The rows of one part after the other, whichever comes first."""
    waiting: dict[Part, list[Row]] = {}
    left = iter(parts)
    awaited = next(left, None)
    for part, rows in found:
        waiting[part] = rows
        while awaited in waiting:
            yield waiting.pop(awaited)
            awaited = next(left, None)


def _failed(part: Part, why: str) -> None:
    raise InputError(f"images {part.first} to {part.stop - 1} could not be computed ({why}); go on with --resume")


def _rows_so_far(out: Path, settings: dict[str, Any], resume: bool, total: int) -> list[Row]:
    """What --out holds already. Raises InputError where it holds something else, or was not asked for."""
    if not out.exists():
        return []
    if not resume:
        raise InputError(f"{out} exists already; go on with it by --resume, or choose another --out")
    before = {"options": {}} | read_json(settings_file(out))  # older tables do not name them
    for key, value in settings.items():
        if before.get(key) != value:
            raise InputError(
                f"{out} was computed with {key} = {before.get(key)}, not {value}; give that, or another --out"
            )
    return _checked(read_rows(out, before), out, total)


def _checked(rows: list[Row], out: Path, total: int) -> list[Row]:
    """``rows`` as far as they are those of the first images, ``total`` at most. Raises InputError for others."""
    if len(rows) > total or numbers(rows, "index", out) != list(range(len(rows))):
        raise InputError(
            f"{out} does not hold the first of {total} images in order; remove it, or choose another --out"
        )
    for name in rows[0] if rows else ():
        if name.startswith(("log_evidence", "kl_")):
            numbers(rows, name, out, finite=name.startswith("log_evidence"))
    return rows


@click.command()
@options.checkpoint
@click.option("--gaps", "table", type=options.FilePath, required=True, help="What `gaps --split validation` wrote.")
@click.option("--seed", type=options.SEED, default=0, help="Of the small networks.")
@options.data_dir
def calibrate(checkpoint: str, table: Path, seed: int, data_dir: Path | None) -> None:
    """Fit the learned difficulty scores to exact gaps of validation images, and keep them beside the weights."""
    opened = load_checkpoint(checkpoint)
    if is_shipped(opened.folder):
        raise InputError(
            f"{opened.name} is kept as it was shipped; copy {opened.folder} to a folder of your own and calibrate that"
        )
    data = options.data_of(opened, None, data_dir)
    rows = read_gaps(table, opened, dataset=data.name, split="validation")
    tolerance = numbers([read_json(settings_file(table))], "tolerance", settings_file(table))[0]
    if len(rows) > len(data.validation):
        raise InputError(
            f"{table} has {len(rows)} rows, but there are {len(data.validation)} validation images; compute it anew"
        )
    x = data.validation.pixels(slice(0, len(rows)))
    inference = opened.model.infer(x)
    method = list(inference.stages)[-1]
    kl = torch.tensor(numbers(rows, f"kl_{method}", table), dtype=torch.float64)
    heads = fit_heads(opened.model, x, inference, kl, seed=seed)
    save_heads(opened, heads, images=len(rows), tolerance=tolerance)
    click.echo(f"learned scores of {opened.name}, fitted to {len(rows)} validation images, in {opened.folder}")
