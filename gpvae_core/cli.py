"""The command line: python -m gpvae_core."""

import sys

import click

from gpvae_core.commands.evaluate import evaluate, posterior, rank
from gpvae_core.commands.gaps import calibrate, gaps
from gpvae_core.commands.settle import settle
from gpvae_core.commands.train import train
from gpvae_core.errors import InputError


def main() -> None:
    """Run the CLI; what the user can mend is one sentence on stderr and exit code 2."""
    try:
        cli(prog_name="python -m gpvae_core")
    except InputError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


@click.group(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def cli() -> None:
    """GPVAE (M. Kim, CVPR 2022): train it, and compute exact 2-D posteriors p(z|x).

    \b
    First steps, offline:
      python -m gpvae_core posterior --checkpoint digits-2d --index 0
      python -m gpvae_core rank --checkpoint digits-2d --out ranking.csv
      python -m gpvae_core gaps --checkpoint digits-2d --out gaps.csv
      python -m gpvae_core train --dataset digits --method gpvae --epochs 5 --out runs/first
      python -m gpvae_core settle --checkpoint runs/first --out runs/settled
      python -m gpvae_core evaluate --checkpoint runs/settled

    A checkpoint is a name in pretrained/ or the path of a folder that `train` wrote. All figures are in nats.
    """


for command in (train, settle, evaluate, posterior, rank, gaps, calibrate):
    cli.add_command(command)
