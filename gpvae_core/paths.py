"""Where the shipped checkpoints are. Imports nothing heavy."""

from pathlib import Path

PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
HEADS = "heads.safetensors"
MANIFEST = PRETRAINED / "manifest.json"
