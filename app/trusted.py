"""Views whose numbers are trusted: where an error is too large, the posterior is computed again, more closely.

Not while a class asks: first looks come before closer ones, and the badge says what is in doubt.
"""

from collections.abc import Callable, Sequence

from app import meter
from app.compute import Array, Encoders, View, compute_views
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.exact import PosteriorEngine

CLOSER = (1e-3, 2e-4)  # nats in log p(x): after the engine's own tolerance, these, as long as a number is in doubt


def trusted_view(
    checkpoint: Checkpoint,
    engine: PosteriorEngine,
    pixels: Array,
    truth: tuple[float, float] | None = None,
    others: Encoders = (),
) -> View:
    """``compute.compute_view``, as closely as its badge asks for."""
    (view,) = trusted_views(checkpoint, engine, [pixels], [truth], others)
    return view


def trusted_views(
    checkpoint: Checkpoint,
    engine: PosteriorEngine,
    images: Sequence[Array],
    truths: Sequence[tuple[float, float] | None],
    others: Encoders = (),
    busy: Callable[[], bool] = lambda: False,
) -> list[View]:
    """``compute.compute_views``, each as closely as its badge asks for while the server is not ``busy``."""
    views = compute_views(checkpoint, engine, images, truths, others)
    for tolerance in CLOSER:
        doubted = [k for k, view in enumerate(views) if meter.worst_error(view) > meter.UNTRUSTED]
        if tolerance >= engine.tolerance or not doubted or busy():
            continue
        closer = engine.at(tolerance)
        again = compute_views(checkpoint, closer, [images[k] for k in doubted], [truths[k] for k in doubted], others)
        for k, view in zip(doubted, again, strict=True):
            views[k] = view
    return views
