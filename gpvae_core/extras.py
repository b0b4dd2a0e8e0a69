"""Which extra brings a package that is not there."""

from collections.abc import Iterator
from contextlib import contextmanager

from gpvae_core.errors import InputError

BROUGHT_BY = {
    "data": ("pooch", "requests", "PIL", "pi_heif", "sklearn", "torchvision", "platformdirs", "pyarrow"),
    "train": ("click", "filelock", "tqdm", "zuko"),
    "app": ("streamlit", "contourpy", "matplotlib"),
    "arviz": ("arviz_base",),
}


@contextmanager
def extras() -> Iterator[None]:
    """Within it a package that is missing is one sentence. Raises InputError naming the extra that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        for extra, packages in BROUGHT_BY.items():
            if package in packages:
                raise InputError(
                    f"{package} is not installed, and this needs it; pip install 'gpvae-core[{extra}]'"
                ) from None
        raise
