"""A Gaussian of one's own, the guess, the lesson: their numbers against brute force, their words complete."""

import base64
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from app import loaders, own
from app.compute import compute_view
from app.coverage import EXACT, sentence
from app.headline import headline
from app.lesson import STEPS, Seen
from app.payload import own_data, plane_data, veiled
from app.state import State, from_query, to_query
from app.views.common import pixel_noise
from app.views.four import possible, rows_of
from app.views.guess import PRIOR
from app.walks import walks
from app.words import languages, words
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.exact import Estimate
from gpvae_core.paths import grid_cache

MINE = (0.3, -0.4, 0.25, 0.15)


@pytest.fixture(scope="module")
def view(digits_2d, digits_engine, digits):
    return compute_view(digits_2d, digits_engine, digits.test.pixels(slice(5, 6))[0, 0].numpy())


def log_joint(checkpoint, view, z):
    x = torch.as_tensor(view.pixels, dtype=torch.float64)[None, None]
    model = checkpoint._exact_model.generative
    with torch.no_grad():
        return np.concatenate(
            [model.log_joint(x, part[:, None])[:, 0].numpy() for part in torch.as_tensor(z).split(2000)]
        )


def brute_elbo(checkpoint, view, mine, nodes=41):
    """The trapezoid rule over six standard deviations: nothing of the library's quadrature."""
    axes = [np.linspace(m - 6 * s, m + 6 * s, nodes) for m, s in zip(mine[:2], mine[2:], strict=True)]
    z = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    log_q = sum(norm.logpdf(z[:, j], mine[j], mine[2 + j]) for j in (0, 1))
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    return float((np.exp(log_q) * (log_joint(checkpoint, view, z) - log_q)).sum() * cell)


@pytest.mark.parametrize("mine", [MINE, (1.5, 0.25, 0.017, 0.016), (1.5, 0.25, 1.0, 1.0)])
def test_the_elbo_of_ones_own_gaussian_is_exact(digits_2d, view, mine):
    evidence = view.report["log_evidence"]
    found = own.exact_elbo(digits_2d, view.pixels, mine, evidence)
    assert found.value == pytest.approx(brute_elbo(digits_2d, view, mine), abs=found.error + 1e-4)
    assert found.error <= own.SHARE * max(1, evidence - found.value)


def test_it_stands_in_report_meter_and_plane_like_any_q(digits_2d, digits_engine, view):
    elbo = own.exact_elbo(digits_2d, view.pixels, MINE, view.report["log_evidence"])
    with_it = own.with_own(view, MINE, elbo, [])
    r = with_it.report
    assert r["kl_mine"] == pytest.approx(r["log_evidence"] - elbo.value)
    assert r["amortization_gap_mine"] + r["approximation_gap"] == pytest.approx(r["kl_mine"], abs=1e-6)
    assert [q.key for q in with_it.overlays][-2:] == ["mine", "best"] and [q.key for q in with_it.stages] == [
        "base",
        "marginal",
    ]
    x = torch.as_tensor(view.pixels)[None, None]
    (exact,) = digits_engine.posteriors(x)
    z = exact.sample(20_000, generator=np.random.default_rng(0))
    log_q = sum(norm.logpdf(z[:, j], MINE[j], MINE[2 + j]) for j in (0, 1))
    apart = -exact.entropy - log_q
    assert r["kl_to_mine"] == pytest.approx(apart.mean(), abs=4 * apart.std() / len(z) ** 0.5)
    assert "Your Gaussian lies at" in plane_data(with_it, "d", "an image")["alt"]["zoom"]


def test_a_walk_from_ones_own_gaussian_climbs_to_an_optimum(digits_2d, digits_engine, view):
    """The end is no worse than the same Gaussian moved or widened, by the engine's own ELBO."""
    steps = own.walk(digits_2d, view.pixels, MINE)
    np.testing.assert_allclose(steps[0].mean, MINE[:2])
    np.testing.assert_allclose(np.sqrt(np.diag(steps[0].covariance)), MINE[2:])
    assert (np.diff([step.elbo for step in steps]) > 0).all() and len(steps) > 2
    exact = digits_engine.posterior(torch.as_tensor(view.pixels)[None, None])
    mean, std = steps[-1].mean, np.sqrt(np.diag(steps[-1].covariance))

    def height(mean, std):
        return exact.elbo(DiagonalGaussian(torch.tensor(mean), torch.tensor(std))).value

    assert steps[-1].elbo == pytest.approx(height(mean, std), abs=1e-2)
    for axis in np.eye(2):
        for side in (-0.1, 0.1):
            assert height(mean + side * axis * std, std) < height(mean, std)
            assert height(mean, std * np.exp(side * axis)) < height(mean, std)
    with_it = own.with_own(view, MINE, own.exact_elbo(digits_2d, view.pixels, MINE, view.report["log_evidence"]), steps)
    assert plane_data(with_it, "d", "an image")["walks"][-1]["name"] == "from your Gaussian"


def test_a_walk_from_the_prior_is_offered_where_somebody_can_ask_and_says_where_it_ends(digits_2d, view):
    key, names = "prior", [one["key"] for one in plane_data(view, "d", "it", walk="")["walks"]]
    assert names == ["encoder", key] and plane_data(view, "d", "it")["walks"][0]["key"] == "encoder"
    assert len(plane_data(view, "d", "it")["walks"]) == 1  # an exported page has no server to compute it
    steps = own.walk(digits_2d, view.pixels, PRIOR)
    _, walk = plane_data(replace(view, paths={key: steps}), "d", "it", walk=key)["walks"]
    first, last = walk["path"][0], walk["path"][-1]
    np.testing.assert_allclose([*first["mean"], *first["tril"]], [0, 0, 1, 0, 1], atol=1e-12)
    true = brute_elbo(digits_2d, view, PRIOR, nodes=45)
    assert first["elbo"] == pytest.approx(true, abs=own.SHARE * (view.report["log_evidence"] - true))
    assert first["text"] == f"{first['elbo']:.0f}" and re.fullmatch(r"-?\d+\.\d{3}", last["text"])
    short = view.report["elbo_best"] - last["elbo"]
    assert ("at the best Gaussian" in walk["end"]) == (short == 0)
    low = replace(view, report={**view.report, "elbo_best": view.report["elbo_best"] + 2})
    assert "in a local optimum 2" in walks(replace(low, paths={key: steps}))[1].end


def test_the_browsers_field_is_log_p_of_x_and_z(digits_2d, view):
    field = own.field(digits_2d, view)
    for part in (field["zoom"], field["box"]):
        n = part["nodes"]
        axes = [np.linspace(part["low"][j], part["high"][j], n) for j in (0, 1)]
        some = np.random.default_rng(0).integers(n, size=(50, 2))
        z = np.stack([axes[0][some[:, 0]], axes[1][some[:, 1]]], 1)
        said = field["top"] - np.expm1(part["depths"][some[:, 0], some[:, 1]] / 65535 * part["most"])
        true = log_joint(digits_2d, view, z)
        assert np.abs(said - true).max() < 1e-3 * (1 + np.abs(field["top"] - true).max())


def test_a_veiled_plane_tells_nothing_of_the_answer(digits_2d, view):
    data = plane_data(view, "d", "an image", own=own_data(view, MINE, own.field(digits_2d, view), veil=True))
    hidden = veiled(data)
    assert hidden["lines"] == [] and hidden["overlays"] == [] and hidden["walks"] == [] and hidden["truth"] is None
    assert hidden["mean"] == [0.0, 0.0] and [p["name"] for p in hidden["pictures"]] == ["the image x"]
    assert hidden["gaps"] is None and not any(base64.b64decode(hill["pixels"]).strip(b"\0") for hill in hidden["hills"])
    assert hidden["own"]["field"] is None and hidden["own"]["evidence"] is None and hidden["own"]["kl"] is None
    assert not any(f"{value:.3f}" in str(hidden["alt"]) for value in view.report["mean"])
    assert hidden["box"]["nodes"] == 1


def test_of_four_images_one_is_from_each_quarter_and_the_largest_stands_anywhere():
    gaps = np.r_[np.random.default_rng(0).permutation(400.0 + np.arange(400)), np.nan]
    rounds = [rows_of(gaps, number) for number in range(30)]
    assert all(sorted((gaps[rows] - 400) // 100) == [0, 1, 2, 3] for rows in rounds)
    assert {int(np.argmax(gaps[rows])) for rows in rounds} == {0, 1, 2, 3} and rounds[3] == rows_of(gaps, 3)
    assert possible(gaps) and not possible(gaps[-4:]) and not possible(None)


def test_ones_own_gaussian_is_in_the_link_and_nothing_else_passes():
    state = State(mine=MINE, guess=True, step=3, bare=True, language="de", walk="prior")
    assert from_query(to_query(state)) == (state, [])
    for bad in ("1,2,3", "nan,0,1,1", "0,0,-1,1", "0,0,1e9,1", "9,0,1,1", "0,0,1,1,1"):
        found, problems = from_query({"me": bad})
        assert found.mine is None and len(problems) == 1


def test_the_first_sentence_is_made_from_the_numbers(view):
    r = view.report
    said = headline(view, 5, {6})
    assert "reads this 5 as <b>6</b>" in said and f"{r['kl_base']:.3g} nats" in said
    assert f"{r['kl_base'] - r['kl_best']:.3g} nats</b> are the <b>amortization gap" in said
    assert "reads this 5 as another digit" in headline(view, 5, {4, 9})
    assert "reads" not in headline(view, 5, {5, 9}) and "of this 5" in headline(view, 5, set())
    assert "true posterior by" in headline(view, None, {3})


def test_a_picture_whose_neighbours_disagree_may_show_what_any_of_them_shows(digits):
    wide = load_checkpoint("digits-2d-wide")
    view = compute_view(wide, wide.engine(cache=grid_cache()), digits.test.pixels(slice(35, 36))[0, 0].numpy())
    read = loaders.read_digits(wide, view.pictures[view.stages[0].label])
    assert digits.test.labels[35] == 3 and len(read) > 1 and 3 not in read
    assert loaders.read_digits(wide, digits.test.pixels(slice(35, 36))[0, 0].numpy()) == {3}


# --- the lesson ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", languages())
def test_every_language_has_every_word_of_the_lesson(language):
    own_words, english = words(language), words("en")
    assert own_words["ui"].keys() == english["ui"].keys()
    assert len(own_words["step"]) == len(STEPS) and len(own_words["glossary"]) == len(english["glossary"])
    for step, other in zip(own_words["step"], english["step"], strict=True):
        assert step.keys() == other.keys() and len(step["options"]) == 3 and 0 <= step["answer"] < 3
        assert step["formula"] and len(step["sentence"].split()) <= 25
    assert "{title}" in own_words["ui"]["step"]


def test_a_step_is_done_by_what_it_asks_for_and_by_nothing_else():
    blank = Seen(State(checkpoint="mnist-2d-wide"))
    assert not any(step.done(blank) for step in STEPS)
    ways = [
        Seen(State(), guessed=True),
        Seen(State(), images=1),
        Seen(State(), kls=(1.0, 2.0, 0.1)),
        Seen(State(), kls=(0.25, 2.0, 0.1)),
        Seen(State(), walked=True),
        Seen(State(), images=3),
        Seen(State(), ranks=(0.19, 0.81)),
        Seen(State(), draws=3),
        Seen(State(), noise=0.2),
        Seen(State(strokes="abc")),
    ]
    assert all(step.done(seen) for step, seen in zip(STEPS, ways, strict=True))
    assert not STEPS[1].done(Seen(State(guess=True), images=1))  # nothing grey is to be seen
    assert not STEPS[6].done(Seen(State(), ranks=(0.0, 0.5))) and not STEPS[6].done(Seen(State(), ranks=(0.5, 1.0)))
    assert not STEPS[8].done(Seen(State(), noise=1.0)) and not STEPS[8].done(Seen(State(checkpoint="binary-mnist-2d")))


def test_the_lesson_knows_the_noise_of_each_shipped_checkpoint():
    noise = {name: pixel_noise(load_checkpoint(f"{name}-2d")) for name in ("mnist", "digits", "binary-mnist")}
    assert noise.pop("binary-mnist") is None and all(0 < value < 0.5 for value in noise.values())
    assert pixel_noise(load_checkpoint("digits-2d-wide")) == 1


@pytest.mark.parametrize(
    ("kls", "beaten", "near"),
    [
        ((3.0, 2.0, 0.1), False, False),
        ((2.0, 2.0, 0.1), False, False),  # put where the encoder's is
        ((1.81, 2.0, 0.1), False, False),
        ((1.79, 2.0, 0.1), True, False),
        ((0.31, 2.0, 0.1), True, False),
        ((0.29, 2.0, 0.1), True, True),
        ((0.25, 0.25, 0.21), False, False),  # an encoder that is good: half of what can be won is asked for
        ((0.22, 0.25, 0.21), True, True),
        (None, False, False),
    ],
)
def test_the_encoder_has_to_be_beaten_clearly(kls, beaten, near):
    seen = Seen(State(), kls=kls)
    assert (STEPS[2].done(seen), STEPS[3].done(seen)) == (beaten, near)


def test_coverage_is_said_by_its_counts():
    said = sentence({EXACT: np.linspace(0.005, 0.995, 100), "encoder": np.r_[np.zeros(30), np.ones(70)]})
    assert "in **80**" in said and "encoder in **30**" in said and "the 80 % region" in said
    outside = said.partition("Outside that range: ")[2]
    assert outside.startswith("that of the encoder. By chance alone")
    counts = np.random.default_rng(0).binomial(100, 0.8, 400_000)
    share = 100 * (abs(counts - 80) > 8).mean()
    assert float(re.search(r"there in ([\d.]+) of 100", outside)[1]) == pytest.approx(share, abs=0.1)
    assert "Outside" not in sentence({EXACT: np.linspace(0.005, 0.995, 100)})


def test_a_kl_of_ones_own_says_its_error(view):
    with_it = own.with_own(view, MINE, Estimate(view.report["log_evidence"] - 2.0, 1e-3), [])
    text = own_data(with_it, MINE, None)["text"]
    assert text.startswith("Your KL: 2.000 nats, exact.") and "the best Gaussian" in text
    as_good = own.with_own(view, MINE, Estimate(view.report["log_evidence"] - 1.003 * view.report["kl_base"], 1e-3), [])
    assert "The base encoder is as close." in own_data(as_good, MINE, None)["text"]
