"""Views computed before the class comes: python -m app.ahead mnist-2d --images 500.

A change to an image whose view is kept costs a fifth of the server's time. Views are kept for this version of the
program; those that are there already are not made again. May run beside the server, behind it in priority.
"""

import os
from functools import partial

import click

from app import kept
from app.compute import TOLERANCE, Encoders, to_bytes
from app.trusted import trusted_view
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import dataset_of
from gpvae_core.errors import InputError
from gpvae_core.paths import grid_cache

POLITE = 10  # how far this steps back behind whoever looks at pages


def prepare(name: str, images: int, encoders: tuple[str, ...] = ()) -> int:
    """Keep the views of the first test images of checkpoint ``name``, with ``encoders`` drawn; how many were made.

    Raises InputError where there is no such checkpoint, data set or encoder, no latent plane, or no place for a view.
    """
    checkpoint = load_checkpoint(name)
    test = dataset_of(checkpoint).test
    others: Encoders = tuple((one, checkpoint.with_method(one)) for one in encoders)
    engine = checkpoint.engine(tolerance=TOLERANCE, cache=grid_cache())
    made = 0
    with click.progressbar(range(min(images, len(test))), label=f"Views of {name}") as numbers:
        for number in numbers:
            pixels = test.pixels(slice(number, number + 1))[0, 0].numpy()
            identity = kept.identity(checkpoint, to_bytes(pixels), None, others)
            if not kept.has(identity):
                kept.view(identity, partial(trusted_view, checkpoint, engine, pixels, None, others))
                made += 1
                if not kept.has(identity):
                    raise InputError(f"views cannot be kept in {kept.folder()}; make room there, or make it writable")
    return made


@click.command(help=__doc__)
@click.argument("checkpoint")
@click.option("--images", type=click.IntRange(1, kept.MOST), default=500, show_default=True, help="The first so many.")
@click.option("--encoder", "encoders", multiple=True, help="Draw this encoder, too; may be given several times.")
def main(checkpoint: str, images: int, encoders: tuple[str, ...]) -> None:
    """Prepare, and say how many views were made."""
    os.nice(POLITE)
    try:
        made = prepare(checkpoint, images, encoders)
    except InputError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{made} views made; all are kept in {kept.folder()}")


if __name__ == "__main__":
    main()
