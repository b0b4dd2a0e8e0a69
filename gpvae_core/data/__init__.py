"""Data sets, and any picture made into a model's input."""

from gpvae_core.data.datasets import (
    DATASETS,
    Dataset,
    ImageSet,
    as_pixels,
    bernoulli_draw,
    check_shape,
    dataset_of,
    lasting_name,
    load_dataset,
    recipe_for,
)

__all__ = [
    "DATASETS",
    "Dataset",
    "ImageSet",
    "as_pixels",
    "bernoulli_draw",
    "check_shape",
    "dataset_of",
    "lasting_name",
    "load_dataset",
    "recipe_for",
]
