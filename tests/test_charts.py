"""Is uncertainty difficulty? The sentence over the chart, and the chart."""

import re

import numpy as np
import pytest
from scipy.stats import spearmanr

from app.charts import scatter
from app.views.difficulty import finding
from gpvae_core.diagnostics.statistics import spearman_interval
from gpvae_core.diagnostics.stored import stored_columns


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
