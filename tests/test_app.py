"""The app without a browser: what is drawn, as data; the pages through AppTest; numbers against the library's."""

import base64
import json
import re
from dataclasses import replace
from html import unescape
from itertools import pairwise

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from app import drawing, loaders
from app.compute import box_atlas, compute_view, compute_views, decode, zoom_window
from app.meter import (
    gap_meter,
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
from app.overlays import overlay
from app.payload import ZOOM_LEVELS, alt_texts, log_contours, mass_contours, plane_data
from app.state import State, to_query
from app.theme import MASSES
from app.views.sources import is_empty, simulate
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import ImageSet, bernoulli_draw
from gpvae_core.data.corruptions import Corruption
from gpvae_core.data.images import to_model_input
from gpvae_core.data.recipes import recipe_of
from gpvae_core.diagnostics.judgement import posterior_report
from gpvae_core.diagnostics.scores import score_images
from gpvae_core.diagnostics.stored import stored_columns
from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.exact.best_gaussian import Step
from gpvae_core.paths import grid_cache
from gpvae_core.shipped import manifest
from tests.test_state import STROKES


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
    assert 'class="badge good"' in large and "KL(p ‖ base encoder) = 5286, error 20 nat, 0.4 % of it" in large
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
    # an ELBO of -974 is not a thousand times more exact than its gap
    rows = {n.name: n for n in numbers(view)}
    for q in ("base encoder", "best Gaussian"):
        assert rows[f"ELBO of the {q}"].scale == rows[f"KL({q} ‖ p)"].scale
    assert rows["exact log p(x)"].scale == rows["entropy of p(z|x)"].scale == 1 < abs(rows["exact log p(x)"].value)


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


@pytest.mark.usefixtures("offline")
def test_the_dial_names_the_empty_image_that_it_makes():
    for occlude, named in (("28", True), ("4", False)):
        page = opened(**{"from": "number", "i": "5", "data": "digits", "occlude": occlude})
        assert any("The dial has made an empty image" in w.value for w in page.warning) == named


def test_tables_show_every_number_and_where_it_stands(view):
    rows = {name: value for name, value, _ in number_rows(view)}
    r = view.report
    for q, name in (("base", "base encoder"), ("marginal", "marginalised q(z|x)"), ("best", "best Gaussian")):
        assert rows[f"KL({name} ‖ p)"] == r[f"kl_{q}"] and rows[f"KL(p ‖ {name})"] == r[f"kl_to_{q}"]
        assert rows[f"ELBO of the {name}"] == r[f"elbo_{q}"]
    assert all(error >= 0 for _, _, error in number_rows(view))
    columns = {"log_width": np.arange(10.0), "uncertainty": np.zeros(10)}
    assert percentile(columns, "log_width", 4.5) == 50
    table = scores_table(view, columns)
    assert f"| {view.scores['log_width']:.4g} | 0.0 % |" in table and "not stored" in table


# --- the pages ------------------------------------------------------------------------------------------------


def opened(**query) -> AppTest:
    test = AppTest.from_file("../app/main.py", default_timeout=120)
    for key, value in {"c": "digits-2d", **query}.items():
        test.query_params[key] = value
    test.run()
    assert not test.exception
    return test


def shown(test: AppTest) -> dict[str, str]:
    table = next(m.value for m in test.markdown if "exact log p(x)" in m.value)
    cells = [line.replace("\\|", "/").split("|")[1:3] for line in table.splitlines()[2:]]
    return {name.strip().replace("/", "|"): value.strip() for name, value in cells}


def says(test: AppTest, view) -> None:
    """The page shows each number of ``view``, to half a unit of the last digit that it shows."""
    texts = shown(test)
    wanted = {name: (value, error) for name, value, error in number_rows(view)}
    assert texts.keys() == wanted.keys()
    for name, (value, error) in wanted.items():
        unit = 10.0 ** -len(texts[name].partition(".")[2])
        assert float(texts[name]) == pytest.approx(value, abs=0.51 * unit + 0.1 * error + 1e-4), name


@pytest.mark.usefixtures("offline")
def test_the_page_shows_the_librarys_numbers(digits, digits_2d, digits_engine):
    page = opened()
    page.segmented_control(key="explore-way").set_value("number").run()
    page.number_input(key="explore-index").set_value(5).run()
    assert not page.exception
    wanted = compute_view(digits_2d, digits_engine, digits.test.pixels(slice(5, 6))[0, 0].numpy())
    says(page, wanted)
    assert page.query_params == {
        "c": "digits-2d",
        "w": digits_2d.digest[:8],
        "from": "number",
        "data": "digits",
        "i": "5",
    }


@pytest.mark.usefixtures("offline")
def test_a_drawing_a_dial_and_a_simulation_come_back_from_their_links(digits_2d, digits_engine):
    dial = Corruption(rotate=20, noise=0.1, seed=4)
    drawn = dial(recipe_of("digits").prepare(drawing.picture(STROKES), "it", None).image.astype(np.float32) / 255)
    simulated, z = simulate(digits_2d, 3, (0.5, -1.25))
    for state, pixels, truth in (
        (State(way="draw", strokes=drawing.encode(STROKES), corruption=dial), drawn, None),
        (State(way="simulate", seed=3, z=z), simulated, z),
    ):
        page = opened(**to_query(state))
        wanted = compute_view(digits_2d, digits_engine, pixels, truth)
        says(page, wanted)
        assert not [w.value for w in page.warning if "link" in w.value]


@pytest.mark.usefixtures("offline")
def test_the_gallery_ascends_in_any_score_and_filters_by_class(digits, digits_2d):
    for name in ("uncertainty", "residual", "kl_base"):
        page = opened(sort=name)
        ranks = []
        for rank in (0, 100, 358):
            page.slider(key="explore-rank").set_value(rank).run()
            ranks.append(int(page.query_params["i"]))
        values = stored_columns(digits_2d, "digits", len(digits.test))[name]
        assert values[ranks[0]] == values.min() and values[ranks[2]] == values.max()
        assert values[ranks[0]] <= values[ranks[1]] <= values[ranks[2]]
    page.pills(key="explore-digit").set_value("4").run()
    assert not page.exception
    assert any(", a 4" in m.value for m in page.markdown)
    assert page.slider(key="explore-rank").max == (digits.test.labels == 4).sum() - 1


@pytest.mark.usefixtures("offline")
def test_random_images_change_on_demand():
    page = opened(**{"from": "random"})
    seen = set()
    for _ in range(4):
        next(b for b in page.button if b.label == "Another one").click().run()
        seen.add(page.query_params["i"])
    assert len(seen) > 1


@pytest.mark.usefixtures("offline")
def test_side_by_side_shows_both_images_numbers(digits, digits_2d, digits_engine):
    page = opened(**{"from": "number", "i": "5", "data": "digits", "vs": "image:7"})
    tables = [m.value for m in page.markdown if "exact log p(x)" in m.value]
    for table, index in zip(tables, (5, 7), strict=True):
        wanted = compute_view(digits_2d, digits_engine, digits.test.pixels(slice(index, index + 1))[0, 0].numpy())
        assert f"| exact log p(x) | {wanted.report['log_evidence']:.3f} |" in table
    other = opened(**{"from": "number", "i": "5", "data": "digits", "vs": "checkpoint:mnist-2d"})
    assert sum("exact log p(x)" in m.value for m in other.markdown) == 2


@pytest.mark.usefixtures("offline")
def test_stale_links_are_named():
    page = opened(c="gone-2d", data="mnist", i="17", w="00000000", digit="z", sort="beauty", **{"from": "gallery"})
    said = " ".join(w.value for w in page.warning)
    for part in (
        "no checkpoint 'gone-2d'",
        "shows test image 17 of 'mnist'",
        "no digit class 'z'",
        "sorted by 'beauty'",
    ):
        assert part in said
    page = opened(c="digits-2d", w="deadbeef", i="5", data="digits", **{"from": "number"})
    assert "other weights of digits-2d (deadbeef)" in " ".join(w.value for w in page.warning)
    next(b for b in page.button if b.label == "Dismiss").click().run()
    assert not any("deadbeef" in warning.value for warning in page.warning)


@pytest.mark.usefixtures("offline")
def test_the_page_says_why_it_shows_the_digits():
    page = opened()
    assert any("test images of **digits**" in c.value for c in page.caption)
    assert any("no connection to" in m.value or "could not be downloaded" in m.value for m in page.markdown)


@pytest.mark.usefixtures("offline")
def test_the_last_picture_is_kept_for_the_next_start_but_nobodys_own(tmp_path, digits_2d):
    opened(**{"from": "simulate", "seed": "1"})
    assert not list(tmp_path.rglob("first/*.json"))
    opened(**{"from": "number", "i": "5", "data": "digits"})
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("first/*.json")]
    assert records and all(
        r["plane"]["digest"] == digits_2d.digest and "image 5" in r["sentence"].lower() for r in records
    )


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", list(manifest()))
def test_every_shipped_checkpoint_has_its_page(name):
    page = opened(c=name)
    assert not page.exception
    assert not [e.value for e in page.error]
    assert np.isfinite(float(shown(page)["exact log p(x)"]))


@pytest.mark.usefixtures("offline")
def test_a_bernoulli_model_is_shown_a_draw_of_a_grey_image_and_the_page_says_so():
    checkpoint = load_checkpoint("binary-mnist-2d")
    page = opened(**to_query(State(checkpoint="binary-mnist-2d", way="draw", strokes=drawing.encode(STROKES))))
    assert not page.exception
    assert any("one draw (seed 0)" in m.value for m in page.markdown)
    grey = to_model_input(drawing.picture(STROKES), "it").astype(np.float32) / 255
    drawn = bernoulli_draw(ImageSet(grey[None]), 0).pixels()[0, 0].numpy()
    assert set(np.unique(drawn)) == {0, 1}
    wanted = compute_view(checkpoint, checkpoint.engine(cache=grid_cache()), drawn)
    says(page, wanted)


# --- another checkpoint -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("offline")
def test_the_test_image_stays_where_the_other_checkpoint_has_the_same_images():
    page = opened(c="mnist-2d", i="17", data="digits", **{"from": "number"})
    for name in ("mnist-2d-wide", "digits-2d", "binary-mnist-2d"):  # offline each shows the digits, some of them drawn
        page.selectbox(key="explore-checkpoint").set_value(name).run()
        assert not page.exception and not page.error and not page.warning
        assert page.query_params["i"] == "17" and any("Test image 17" in m.value for m in page.markdown)


def test_another_data_set_starts_at_its_own_image_without_a_complaint(data_dir):
    if not (data_dir / "omniglot.npz").exists():
        pytest.skip("needs OMNIGLOT: put omniglot.npz into GPVAE_DATA_DIR")
    loaders.source.clear()  # other tests have found no MNIST
    page = opened(c="mnist-2d", i="17", data="mnist", digit="7", sort="kl_base")
    page.selectbox(key="explore-checkpoint").set_value("mnist-2d-wide").run()
    assert page.query_params["i"] == "17" and not page.warning
    page.selectbox(key="explore-checkpoint").set_value("omniglot-2d").run()
    assert not page.exception and not page.warning
    assert page.query_params["data"] == "omniglot" and page.query_params["i"] != "17"
    loaders.source.clear()


# --- other encoders ---------------------------------------------------------------------------------------------


def test_other_encoders_stand_beside_the_checkpoints_own(digits, digits_2d, digits_engine):
    pixels = digits.test.pixels(slice(4, 5))[0, 0].numpy()
    others = [(name, digits_2d.with_method(name)) for name in ("svi", "gn")]
    alone = compute_view(digits_2d, digits_engine, pixels)
    view = compute_view(digits_2d, digits_engine, pixels, others=others)
    assert [q.key for q in view.overlays] == ["base", "marginal", "svi", "gn", "best"]
    assert [q.key for q in view.stages] == ["base", "marginal"]
    assert len({(q.style.colour, q.style.dash) for q in view.overlays}) == 5
    x = torch.as_tensor(pixels)[None, None]
    exact = digits_engine.posterior(x)
    for name, opened in others:
        wanted = exact.kl_from(opened.infer(x).q[0])
        error = wanted.error + view.report[f"kl_{name}_error"] + alone.report["log_evidence_error"]
        assert view.report[f"kl_{name}"] == pytest.approx(wanted.value, abs=error)
    assert view.report["kl_gn"] < 0.1 * view.report["kl_marginal"]
    # the gap of a diagonal Gaussian has two parts, that of another q is whole
    html = gap_meter(view)
    parts = view.report["amortization_gap_svi"] + view.report["approximation_gap"]
    assert parts == pytest.approx(view.report["kl_svi"], abs=1e-3) and "amortization_gap_gn" not in view.report
    assert 'aria-label="Gauss-Newton search: KL' in html and html.count('class="undivided"') == 1
    assert "undivided" not in gap_meter(alone)


def test_a_method_that_looks_step_by_step_is_walked(digits, digits_2d, digits_engine):
    pixels = digits.test.pixels(slice(4, 5))[0, 0].numpy()
    others = [(name, digits_2d.with_method(name)) for name in ("svi", "gn", "savae")]
    view = compute_view(digits_2d, digits_engine, pixels, others=others)
    x = torch.as_tensor(pixels)[None, None]
    exact = digits_engine.posterior(x)
    assert set(view.paths) == {"svi", "gn", "savae"}
    for name, opened in others:
        steps, said = view.paths[name], opened.infer(x)
        for step, q in ((steps[0], said.start[0]), (steps[-1], said.q[0])):
            np.testing.assert_allclose(step.mean, q.mean_and_std()[0].numpy())
            wanted = exact.elbo(q)
            assert step.elbo == pytest.approx(wanted.value, abs=2e-3 + 2 * wanted.error)
    assert (np.diff([step.elbo for step in view.paths["svi"]]) > -1e-4).all()
    first, *more = plane_data(view, "digest", "it")["walks"]
    assert first["name"] == "to the best Gaussian" and [walk["name"] for walk in more] == [
        f"along {next(q.label for q in view.overlays if q.key == name)}" for name in view.paths
    ]
    for walk, steps in zip(more, view.paths.values(), strict=True):
        shown = walk["path"]
        assert 3 <= len(shown) <= 10
        for sent, step in ((shown[0], steps[0]), (shown[1], steps[1]), (shown[-1], steps[-1])):
            a, b, c = sent["tril"]
            factor = np.array([[a, 0], [b, c]])
            np.testing.assert_allclose(factor @ factor.T, step.covariance, rtol=1e-9, atol=1e-15)


def test_a_walk_that_ends_beyond_the_decoders_arithmetic_is_sent_all_the_same(digits, digits_2d, digits_engine):
    pixels = digits.test.pixels(slice(4, 5))[0, 0].numpy()
    view = compute_view(digits_2d, digits_engine, pixels, others=[("svi", digits_2d.with_method("svi"))])
    flat = [Step(np.zeros(2), np.diag([1.0, 0.0]), 1.0), Step(np.ones(2), np.zeros((2, 2)), -np.inf)]
    *_, walk = plane_data(replace(view, paths={"svi": flat}), "digest", "it")["walks"]
    assert json.dumps(walk, allow_nan=False) and [step["tril"] for step in walk["path"]] == [[1, 0, 0], [0, 0, 0]]


@pytest.mark.usefixtures("offline")
def test_a_link_draws_encoders_and_names_those_that_are_not_there():
    page = opened(**{"c": "digits-2d", "from": "number", "i": "4", "data": "digits", "q": "gn,me-7"})
    assert any("There is no encoder 'me-7' on digits-2d" in warning.value for warning in page.warning)
    assert "KL(Gauss-Newton search ‖ p)" in shown(page) and page.query_params["q"] == "gn"
    next(box for box in page.checkbox if box.label.startswith("SVI")).check().run()
    assert "KL(SVI, image by image ‖ p)" in shown(page) and set(page.query_params["q"].split(",")) == {"svi", "gn"}
    next(box for box in page.checkbox if box.label.startswith("Gauss-Newton")).uncheck().run()
    assert "KL(Gauss-Newton search ‖ p)" not in shown(page) and page.query_params["q"] == "svi"
