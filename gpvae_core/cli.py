"""The command line: python -m gpvae_core. A command's own module is imported when it is called: help comes at once."""

import ast
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.resources import files

import click

from gpvae_core.errors import InputError
from gpvae_core.extras import extras

COMMANDS = {  # name -> its module in gpvae_core/commands
    "train": "train",
    "settle": "settle",
    "evaluate": "evaluate",
    "posterior": "evaluate",
    "rank": "evaluate",
    "gaps": "gaps",
    "calibrate": "gaps",
}


class LateGroup(click.Group):
    """Commands by name, imported when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        with extras():
            command: click.Command = getattr(import_module(f"gpvae_core.commands.{COMMANDS[name]}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(name)) for name in COMMANDS])


def _summary(name: str) -> str:
    """The first line of a command's docstring, read from its file."""
    source = (files("gpvae_core.commands") / f"{COMMANDS[name]}.py").read_text()
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    return (ast.get_docstring(functions[name]) or "").splitlines()[0]


def main() -> None:
    """Run the CLI; what the user can mend is one sentence on stderr and exit code 2."""
    with sentences():
        cli(prog_name="python -m gpvae_core")


@contextmanager
def sentences() -> Iterator[None]:
    """Of an InputError, or a standard output that takes nothing, one sentence on stderr and exit code 2."""
    try:
        if sys.stdout is None:
            raise InputError("standard output is closed, and the result would be lost; send it to a file or /dev/null")
        yield
    except InputError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except OSError:
        reason = _fault_of_output()
        if reason is None:
            raise
        click.echo(f"error: cannot write to standard output ({reason}); send it elsewhere and run again", err=True)
        sys.exit(2)


def _fault_of_output() -> str | None:
    """Why standard output does not take what is written to it; None where it takes an empty line."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError as error:
        # Python writes what is left once more when it ends, and would complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error.strerror
    return None


@click.group(
    cls=LateGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
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
