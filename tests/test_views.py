"""What is drawn and said of an image, as data: planes, meter, walk, tables; numbers against the library's."""

import base64
import json
import re
from dataclasses import replace
from html import unescape
from itertools import pairwise

import numpy as np
import pytest
import torch

from app import meter
from app.compute import TOLERANCE, box_atlas, compute_view, compute_views, decode, extent, zoom_window
from app.meter import (
    difference_table,
    gap_meter,
    meanings,
    number,
    number_rows,
    numbers,
    numbers_table,
    percentile,
    scores_table,
    sheet_table,
    trust_badge,
    worst_error,
)
from app.overlays import BEST, outlines, overlay
from app.payload import (
    ZOOM_LEVELS,
    alt_texts,
    gaps_data,
    hill_words,
    log_contours,
    mass_contours,
    overlay_data,
    plane_data,
    without,
)
from app.theme import MASSES
from app.trusted import trusted_views
from app.views.gallery import telling
from app.views.sources import is_empty, simulate
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data.corruptions import Corruption
from gpvae_core.diagnostics.judgement import posterior_report
from gpvae_core.diagnostics.scores import SCORES, score_images
from gpvae_core.diagnostics.stored import stored_columns
from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.exact.best_gaussian import Step
from gpvae_core.paths import grid_cache


@pytest.fixture(scope="module")
def view(digits, digits_2d, digits_engine):
    return compute_view(digits_2d, digits_engine, digits.test.pixels(slice(2, 3))[0, 0].numpy())


# --- what is drawn --------------------------------------------------------------------------------------------


def test_a_view_holds_the_librarys_numbers(view, digits, digits_2d, digits_engine):
    report = posterior_report(digits_engine, digits_2d.model, digits.test.pixels(slice(2, 3)))
    assert view.report.keys() == report.keys()
    for key, value in report.items():
        np.testing.assert_allclose(view.report[key], value, atol=1e-5, rtol=1e-5)
    scores = score_images(digits_2d.model, digits.test.take(np.array([2])))
    assert view.scores == pytest.approx({name: float(value[0]) for name, value in scores.items()}, rel=1e-5)


def test_contours_drawn_hold_the_mass_they_are_labelled_with(view):
    """By the shoelace: a region is the inside of its lines; its mass is summed over the lattice of the window."""
    density = np.exp(view.zoom_log_density)
    cell = (view.zoom_first[1] - view.zoom_first[0]) * (view.zoom_second[1] - view.zoom_second[0])
    for mass, lines in mass_contours(view).items():
        inside = sum(points_inside(line, view.zoom_first, view.zoom_second) for line in lines) % 2 == 1
        assert density[inside].sum() * cell == pytest.approx(mass, abs=0.015)


def points_inside(line, first, second):
    """0 or 1 for each lattice point: how often a ray from it crosses the closed line, odd or even."""
    x, y = np.meshgrid(first, second, indexing="ij")
    crossings = np.zeros(x.shape, int)
    for (x0, y0), (x1, y1) in pairwise(line):
        spans = (y0 > y) != (y1 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossings += spans & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return crossings % 2


def test_log_density_contours_lie_at_their_depth(view, digits, digits_engine):
    exact = digits_engine.posterior(digits.test.pixels(slice(2, 3)))
    peak = max(exact.log_prob(np.array([m.location for m in exact.modes])))
    for nats, lines in log_contours(view).items():
        assert nats in ZOOM_LEVELS and lines
        for line in lines:
            np.testing.assert_allclose(exact.log_prob(line[::7]), peak - nats, atol=0.1)


def test_the_planes_data_is_small_and_says_the_same(view, digits_2d):
    data = plane_data(view, digits_2d.digest, "an image")
    assert len(json.dumps(data)) < 120_000
    masses = [line for line in data["lines"] if line["layer"] == "exact"]
    assert [line["mass"] for line in masses] == list(MASSES)
    for line, wanted in zip(masses, mass_contours(view).values(), strict=True):
        points = np.frombuffer(base64.b64decode(line["points"]), "<u2").reshape(-1, 2) / 65535
        low, high = np.array(line["low"]), np.array(line["high"])
        np.testing.assert_allclose(low + points * (high - low), np.concatenate(wanted), atol=1e-5 * (high - low).max())
    heat = np.frombuffer(base64.b64decode(data["zoom"]["heat"]), np.uint8)
    below = view.zoom_log_density.max() - view.zoom_log_density
    assert heat.min() == 0 and (heat == 255).mean() == pytest.approx((below > 25.4).mean(), abs=0.02)
    assert {q["key"] for q in data["overlays"]} == {"base", "marginal", "best"}


def test_the_columns_hang_by_the_gaps_of_the_library(view):
    data = gaps_data(view, "marginal")
    assert [one["key"] for one in data["columns"]] == ["base", "best"]
    r = view.report
    for one in data["columns"]:
        assert one["kl"] == pytest.approx(r["log_evidence"] - r[f"elbo_{one['key']}"], abs=1e-9)
        assert sum(part["nats"] for part in one["parts"]) == pytest.approx(one["kl"], abs=1e-6)
    assert float(data["top"]) == pytest.approx(r["log_evidence"], abs=1e-3)


def test_the_pictures_of_the_hills_are_decodes_at_the_modes(view, digits, digits_2d, digits_engine):
    exact = digits_engine.posterior(digits.test.pixels(slice(2, 3)))
    assert sum(share for share, _ in view.hills) <= 1 + 1e-9
    assert view.hills[0][0] == pytest.approx(exact.hill_shares.max(), abs=1e-6)
    top = exact.modes[int(exact.hill_shares.argmax())].location
    np.testing.assert_allclose(view.hills[0][1], decode(digits_2d, top[None])[0], atol=1e-5)
    assert [hill_words(share) for share in (0.999, 0.8912, 0.0171)] == [
        "at the posterior's peak",
        "a hill of 89 % of the posterior",
        "a hill of 1.7 % of the posterior",
    ]


def test_the_atlas_decodes_between_its_nodes_as_the_decoder_does(view, digits_2d):
    """The browser mixes four tiles; the decoder is asked at the same places."""
    n = len(view.tiles)
    rng = np.random.default_rng(0)
    places = rng.random((50, 2)) * (n - 1)
    node, share = np.floor(places).astype(int), places % 1
    mixed = sum(
        (share[:, 0] if i else 1 - share[:, 0])[:, None, None]
        * (share[:, 1] if j else 1 - share[:, 1])[:, None, None]
        * view.tiles[node[:, 0] + i, node[:, 1] + j]
        for i in (0, 1)
        for j in (0, 1)
    )
    ends = np.array([[axis[0], axis[-1]] for axis in (view.zoom_first, view.zoom_second)])
    z = ends[:, 0] + places / (n - 1) * (ends[:, 1] - ends[:, 0])
    error = np.abs(mixed / 255 - decode(digits_2d, z))
    assert error.mean() < 0.01 and error.max() < 0.1
    atlas = box_atlas(digits_2d, 4.5)
    assert len(atlas["picture"]) < 400_000 and atlas["digest"] == digits_2d.digest


def test_window_holds_the_mass_and_names_what_it_leaves_out():
    width = torch.tensor([0.01, 0.01]).double()
    near, far = (
        overlay(name, name, DiagonalGaussian(torch.tensor(mean).double(), width))
        for name, mean in (("near", [0.1, 0.1]), ("far", [3.0, 0.0]))
    )
    low, high, left_out = zoom_window(np.array([-0.05, -0.05]), np.array([0.05, 0.05]), [near, far])
    assert left_out == ["far"]
    assert (low < -0.05).all()
    assert (high > near.mean + 2.45 * near.std).all()
    assert high[0] < 1


def test_the_window_of_hills_far_apart_ends_where_they_end():
    rng = np.random.default_rng(0)
    gaussian, weights = rng.normal([1.0, -1.0], [0.1, 0.5], (200_000, 2)), np.full(200_000, 5e-6)
    low, high = extent(gaussian, weights)
    np.testing.assert_allclose((low, high), ([0.6, -3.0], [1.4, 1.0]), atol=0.15)
    apart = gaussian + rng.choice([-2.0, 2.0], (200_000, 1))
    low, high = extent(apart, weights)  # four standard deviations are 8 to either side
    np.testing.assert_allclose((low, high), ([-1.8, -5.2], [3.8, 3.2]), atol=0.4)


def test_alt_text_is_made_from_the_numbers(view):
    words = alt_texts(view, "a seven")["zoom"]
    for value in (view.report["mean"][0], view.report["base_mean"][1]):
        assert f"{value:.3f}" in words
    assert f"{view.report['kl_best']:.2f} nats" in words and "a seven" in words


def test_a_simulated_images_true_z_lies_in_the_regions_that_its_density_says(digits_2d, digits_engine):
    """That these places are uniform over many images is tested with the engine."""
    images, truths = zip(*(simulate(digits_2d, seed, None) for seed in range(6)), strict=True)
    views = compute_views(digits_2d, digits_engine, images, truths)
    inside = []
    for view, pixels, truth in zip(views, images, truths, strict=True):
        exact = digits_engine.posterior(torch.as_tensor(pixels)[None, None])
        above = exact.log_prob(np.array([truth]))[0] > exact.hdr_levels(MASSES)
        assert [view.truth_mass < mass for mass in MASSES] == above.tolist()
        inside += above.tolist()
    assert 0 < sum(inside) < len(inside)


# --- the meter ------------------------------------------------------------------------------------------------


def test_the_meter_shows_parts_that_sum_to_the_whole(view):
    html = gap_meter(view)
    assert f"<b>{view.report['log_evidence']:.3f}</b>" in html
    for q in ("base", "marginal", "best"):
        amortization, approximation, whole = map(float, meter_row(html, view, q))
        assert amortization + approximation == pytest.approx(whole, abs=2e-3)
        assert whole == pytest.approx(view.report[f"kl_{q}"], abs=6e-4)
    widths = [float(w) for w in re.findall(r"width:([\d.]+)%", html)]
    longest = max(view.report[f"kl_{q}"] for q in ("base", "marginal", "best"))
    assert widths[0] + widths[1] == pytest.approx(100 * view.report["kl_base"] / longest, abs=0.05)


def meter_row(html, view, q):
    name = re.escape(next(g.label for g in view.overlays if g.key == q))
    (row,) = re.findall(rf"<span>{name}</span>.*?<span class=\"total\">(.*?)</span>", html)
    return re.fullmatch(r"(-?[\d.]+) \+ (-?[\d.]+) = <b>(-?[\d.]+)</b>", row).groups()


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (5286.395, 0.2, "5286.4"),
        (1.4486, 0.0326, "1.45"),
        (0.2196, 9.9e-4, "0.220"),
        (63.334966, 8.8e-4, "63.335"),
        (63.334966, 1e-9, "63.335"),
        (1037.45, 3.0, "1037"),
        (0.4, 900.0, "0"),
        (-3e-6, 1e-5, "0.000"),
        (-974.1195, 0.0003, "-974.120"),
        (77036156608412.84, 695497.1, "7.70361566e+13"),
        (77036156608409.391, None, "7.704e+13"),
        (0.012345, None, "0.01235"),
        (float("inf"), 1.0, "infinite"),
        (float("nan"), 1.0, "unknown"),
        (12.3, float("inf"), "12"),
    ],
)
def test_a_number_has_the_digits_that_its_error_allows(value, error, shown):
    assert number(value, error) == shown


def test_every_table_shows_the_digits_that_the_error_allows(view):
    wide = replace(view, report=view.report | {"kl_base": 5286.395, "kl_base_error": 0.2})
    cells = re.findall(r"5286[\d.]*", gap_meter(wide) + numbers_table(wide) + sheet_table([("one", wide)]))
    assert len(cells) == 3 and set(cells) == {"5286.4"}
    assert "| 5286.4 |" in scores_table(wide, {"kl_base": np.zeros(3)})
    huge = replace(view, scores=view.scores | {"residual": 77036156608409.391})
    assert "77036156608409" not in scores_table(huge, {}) and "| 7.704e+13 |" in scores_table(huge, {})


def test_the_badge_judges_each_number_by_its_own_scale_and_says_which(view):
    def badge(**changed):
        return trust_badge(replace(view, report=view.report | changed))

    assert 'class="badge good"' in badge() and worst_error(view) < 0.01
    # a large KL by its share, a small one in nats
    large = badge(kl_to_base=5286.395, kl_to_base_error=21.2)
    assert 'class="badge good"' in large and "KL(p ‖ base encoder) = 5286, error 22 nat, 0.41 % of it" in large
    for changed, reason in (
        ({"kl_best": 0.3, "kl_best_error": 0.011}, "numerical error above 0.01 nat in KL(best Gaussian ‖ p)"),
        ({"kl_to_base": 5286.395, "kl_to_base_error": 53.0}, "numerical error above 1 % in KL(p ‖ base encoder)"),
        ({"log_evidence": 5286.395, "log_evidence_error": 0.2}, "numerical error above 0.01 nat in exact log p(x)"),
        ({"kl_to_base_error": float("nan")}, "KL(p ‖ base encoder) or its error is not a finite number"),
        ({"kl_to_base_error": float("inf")}, "KL(p ‖ base encoder) or its error is not a finite number"),
        ({"kl_base": float("nan")}, "is not a finite number"),
        ({"elbo_best": float("-inf")}, "ELBO of the best Gaussian or its error is not a finite number"),
    ):
        assert 'class="badge bad"' in badge(**changed) and reason in badge(**changed), changed
    barely = badge(kl_to_base=2.18, kl_to_base_error=0.02295)  # 1.05 %: to one digit that is the limit
    assert "error above 1 % in" in barely and "error 0.023 nat, 1.1 % of it" in barely
    assert "error 0.011 nat" in badge(log_evidence_error=0.0101)
    # an ELBO of -974 is not a thousand times more exact than its gap
    rows = {n.name: n for n in numbers(view)}
    for q in ("base encoder", "best Gaussian"):
        assert rows[f"ELBO of the {q}"].scale == rows[f"KL({q} ‖ p)"].scale
    assert rows["exact log p(x)"].scale == rows["entropy of p(z|x)"].scale == 1 < abs(rows["exact log p(x)"].value)


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_the_image_that_a_wide_model_begins_with_is_trusted(request, name):
    checkpoint, test = load_checkpoint(f"{name}-2d-wide"), request.getfixturevalue(name).test
    index = telling(np.arange(len(test)), stored_columns(checkpoint, name, len(test)))
    engine = checkpoint.engine(cache=grid_cache(), tolerance=TOLERANCE)
    first = compute_view(checkpoint, engine, test.pixels(slice(index, index + 1))[0, 0].numpy())
    assert 'class="badge good"' in trust_badge(first)


def test_the_badge_turns_red_where_mass_lies_outside_the_box(view):
    for outside, colour, words in (
        (0.0098, "good", "0.98 % of the mass"),
        (0.0101, "bad", "1.01 % of the mass"),
        (1.0, "bad", "100"),
    ):
        badge = trust_badge(replace(view, report=view.report | {"mass_outside_box": outside}))
        assert f'class="badge {colour}"' in badge and words in badge
        assert ("mass outside the box on screen" in badge) == (colour == "bad")


@pytest.fixture(scope="module")
def hard_views(mnist, mnist_2d, mnist_engine):
    """Two images that the encoder mistakes, whose walk stops short, and one whose walk arrives."""
    rows = (4248, 464, 5)
    images = mnist.test.pixels(np.array(rows))[:, 0].numpy()
    return dict(zip(rows, compute_views(mnist_2d, mnist_engine, list(images), [None] * 3), strict=True))


def test_the_hardest_images_are_trusted(hard_views):
    for index in (4248, 464):
        hard = hard_views[index]
        assert max(hard.report[f"kl_{q}_error"] for q in ("base", "marginal", "best")) < 5e-3
        assert hard.report["kl_to_base"] > 2000
        assert 'class="badge good"' in trust_badge(hard)


# --- the walk -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "short"), [(4248, 157), (464, 278)])
def test_a_walk_that_stops_short_says_where_and_how_far_below(hard_views, mnist, mnist_engine, index, short):
    """The end is an optimum, by the engine's own ELBO around it, and as far below the best one as is said."""
    hard = hard_views[index]
    last = hard.path[-1]
    mean, std, elbo = last.mean, np.sqrt(np.diag(last.covariance)), last.elbo
    exact = mnist_engine.posterior(mnist.test.pixels(slice(index, index + 1)))

    def height(mean, std):
        return exact.elbo(DiagonalGaussian(torch.tensor(mean), torch.tensor(std))).value

    assert height(mean, std) == pytest.approx(elbo, abs=1e-2)
    assert hard.report["elbo_best"] - height(mean, std) == pytest.approx(short, abs=0.5)
    for axis in np.eye(2):
        for side in (-0.1, 0.1):
            assert height(mean + side * axis * std, std) < height(mean, std)
            assert height(mean, std * np.exp(side * axis)) < height(mean, std)
    (walk,) = plane_data(hard, "digest", "it")["walks"]
    assert walk["end"] in unescape(gap_meter(hard))
    wanted = f"stopped in a local optimum: ELBO {elbo:.3f}, {short} nats below the best Gaussian, which was found from "
    assert f"{wanted}another start." in walk["end"]
    assert f"z = ({mean[0]:.3f}, {mean[1]:.3f})" in walk["end"]
    assert "to the best" not in walk["label"] and not hard.arrives


def test_a_walk_that_arrives_says_so(hard_views):
    easy = hard_views[5]
    assert easy.arrives and easy.path[-1].elbo == pytest.approx(easy.report["elbo_best"], abs=1e-2)
    (walk,) = plane_data(easy, "digest", "it")["walks"]
    assert "arrives at the best Gaussian" in walk["end"] and walk["end"] in unescape(gap_meter(easy))
    assert walk["label"] == "Walk from the encoder to the best"
    best = next(q for q in easy.overlays if q.key == BEST)
    heights = [step["elbo"] for step in walk["path"]]
    assert heights[-1] == easy.report["elbo_best"] == max(heights)  # the search's own nodes had put it higher
    assert walk["path"][-1]["mean"] == best.mean.tolist()


# --- an empty image -------------------------------------------------------------------------------------------


def test_an_image_without_ink_is_told_from_a_changed_one(digits):
    image = digits.test.pixels(slice(5, 6))[0, 0].numpy()
    thin = np.zeros_like(image)
    thin[6:22, 13:15] = 1
    for dial in (Corruption(occlude=28), Corruption(occlude=28, noise=0.5), Corruption(thicken=-3)):
        assert is_empty(dial, thin)
    assert is_empty(Corruption(occlude=26), thin) and not is_empty(Corruption(down=8), thin)
    for dial in (Corruption(), Corruption(occlude=4), Corruption(noise=1.0), Corruption(rotate=90)):
        assert not is_empty(dial, image)
    assert not is_empty(Corruption(rotate=90), np.zeros_like(image))  # not the dial's doing


@pytest.fixture(scope="module")
def empty_view(digits_2d, digits_engine):
    return compute_view(digits_2d, digits_engine, np.zeros((28, 28), np.float32))


def test_no_number_of_an_empty_image_has_more_digits_than_its_error_allows(empty_view):
    """Nor of one whose encoder is 77,036,156,608,412 nats away, +- 700,000."""
    changed = {"kl_base": 77036156608412.84, "kl_base_error": 695497.1, "elbo_base": -77036156607911.2}
    changed |= {"amortization_gap_base": 77036156608412.34, "amortization_gap_base_error": 695497.09}
    far = replace(
        empty_view, report=empty_view.report | changed, path=[Step(np.zeros(2), np.eye(2), -77036156607911.2)]
    )
    for view in (empty_view, far):
        data = plane_data(view, "digest", "it")
        said = [gap_meter(view), numbers_table(view), sheet_table([("one", view)]), *data["alt"].values()]
        said += [scores_table(view, {"kl_base": np.zeros(3)}), *(step["text"] for step in data["walks"][0]["path"])]
        for words in said:
            assert [n for n in re.findall(r"[\d.]+", words) if len(n.replace(".", "")) > 9] == []
    assert "7.70361566e+13" in gap_meter(far)


def test_tables_show_every_number_and_where_it_stands(view):
    rows = {name: value for name, value, _ in number_rows(view)}
    r = view.report
    for q, name in (("base", "base encoder"), ("marginal", "marginalised q(z|x)"), ("best", "best Gaussian")):
        assert rows[f"KL({name} ‖ p)"] == r[f"kl_{q}"] and rows[f"KL(p ‖ {name})"] == r[f"kl_to_{q}"]
        assert rows[f"ELBO of the {name}"] == r[f"elbo_{q}"]
    assert all(error >= 0 for _, _, error in number_rows(view))
    columns = {"log_width": np.arange(10.0), "uncertainty": np.zeros(10)}
    assert percentile(columns["log_width"], 4.5) == 50
    table = scores_table(view, columns)
    assert f"| {view.scores['log_width']:.4g} | 0.0 % |" in table and "not stored" in table


def test_every_score_on_the_page_is_explained(view):
    said = meanings([*view.scores, "kl_base"])
    assert said.count("\n") == len(view.scores) - 1
    for name in view.scores:
        assert f"**{SCORES[name].label}**: {SCORES[name].meaning}." in said.replace("\\|", "|")


def test_two_images_are_compared_number_by_number(view, digits, digits_2d, digits_engine):
    other = compute_view(digits_2d, digits_engine, digits.test.pixels(slice(7, 8))[0, 0].numpy())
    rows = [
        line.replace("\\|", "/").strip("| ").split(" | ") for line in difference_table(view, other).splitlines()[2:]
    ]
    mine, theirs = ({n.name.replace("|", "/"): n for n in numbers(one)} for one in (view, other))
    assert [name for name, *_ in rows] == list(mine) == list(theirs)
    for name, left, right, more in rows:
        assert (left, right) == (mine[name].shown, theirs[name].shown) and more[0] in "+-"
        error = mine[name].error + theirs[name].error
        assert float(more) == pytest.approx(theirs[name].value - mine[name].value, abs=error + 6e-4)
    same = difference_table(view, view)
    assert all(float(line.strip("| ").rsplit(" | ", 1)[1]) == 0 for line in same.splitlines()[2:])


def test_a_q_without_finite_moments_is_left_out_of_the_window():
    """The whole plane was NaN."""
    q = DiagonalGaussian(torch.zeros(2).double(), torch.tensor([np.inf, 0.1]).double())
    low, high, left_out = zoom_window(np.array([-0.05, -0.05]), np.array([0.05, 0.05]), [overlay("wide", "wide", q)])
    assert left_out == ["wide"] and np.isfinite([low, high]).all()
    assert all(lines == [] for lines in outlines(q).values())
    json.dumps(overlay_data(overlay("wide", "wide", q)), allow_nan=False)


def test_a_view_in_doubt_is_computed_more_closely_and_no_other_one(digits, digits_2d):
    """At 5e-3 the entropy of image 0 is known to 0.018 nats: twice what the badge allows."""
    engine = digits_2d.engine(tolerance=5e-3, cache=grid_cache())
    images = [digits.test.pixels(slice(i, i + 1))[0, 0].numpy() for i in (0, 2)]
    rough = compute_views(digits_2d, engine, images, [None, None])
    trusted = trusted_views(digits_2d, engine, images, [None, None])
    assert meter.worst_error(rough[0]) > meter.UNTRUSTED > meter.worst_error(trusted[0])
    assert meter.worst_error(rough[1]) < meter.UNTRUSTED and trusted[1].report == rough[1].report
    r, closer = rough[0].report, trusted[0].report
    for name in ("log_evidence", "kl_base", "entropy"):
        assert abs(r[name] - closer[name]) <= r[f"{name}_error"] + closer[f"{name}_error"]
    assert engine.tolerance == 5e-3
    (hurried,) = trusted_views(digits_2d, engine, images[:1], [None], busy=lambda: True)
    assert hurried.report["entropy_error"] == pytest.approx(
        r["entropy_error"], rel=1e-3
    )  # others wait: the first look is what there is


def test_what_a_step_of_the_lesson_hides_is_drawn_told_and_named_nowhere(view):
    data = plane_data(view, "digest", "an image")
    less = without(data, view, "an image", {"best", "walk", "marginalised"})
    assert [q["key"] for q in less["overlays"]] == [column["key"] for column in less["gaps"]["columns"]] == ["base"]
    assert less["gaps"]["plain"] and less["gaps"]["columns"][0]["parts"] == [] and less["walks"] == []
    assert not any("best Gaussian" in said or "marginalised" in said for said in less["alt"].values())
    assert all("marginalised" not in picture["name"] for picture in less["pictures"])
    assert without(data, view, "an image", ()) == data
