"""The command: python -m app.figures --checkpoint C --out DIR."""

from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from app.compute import TOLERANCE, Array, View, box_atlas
from app.figures.export import FORMATS, export, file_name
from app.figures.sheet import MOST_IMAGES, Sheet, check_score, figure_1, figure_2
from app.trusted import trusted_view
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.cli import sentences
from gpvae_core.commands import options
from gpvae_core.data import ImageSet, dataset_of
from gpvae_core.data.images import SIDE
from gpvae_core.diagnostics.gap_table import gap_table
from gpvae_core.diagnostics.scores import SCORES, score_images
from gpvae_core.diagnostics.stored import stored_columns
from gpvae_core.errors import InputError
from gpvae_core.exact import PosteriorEngine
from gpvae_core.files import write_atomically
from gpvae_core.paths import grid_cache


@click.command(context_settings={"show_default": True})
@click.option(
    "--checkpoint", type=options.NAME, required=True, help="A name in pretrained/ or a folder that train wrote."
)
@click.option("--out", type=options.FolderPath, required=True, help="Folder for the files.")
@click.option(
    "--dataset", type=options.NAME, help=f"By default the one the checkpoint was trained on. {options.DATASET_HELP}"
)
@click.option("--images", type=click.IntRange(1, MOST_IMAGES), default=6, help="Images in Figure 1.")
@click.option("--by", type=click.Choice(list(SCORES)), default="uncertainty", help="Score that orders Figure 1.")
@click.option("--limit", type=click.IntRange(1), help="Choose among the first images only.")
@click.option("--formats", default=",".join(FORMATS), help="File formats, by comma.")
@options.data_dir
def main(
    checkpoint: str,
    out: Path,
    dataset: str | None,
    images: int,
    by: str,
    limit: int | None,
    formats: str,
    data_dir: Path | None,
) -> None:
    """Figures 1 and 2 of the paper on the test set of a checkpoint, images chosen by quantiles, never by hand."""
    with sentences():
        kinds = _kinds(formats)
        options.check_out(out)
        opened = load_checkpoint(checkpoint)
        data = dataset_of(opened, dataset, data_dir)
        _check(opened, data.test, by)
        engine = opened.engine(tolerance=TOLERANCE, cache=grid_cache())
        test = data.test if limit is None else data.test.take(np.arange(min(limit, len(data.test))))
        columns = _columns(opened, engine, data.name, len(data.test), test)

        def view_of(index: int) -> View:
            return trusted_view(opened, engine, test.pixels(slice(index, index + 1))[0, 0].numpy())

        sheets = [figure_1(opened, data.name, columns, test.labels, view_of, count=images, by=by)]
        if "uncertainty" in columns:
            sheets.append(figure_2(opened, data.name, columns, test.labels, view_of))
        atlas = box_atlas(opened, float(engine.grid.axis[-1]))
        for sheet in sheets:
            _write(sheet, kinds, out, atlas)


def _kinds(formats: str) -> list[str]:
    kinds = [part.strip() for part in formats.split(",") if part.strip()]
    if not kinds:
        raise InputError(f"--formats names none; choose among {', '.join(FORMATS)}")
    for kind in kinds:
        if kind not in FORMATS:
            raise InputError(f"there is no format '{kind}'; choose among {', '.join(FORMATS)}")
    return kinds


def _check(checkpoint: Checkpoint, test: ImageSet, by: str) -> None:
    """Raise InputError, before minutes are spent, where there is no such score, or no figure of such images."""
    if checkpoint.config.image_shape != (1, SIDE, SIDE):
        raise InputError(
            f"figures are of grey images of {SIDE}x{SIDE} pixels, but {checkpoint.name} takes "
            f"{checkpoint.config.image_shape}; choose another checkpoint"
        )
    kls = [f"kl_{stage}" for stage in checkpoint.model.encoder.labels]
    check_score(by, checkpoint, [*score_images(checkpoint.model, test.take(np.arange(1))), *kls])


def _columns(
    checkpoint: Checkpoint, engine: PosteriorEngine, dataset: str, whole: int, test: ImageSet
) -> dict[str, Array]:
    """Scores and exact KLs of ``test``: as stored, or computed now."""
    stored = stored_columns(checkpoint, dataset, whole)
    if stored:
        return {name: values[: len(test)] for name, values in stored.items()}
    rows = []
    with tqdm(total=len(test), desc="exact KLs", unit="img") as bar:
        for batch in gap_table(engine, checkpoint.model, test):
            rows += batch
            bar.update(len(batch))
    kls = [f"kl_{stage}" for stage in checkpoint.model.encoder.labels]
    exact = {name: np.array([row[name] for row in rows]) for name in kls}
    return score_images(checkpoint.model, test) | exact


def _write(sheet: Sheet, kinds: list[str], out: Path, atlas: dict[str, object]) -> None:
    for kind in kinds:
        write_atomically(out / file_name(sheet, kind), export(sheet, kind, [atlas]))
    click.echo(f"{sheet.name}: images {sheet.config['indices']} as {', '.join(kinds)} in {out}")


if __name__ == "__main__":
    main(prog_name="python -m app.figures")
