"""Where checkpoints, data sets and the user's caches are. Imports nothing heavy."""

import os
from pathlib import Path

from gpvae_core.errors import InputError, short
from gpvae_core.extras import extras

_HERE = Path(__file__).resolve().parent
PRETRAINED = next(  # inside an installed package, beside it in a clone
    (place for place in (_HERE / "pretrained", _HERE.parent / "pretrained") if place.is_dir()), _HERE / "pretrained"
)
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
HEADS = "heads.safetensors"
TABLE = "test.parquet"
REFERENCES = "reference.safetensors"
ENCODERS = "encoders"  # folder: other encoders on the same decoder
MANIFEST = PRETRAINED / "manifest.json"
DATA_DIR, OWN_CHECKPOINTS, SHIPPED = "GPVAE_DATA_DIR", "GPVAE_CHECKPOINTS", "GPVAE_PRETRAINED"  # in the environment


def at_home(path: str | Path, named: str = "") -> Path:
    """``path`` with a leading ~ or ~USER replaced by that home folder.

    Raises InputError where no such user is known; ``named``: by what, for example "GPVAE_DATA_DIR=".
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(
            f"{named}'{short(path)}' begins with the home folder of a user who is unknown here; give the whole path"
        ) from None


def own_folders() -> list[Path]:
    """The folders of one's own checkpoints: those that GPVAE_CHECKPOINTS names, separated as in PATH.

    Raises InputError as ``at_home`` does.
    """
    named = os.environ.get(OWN_CHECKPOINTS, "").split(os.pathsep)
    return [at_home(part, f"{OWN_CHECKPOINTS}=") for part in named if part]


def data_folder() -> Path:
    """Where data sets are kept: GPVAE_DATA_DIR, or the user's cache folder. Raises InputError as ``at_home`` does."""
    named = os.environ.get(DATA_DIR)
    return at_home(named, f"{DATA_DIR}=") if named else user_cache()


def check_environment() -> None:
    """Raise InputError where a folder that the environment names cannot be found."""
    own_folders()
    data_folder()


def user_cache() -> Path:
    """The user's cache folder: downloads, base grids, first pictures."""
    with extras():
        import platformdirs
    return Path(platformdirs.user_cache_dir("gpvae"))


def grid_cache() -> Path:
    """Where decoded base grids are kept: what one program has decoded, the next one reads."""
    return user_cache() / "grids"


def grid_cache_if_known() -> Path | None:
    """The same; None in an installation that cannot tell where the user's cache folder is."""
    try:
        return grid_cache()
    except InputError:
        return None
