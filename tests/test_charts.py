"""Is uncertainty difficulty? The sentence over the chart, and the chart."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from app.charts import DEPTH, decades, histogram, latent_map, median_cells, mosaic, scatter, surface
from app.views.common import order_names, with_unit
from app.views.difficulty import finding
from gpvae_core.diagnostics.scores import SCORES
from gpvae_core.diagnostics.statistics import spearman_interval
from gpvae_core.diagnostics.stored import other_columns, stored_columns


def test_the_finding_says_the_rank_correlation_with_its_interval(digits_2d):
    columns = stored_columns(digits_2d, "digits", 359)
    names = {"uncertainty": "U(x)", "kl_base": "exact KL", "log_width": "width"}
    words = finding(columns, names, "uncertainty", "kl_base")
    rho = spearmanr(columns["uncertainty"], columns["kl_base"]).statistic
    assert f"**{rho:+.2f}** [" in words and "these 359 images" in words and "equally wide" in words
    low, high = (float(value) for value in re.search(r"\[([+-][\d.]+), ([+-][\d.]+)\]", words).groups())
    drawn = spearman_interval(columns["uncertainty"], columns["kl_base"], generator=np.random.default_rng(0))
    assert [low, high] == pytest.approx(drawn, abs=0.03)
    assert "equally wide" not in finding(columns, names, "log_width", "kl_base")


def test_any_encoders_exact_kl_can_be_held_against_a_score_and_sorts_where_all_images_have_it(digits_2d):
    columns = stored_columns(digits_2d, "digits", 359) | other_columns(digits_2d, "digits", 359)
    names = order_names(digits_2d, columns)
    assert names["kl_gn"] == "exact KL of Gauss-Newton search" and "kl_me-4" in names
    columns["kl_gn"] = np.where(np.arange(359) < 100, columns["kl_gn"], np.nan)
    assert "kl_gn" not in order_names(digits_2d, columns)
    names = order_names(digits_2d, columns, some=True)
    assert "these 100 images" in finding(columns, names, "uncertainty", "kl_gn")


def test_an_axis_says_its_unit():
    assert with_unit("kl_base", "exact KL of the base encoder") == "exact KL of the base encoder, nats"
    assert with_unit("modes", "number of modes") == "number of modes"
    assert all(with_unit(name, "it") == f"it, {score.unit}" for name, score in SCORES.items())


def test_a_chart_has_every_finite_image_once_and_logs_where_they_can_be():
    x, y = np.array([1.0, 2.0, np.nan, 4.0]), np.array([-1.0, 2.0, 3.0, 4.0])
    figure = scatter(x, y, ("a", "b"), np.array([0, 1, 1, 1]))
    assert sorted(int(i) for trace in figure.data for i in trace.customdata) == [0, 1, 3]
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "linear")
    assert [trace.name for trace in figure.data] == ["0", "1"]
    assert scatter(x, y, ("a", "b"), None, logs=False).layout.xaxis.type == "linear"
    assert len(scatter(x, y, ("a", "b"), np.arange(4)).data) == 3
    many = np.arange(40.0)
    assert len(scatter(many, many, ("a", "b"), many).data) == 1


def test_the_map_has_each_image_inside_the_box_once_and_the_median_gap_of_each_cell():
    means = np.array([[0.1, 0.1], [0.2, 0.2], [0.15, 0.12], [-3.0, 3.0], [9.0, 0.0]])
    gaps = np.array([1.0, 5.0, 3.0, 7.0, 9.0])
    edges, medians = median_cells(means, gaps, 4.0, count=4)
    assert edges.tolist() == [-4, -2, 0, 2, 4]
    assert (medians[2, 2], medians[0, 3]) == (3.0, 7.0) and np.isnan(medians).sum() == 14
    tiles = np.zeros((2, 2, 28, 28), np.uint8)
    for by_gap in (False, True):
        figure = latent_map(means, np.array([0, 1, 1, 0, 1]), gaps, tiles, 4.0, by_gap=by_gap)
        dots = [int(i) for trace in figure.data if trace.type == "scattergl" for i in trace.customdata]
        assert sorted(dots) == [0, 1, 2, 3]
        assert [trace.type for trace in figure.data].count("heatmap") == by_gap
        assert len(figure.layout.images) == (not by_gap)
    said = latent_map(means, None, gaps, tiles, 4.0, by_gap=True).data[0].customdata
    assert {text for row in said for text in row if "KL" not in text} == {"no test image lies here"}
    assert {"median KL 3 nats", "median KL 7 nats"} <= {text for row in said for text in row}


def test_the_mosaic_has_the_first_axis_to_the_right_and_the_second_up():
    tiles = np.zeros((2, 2, 28, 28), np.uint8)
    tiles[1, 0] = 255  # large z1, small z2: below, on the right
    picture = Image.open(io.BytesIO(base64.b64decode(mosaic(tiles).split(",")[1])))
    ink = np.asarray(picture)[..., 1]
    assert ink[28:, 28:].min() == 255 and ink[:28].max() == 0 and ink[28:, :28].max() == 0


def test_the_surface_is_the_log_density_below_its_peak():
    first, second = np.linspace(-1, 1, 21), np.linspace(0, 1, 21)
    heights = -10 * first[:, None] ** 2 - 3 * second[None] + 5
    heights[0, 0] = -np.inf
    (drawn,) = surface(first, second, heights).data
    assert drawn.z.max() == 0 and drawn.z[0, 0] == -DEPTH
    assert drawn.z[20 // 2, 4] == pytest.approx(heights[8, 20] - 5.0, abs=1e-5)  # rows are z2


@pytest.mark.parametrize("gaps", [np.zeros(2), np.full(2, np.nan)])
def test_the_map_is_drawn_where_no_gap_has_a_logarithm(gaps):
    tiles = np.zeros((2, 2, 28, 28), np.uint8)
    figure = latent_map(np.zeros((2, 2)), None, gaps, tiles, 4.0, by_gap=True)
    assert np.isfinite(figure.data[0].z).sum() == np.isfinite(gaps[0])


def test_the_histogram_counts_every_image_once():
    values = np.linspace(0.005, 0.995, 100)
    figure = histogram({"exact posterior": values, "encoder": np.ones(100)})
    assert figure.data[0].y.tolist() == [10] * 10 and figure.data[1].y.tolist() == [0] * 9 + [100]
    assert figure.data[2].name == "honest regions" and set(figure.data[2].y) == {10}


def test_the_ticks_of_a_logarithmic_axis_are_whole_numbers_that_hold_its_values():
    few, many = decades(np.array([0.03, 4.0])), decades(np.array([1e-6, 30.0]))
    assert few["tickvals"][0] <= 0.03 and few["tickvals"][-1] >= 4 and {"0.02", "0.5", "1"} <= set(few["ticktext"])
    assert [float(said) for said in few["ticktext"]] == pytest.approx(few["tickvals"])
    assert many["tickvals"] == pytest.approx([10.0**k for k in range(-6, 3)])
    assert many["ticktext"][:1] + many["ticktext"][-3:] == ["10<sup>-6</sup>", "1", "10", "100"]
