"""Where the shipped checkpoints are, and where the user's caches. Imports nothing heavy."""

from pathlib import Path

import platformdirs

PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
HEADS = "heads.safetensors"
MANIFEST = PRETRAINED / "manifest.json"


def user_cache() -> Path:
    """The user's cache folder: downloads, base grids, first pictures."""
    return Path(platformdirs.user_cache_dir("gpvae"))
