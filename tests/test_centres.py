"""Values that a lattice's nodes foretell at the centres of its squares, against the function itself."""

import numpy as np
import pytest

from gpvae_core.exact.centres import predicted, refined
from gpvae_core.exact.covering import cover
from gpvae_core.exact.joint import run, tallied
from gpvae_core.exact.lattice import Lattice
from gpvae_core.exact.modes import Mode

SPACING = 0.1
DISC = np.stack(np.meshgrid(*[np.arange(-30, 31)] * 2, indexing="ij"), -1).reshape(-1, 2)
DISC = DISC[(DISC**2).sum(1) <= 900]
FUNCTIONS = {
    "two hills": lambda z: np.logaddexp(-2 * ((z - 0.6) ** 2).sum(1), -8 * ((z + 0.6) ** 2).sum(1)),
    "banana": lambda z: -8 * (z[:, 1] - 0.5 * z[:, 0] ** 2) ** 2 - 0.5 * z[:, 0] ** 2,
    "kinks": lambda z: -2 * np.abs(z @ [1.0, 0.3]) - np.abs(z @ [-0.4, 1.0] - 0.33) - (z**2).sum(1),
    "a hill as narrow as the spacing": lambda z: np.logaddexp(-(z**2).sum(1), 1 - ((z - 0.53) ** 2).sum(1) / 0.02),
}


def centres_of(coords):
    fine = refined(coords)
    return np.unique(np.concatenate([fine + step for step in ([0, 1], [0, -1], [1, 0], [-1, 0])]), axis=0)


def places(centres):
    """Of refined coordinates n: basis @ HALVE @ n."""
    return SPACING * np.stack([centres.sum(1), centres[:, 0] - centres[:, 1]], 1) / 2


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_foretold_is_within_its_error_and_nothing_is_where_too_little_is_known(name):
    f, new = FUNCTIONS[name], centres_of(DISC)
    value, error = predicted(DISC, f(SPACING * DISC), np.zeros(len(DISC)), new)
    known = ~np.isnan(value)
    assert (np.isnan(error) == ~known).all()
    missed = np.abs(value - f(places(new)))[known]
    share = np.exp(f(places(new)))[known] / np.exp(f(SPACING * DISC)).sum() / 2
    assert (missed <= error[known] + 1e-12).mean() > 0.97
    assert share @ missed <= share @ error[known]
    radius = np.linalg.norm(places(new), axis=1) / SPACING
    assert known[radius < 24].all()  # the widest stencil and the square in which misses are sought
    assert not known[radius > 29].any()


def test_a_polynomial_of_degree_five_is_foretold_to_rounding():
    new = centres_of(DISC)

    def f(z):
        return z[:, 0] ** 5 - 2 * z[:, 0] ** 2 * z[:, 1] ** 3 + z[:, 1]

    value, error = predicted(DISC, f(SPACING * DISC), np.zeros(len(DISC)), new)
    inner = np.linalg.norm(places(new), axis=1) < 24 * SPACING
    np.testing.assert_allclose(value[inner], f(places(new))[inner], atol=1e-10)
    assert error[inner].max() < 1e-10


def test_without_a_miss_that_was_measured_nothing_is_foretold():
    """4 x 4 nodes have a polynomial for their middle, but none of them can be left out to see how good it is."""
    few = np.stack(np.meshgrid(*[np.arange(4)] * 2, indexing="ij"), -1).reshape(-1, 2)
    value, error = predicted(few, np.abs(few - 1.3).sum(1), np.zeros(16), centres_of(few))
    assert np.isnan(value).all() and np.isnan(error).all()


def test_what_was_foretold_itself_is_as_doubtful_one_refinement_on():
    """A foretold node lies on its own polynomial, so that no miss shows there."""
    doubt = np.where(DISC.sum(1) % 2 == 1, 0.25, 0.0)
    _, error = predicted(DISC, np.zeros(len(DISC)), doubt, centres_of(DISC))
    assert (error[~np.isnan(error)] == 0.25).all()


def answered(task, f):
    """What one task returns, and how many values it asked for."""
    sizes = []
    (result,) = run([tallied(task, sizes)], lambda owner, z: f(z))
    return result, sum(sizes)


def test_a_refinement_decodes_few_of_the_new_nodes_and_says_what_the_others_may_be_off():
    f, drop = FUNCTIONS["two hills"], 16.0
    lattice = Lattice(np.zeros(2), SPACING * np.eye(2), DISC, f(SPACING * DISC))
    _, asked = answered(lattice.refine(drop, 1e-4), f)
    truth = f(lattice.points)
    share = np.exp(truth - truth.max()) / np.exp(truth - truth.max()).sum()
    told = lattice.doubt > 0
    np.testing.assert_allclose(lattice.values[~told], truth[~told], atol=1e-9)
    assert share @ np.abs(lattice.values - truth) <= share @ lattice.doubt <= 1.5e-4
    assert lattice.given > 2 * asked
    whole = truth.max() + np.log(np.exp(truth - truth.max()).sum()) + lattice.log_cell
    assert abs(whole - lattice.log_integral) <= share @ lattice.doubt


def test_the_hill_of_a_mode_that_no_node_shows_is_decoded():
    place, width = np.array([0.55, 0.55]), 0.01

    def f(z):
        return np.logaddexp(-2 * (z**2).sum(1), 3 - 0.5 * ((z - place) ** 2).sum(1) / width**2)

    mode = Mode(place, float(f(place[None])[0]), np.eye(2) / width**2)
    lattice = Lattice(np.zeros(2), SPACING * np.eye(2), DISC, f(SPACING * DISC))
    answered(lattice.refine(16.0, 1e-4, [mode]), f)
    assert lattice.values.max() == pytest.approx(mode.log_joint, abs=1e-9)  # the centre of a square


def test_values_that_do_not_keep_what_the_nodes_foretold_are_all_decoded():
    """What a miss says of smooth values is no longer true of values of another kind: here those at the centres."""
    smooth = FUNCTIONS["two hills"]
    lattice = Lattice(np.zeros(2), SPACING * np.eye(2), DISC, smooth(SPACING * DISC))
    answered(lattice.refine(16.0, 1e-4), lambda z: smooth(z) - 1)
    assert lattice.given == 0 and not lattice.doubt.any()


def test_hills_of_three_widths_under_one_lattice_all_count():
    """While the lattice is refined for the second, the third is still to be seen."""
    hills = [((0.0, 0.0), 1.0, 0.6), ((1.1, 0.4), 0.3, 0.25), ((-1.125, 0.75), 0.1, 0.15)]

    def f(z):
        logs = [np.log(m / (2 * np.pi * s**2)) - ((z - c) ** 2).sum(1) / (2 * s**2) for c, s, m in hills]
        return np.logaddexp.reduce(logs, axis=0)

    modes = [Mode(np.array(c), float(f(np.array([c]))[0]), np.eye(2) / s**2) for c, s, _ in hills]
    found, asked = answered(cover(modes, 1e-3), f)
    assert asked < 14_000
    assert abs(np.logaddexp.reduce([lattice.log_integral for lattice in found])) < 1e-3
