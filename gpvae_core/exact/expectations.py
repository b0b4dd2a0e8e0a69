"""E_q[log p(x, z) - log q(z)] by real decodes, for any q that is a transport of the standard normal, or a mixture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erfc

from gpvae_core.distributions import DiagonalGaussian, FullGaussian, Mixture, Posterior
from gpvae_core.errors import InputError
from gpvae_core.exact.entropies import entropy, uneven
from gpvae_core.exact.grid import grid_points
from gpvae_core.exact.joint import Array, Task
from gpvae_core.exact.lattice import COSETS, HALVE

Gaussian = DiagonalGaussian | FullGaussian
Placed = tuple[Array, Array]  # centre (2,) and frame (2, 2) of a Gaussian
HERMITE_ORDERS = (3, 4, 6, 8)
CLEAR = 0.1  # of the tolerance: where the lower three agree so well the highest is not asked
SPACING = 1.0  # of the first lattice in u
RADIUS = 7.0  # where it ends: what lies beyond holds 2e-11 of q, and log p(x, z) falls like a square
WHOLE = 2  # so many refinements take the whole disc; what lies beyond RIM has settled then
RIM, FADE = 3.3, 0.35  # there and so gradually refinement fades out; beyond RIM lie 4e-3 of q
KINKED = 4.0  # at kinks a sublattice of twice the spacing errs so much more
OUTER = RIM + 4.6 * FADE
LATTICE_NODES = 30_000
WEIGHTS = 1e-3  # that the weights of a mixture may miss 1 by
HEAVIEST = 8  # places of each component at which the decoder's arithmetic is measured


@dataclass(frozen=True)
class Component:
    """A part of one q: its share of q, and where it takes u (n, 2): z (n, 2), and log q(z) (n,) of the whole q.

    ``gaussian``: centre and frame, where that part is a Gaussian and all of q, or log q is its own alone. ``rest``:
    what is to be added to E[-log q] then, in nats, and its error; see ``components``.
    """

    weight: float
    place: Callable[[Array], tuple[Array, Array]]
    gaussian: Placed | None
    rest: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Expectation:
    """E_q[log p(x, z) - log q(z)], its quadrature error, and where q holds most: places (n, 2), log p(x, z) (n,)."""

    value: float
    error: float
    places: Array
    used: Array


def single(q: Posterior) -> Posterior:
    """One q over the plane in float64 on the CPU. Raises InputError for a batch or another number of dimensions."""
    if (*q.batch_shape, q.dim) != (2,):
        raise InputError(
            f"give one q(z|x) with a mean of shape (2,), not {(*q.batch_shape, q.dim)}; index the batch first"
        )
    one = q.detach().to("cpu").double()
    if isinstance(one, Mixture):
        _check_weights(one)
    if isinstance(one, FullGaussian) and bool(torch.triu(one.scale_tril, 1).any()):
        raise InputError(
            "scale_tril of this FullGaussian is not lower triangular; give the Cholesky factor of the covariance, "
            "torch.linalg.cholesky(covariance)"
        )
    return one


def _check_weights(q: Mixture) -> None:
    count, total = len(q.log_weights), float(q.log_weights.exp().sum())
    if count != len(q.components) or not abs(total - 1) < WEIGHTS:
        raise InputError(
            f"a mixture of {len(q.components)} components has {count} weights that sum to {total:g}; give one log "
            "weight a component, torch.log of shares that sum to 1"
        )


def centre_and_frame(q: Gaussian) -> Placed:
    """Mean (2,) and Cholesky factor (2, 2) of one Gaussian, in float64. Raises InputError for a batch."""
    one = single(q)
    assert isinstance(one, Gaussian)
    return one.mean.numpy(), one.scale_tril.numpy()


def moments(q: Posterior) -> Placed:
    """Mean (2,) and covariance (2, 2) of one q: by Gauss-Hermite on its parts, exact for Gaussians.

    Not finite where q is so wide that its squares are not.
    """
    nodes, weights = hermite(HERMITE_ORDERS[-1])
    placed = [(_share(weight) * weights, _transported(part, nodes)[0]) for weight, part in single(q).parts()]
    w, z = (np.concatenate(column) for column in zip(*placed, strict=True))
    with np.errstate(invalid="ignore", over="ignore"):  # an infinite width has moments that are no numbers
        mean = w @ z
        covariance: Array = ((z - mean) * w[:, None]).T @ (z - mean)
    return mean, covariance


def uneven_parts(q: Posterior) -> list[Placed]:
    """Centre and frame of each part of one q, a mixture of Gaussians where one lies in a much wider one; else none."""
    parts = [part for _, part in q.parts()]
    placed = [centre_and_frame(part) for part in parts if isinstance(part, Gaussian)]
    return placed if 1 < len(placed) == len(parts) and uneven(placed) else []


def components(q: Posterior) -> list[Component]:
    """The parts of one q over the plane."""
    one = single(q)
    parts = one.parts()
    if placed := uneven_parts(one):
        # no rule over a wide part sees how log q rises at a narrow one: each part has its own log-density, and what
        # E log q lacks then is a matter of q alone, without a decode
        shares = [_share(weight) for weight, _ in parts]
        own = [float(part.entropy()) for _, part in parts if isinstance(part, Gaussian)]
        whole, error = entropy(one, placed)
        rest = whole - float(np.dot(shares, own)), error
        return [
            Component(w, _placing(part, part), at, rest) for w, at, (_, part) in zip(shares, placed, parts, strict=True)
        ]
    return [Component(_share(weight), _placing(one, part), _gaussian(part, len(parts))) for weight, part in parts]


def _share(log_weight: torch.Tensor | None) -> float:
    """Of one part of ``Posterior.parts``."""
    return 1.0 if log_weight is None else float(log_weight.exp())


@torch.no_grad()
def _transported(part: Posterior, u: Array) -> tuple[Array, Array]:
    """z (n, 2) and log|det dz/du| (n,) of u (n, 2)."""
    z, log_det = part.transport(torch.as_tensor(u))
    return z.numpy(), log_det.numpy()


def _gaussian(part: Posterior, parts: int) -> Placed | None:
    return centre_and_frame(part) if parts == 1 and isinstance(part, Gaussian) else None


def _placing(whole: Posterior, part: Posterior) -> Callable[[Array], tuple[Array, Array]]:
    """u (n, 2) -> z and log q(z): of a q in one part from the map itself, which may have no cheap inverse."""

    @torch.no_grad()
    def place(u: Array) -> Placed:
        z, log_det = _transported(part, u)
        log_q = _log_standard_normal(u) - log_det if part is whole else whole.log_prob(torch.as_tensor(z)).numpy()
        return z, log_q

    return place


def under(qs: Sequence[Sequence[Component]], tolerance: float, smooth: bool) -> Task[list[list[Expectation]]]:
    """An ``Expectation`` for every component of each of several q's of one image, to ``tolerance`` nats.

    Gauss-Hermite in u where it settles; not where the posterior itself was not smooth: there orders agree by chance.
    Elsewhere a lattice in u, refined; Gaussians that are nearly the same share one.
    """
    parts = [part for q in qs for part in q]
    found = yield from _by_hermite(parts, tolerance, smooth)
    rest = [k for k, one in enumerate(found) if not one.error <= tolerance and np.isfinite(one.value)]
    while rest:
        first = max(rest, key=lambda k: _log_area(parts[k]))
        together = [first, *(k for k in rest if k != first and _close(parts[first], parts[k]))]
        better = yield from _on_lattice([parts[k] for k in together], tolerance)
        for k, (value, error) in zip(together, better, strict=True):
            found[k] = replace(found[k], value=value, error=error)
        rest = [k for k in rest if k not in together]
    ends = np.cumsum([len(q) for q in qs]).tolist()
    return [found[end - len(q) : end] for q, end in zip(qs, ends, strict=True)]


def _by_hermite(parts: Sequence[Component], tolerance: float, smooth: bool) -> Task[list[Expectation]]:
    """The lower three orders first, and the highest where they do not agree far better than asked."""
    if not smooth:  # no order is trusted, but the nodes show where q holds most
        return [one for _, one in (yield from _of_orders(parts, HERMITE_ORDERS[-1:]))]
    found = yield from _of_orders(parts, HERMITE_ORDERS[:-1])
    results = [replace(one, error=_disagreement(by_order)) for by_order, one in found]
    unsure = [k for k, one in enumerate(results) if not one.error <= CLEAR * tolerance]
    higher = yield from _of_orders([parts[k] for k in unsure], HERMITE_ORDERS[-1:])
    for k, (highest, one) in zip(unsure, higher, strict=True):
        results[k] = replace(one, error=_disagreement([*found[k][0], *highest]))
    return results


def _disagreement(by_order: Sequence[float]) -> float:
    """Of the last three orders, infinite where one is no number: a single agreement could be chance."""
    low, middle, high = by_order[-3:]
    if not np.isfinite([low, middle, high]).all():
        return np.inf
    return max(abs(high - middle), abs(middle - low) / COSETS)


def _of_orders(parts: Sequence[Component], orders: Sequence[int]) -> Task[list[tuple[list[float], Expectation]]]:
    """Each part's value by each order, and the last one's nodes that hold most; its error is not known yet."""
    if not parts:
        return []
    rules = [hermite(order) for order in orders]
    nodes = np.concatenate([u for u, _ in rules])
    ends = np.cumsum([len(u) for u, _ in rules])[:-1]
    heaviest = np.argsort(-rules[-1][1])[:HEAVIEST] - len(rules[-1][1])
    placed = [part.place(nodes) for part in parts]
    values = yield np.concatenate([z for z, _ in placed])
    results = []
    for (z, log_q), log_p in zip(placed, np.split(values, len(parts)), strict=True):
        with np.errstate(invalid="ignore"):  # both are -inf under an infinite width: no number, and so no ELBO
            by_rule = zip(rules, np.split(log_p - log_q, ends), strict=True)
        by_order = [float(w @ integrand) for (_, w), integrand in by_rule]
        results.append((by_order, Expectation(by_order[-1], np.inf, z[heaviest], log_p[heaviest])))
    return results


def _log_area(part: Component) -> float:
    """Of a Gaussian; the others come first, each by itself."""
    return np.inf if part.gaussian is None else float(np.linalg.slogdet(part.gaussian[1])[1])


def _close(wide: Component, other: Component) -> bool:
    """Whether a lattice over the one serves the other as well."""
    if wide.gaussian is None or other.gaussian is None:
        return False
    inverse = np.linalg.inv(wide.gaussian[1])
    widths = np.linalg.svd(inverse @ other.gaussian[1], compute_uv=False)
    shift = np.linalg.norm(inverse @ (other.gaussian[0] - wide.gaussian[0]))
    return bool(shift < 0.5 and 0.8 < widths[-1] <= widths[0] < 1.1)


def _seen_from(first: Component, other: Component) -> Placed:
    """Centre d and map t that make u' = t (u - d) standard normal under ``other``, u under ``first``."""
    if first.gaussian is None or other.gaussian is None or other is first:
        return np.zeros(2), np.eye(2)
    inverse = np.linalg.inv(first.gaussian[1])
    turn = np.asarray(np.linalg.inv(inverse @ other.gaussian[1]), np.float64)
    return inverse @ (other.gaussian[0] - first.gaussian[0]), turn


def _on_lattice(parts: list[Component], tolerance: float) -> Task[list[tuple[float, float]]]:
    """The expectation and its error under components close to the first, by nested lattices in its u.

    Each refinement adds the centres of the squares. After WHOLE of them only the part within OUTER goes on, cut out
    by a window so smooth that both lattices integrate it to 1e-5; what lies beyond has settled, or is in the error.
    """
    seen = [_seen_from(parts[0], part) for part in parts]
    areas = np.array([abs(np.linalg.det(t)) for _, t in seen])
    basis = SPACING * np.eye(2)
    inner = outer = origin = np.zeros(0)
    unsettled = np.zeros(len(parts))  # of the part that refinement leaves behind
    changes: list[Array] = []
    nodes, level = 0, 0
    while True:
        u, half = _disc(basis, RADIUS if level <= WHOLE else OUTER, fresh_only=level > 0)
        z, log_q = parts[0].place(u)
        values = yield z
        nodes += len(u)
        own = [_log_standard_normal((u - d) @ t.T) for d, t in seen]
        weights = np.exp(own) * (areas * abs(np.linalg.det(basis)) * (1 if level == 0 else 2))[:, None]
        # log q_k(z) - log q_1(z) is the same difference in u
        integrand = values - log_q - (own - own[0] + np.log(areas / areas[0])[:, None])
        if level == 0:
            origin = (weights * integrand).sum(1) / weights.sum(1)  # integrate what is left after a constant
        left = weights * (integrand - origin[:, None])
        window = _window(np.linalg.norm(u, axis=1))
        fresh_inner, fresh_outer = left @ window, left @ (1 - window)
        before = inner + outer
        inner = fresh_inner if level == 0 else 0.5 * (inner + fresh_inner)
        if level <= WHOLE:
            last, outer = outer, fresh_outer if level == 0 else 0.5 * (outer + fresh_outer)
            unsettled = np.abs(outer - last) if level else unsettled
        if level > 0:
            halves = [2 * left[:, part] @ window[part] for part in (half, ~half)]
            apart = np.max([np.abs(one - inner) for one in halves], axis=0) / KINKED
            changes.append(np.maximum(np.abs(inner + outer - before), apart))
        # a kink's error halves with each refinement; three changes in a row are not small by chance
        if level > 1:
            error = np.max([change / 2**k for k, change in enumerate(reversed(changes[-3:]))], axis=0)
            error = error + (unsettled / 2 if level > WHOLE else 0)
            if (error <= tolerance).all() or 2 * nodes > LATTICE_NODES:
                return list(zip((origin + inner + outer).tolist(), error.tolist(), strict=True))
        basis, level = basis @ HALVE, level + 1


def _log_standard_normal(u: Array) -> Array:
    logs: Array = -0.5 * (u**2).sum(1) - np.log(2 * np.pi)
    return logs


def _window(radius: Array) -> Array:
    """1 well within RIM, 0 well beyond it, and as smooth between as a Gaussian's distribution function."""
    window: Array = 0.5 * erfc((radius - RIM) / (FADE * np.sqrt(2)))
    return window


def _disc(basis: Array, radius: float, *, fresh_only: bool) -> tuple[Array, NDArray[np.bool_]]:
    """Lattice points of the disc, (n, 2), all or only those that the last refinement added; and half of them, (n,)."""
    n = int(np.ceil(radius / np.sqrt(abs(np.linalg.det(basis))))) + 1
    axis = np.arange(-n, n + 1.0)
    c = grid_points(axis, axis)
    if fresh_only:
        c = c[c.sum(1) % 2 == 1]
    u = c @ basis.T
    inside = (u**2).sum(1) <= radius**2
    return u[inside], c[inside, 0] % 2 == 0


@cache
def hermite(order: int) -> tuple[Array, Array]:
    """Tensor-product Gauss-Hermite nodes (order^2, 2) and weights (order^2,), summing to 1, for N(0, I)."""
    x, w = np.polynomial.hermite_e.hermegauss(order)
    return grid_points(x, x), np.outer(w, w).ravel() / w.sum() ** 2
