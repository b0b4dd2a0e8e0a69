"""Figures 1 and 2 and every export: chosen by rule, the same numbers in each format, code that gives them again."""

import csv
import io
import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from app.compute import box_atlas, compute_view
from app.figures.__main__ import main
from app.figures.export import FORMATS, export
from app.figures.sheet import at_quantiles, even_quantiles, figure_1, figure_2, single
from gpvae_core.errors import InputError
from gpvae_core.report import posterior_report
from gpvae_core.stored import stored_columns


@pytest.fixture(scope="module")
def parts(digits, digits_2d, digits_engine):
    columns = stored_columns(digits_2d, "digits", len(digits.test))

    def view_of(index):
        return compute_view(digits_2d, digits_engine, digits.test.pixels(slice(index, index + 1))[0, 0].numpy())

    return digits_2d, "digits", columns, digits.test.labels, view_of


@pytest.fixture(scope="module")
def sheet(parts):
    return figure_1(*parts, count=3)


def test_images_stand_at_their_quantiles():
    values = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    assert at_quantiles(values, (0, 0.25, 0.5, 1)) == [1, 3, 4, 0]
    assert even_quantiles(2) == [0.25, 0.75]
    for count in (0, 121):
        with pytest.raises(InputError, match=f"figure of {count} images"):
            even_quantiles(count)


def test_figure_1_ascends_in_u_at_the_quantiles_it_states(sheet, parts):
    uncertainty = parts[2]["uncertainty"]
    values = [uncertainty[index] for index in sheet.config["indices"]]
    assert values == sorted(values)
    for value, q in zip(values, sheet.config["quantiles"], strict=True):
        assert (uncertainty < value).mean() == pytest.approx(q, abs=1.5 / len(uncertainty))  # rounded rank, ties apart
    assert "17 %, 50 %, 83 % quantiles of U(x)" in sheet.caption


def test_figure_2_shows_cases_made_worse_too(parts):
    sheet = figure_2(*parts)
    gain = parts[2]["kl_base"] - parts[2]["kl_marginal"]
    shown = [gain[i] for i in sheet.config["indices"]]
    assert shown == pytest.approx([np.quantile(gain, q, method="nearest") for q in (0.1, 0.5, 0.9)])
    assert f"{(gain < 0).mean():.1%} of the test images are made worse" in sheet.caption
    for panel, value in zip(sheet.panels, shown, strict=True):
        exact = panel.view.report["kl_base"] - panel.view.report["kl_marginal"]
        assert exact == pytest.approx(value, abs=2e-3)


def test_figures_that_cannot_be_made_say_why(parts):
    checkpoint, dataset, columns, labels, view_of = parts
    with pytest.raises(InputError, match="no score 'beauty'"):
        figure_1(checkpoint, dataset, columns, labels, view_of, by="beauty")
    few = {"uncertainty": columns["uncertainty"]}
    with pytest.raises(InputError, match=r"exact KLs of digits-2d are not stored.*app\.figures"):
        figure_2(checkpoint, dataset, few, labels, view_of)


def test_every_format_opens_and_holds_the_same_numbers(sheet, digits, digits_2d, digits_engine):
    made = {kind: export(sheet, kind) for kind in FORMATS}
    reports = [
        posterior_report(digits_engine, digits_2d.model, digits.test.pixels(slice(i, i + 1)))
        for i in sheet.config["indices"]
    ]
    rows = list(csv.DictReader(io.StringIO(made["csv"].decode())))
    for row, report, index in zip(rows, reports, sheet.config["indices"], strict=True):
        assert int(row["index"]) == index
        for key in ("log_evidence", "kl_base", "kl_marginal", "kl_best", "kl_to_base", "uncertainty", "negentropy"):
            assert float(row[key]) == pytest.approx(report[key], rel=1e-4, abs=1e-5)
    arrays = np.load(io.BytesIO(made["npz"]), allow_pickle=False)
    np.testing.assert_array_equal(arrays["pixels"], digits.test.pixels(np.array(sheet.config["indices"]))[:, 0].numpy())
    np.testing.assert_allclose(arrays["base_mean"], [r["base_mean"] for r in reports], atol=1e-5)
    html = made["html"].decode()
    for report in reports:
        assert f"{report['log_evidence']:.3f}" in html and f"{report['kl_best']:.3f}" in html
    assert not re.search(r"(src|href)=.https?:", html) and "@import" not in html
    config = json.loads(made["json"])
    assert config["weights"] == digits_2d.digest and config["versions"]["torch"]
    assert Image.open(io.BytesIO(made["png"])).size[0] > 1000
    assert made["pdf"].startswith(b"%PDF-")
    texts = [node.text for node in ElementTree.fromstring(made["svg"]).iter("{http://www.w3.org/2000/svg}text")]
    assert any(f"image {sheet.config['indices'][0]}" in (text or "") for text in texts)


@pytest.mark.parametrize("kind", ["png", "svg", "pdf", "html", "csv", "npz"])
def test_the_same_figure_gives_the_same_bytes(parts, kind):
    """Of a second computation as well as of a second drawing."""
    assert export(figure_1(*parts, count=2), kind) == export(figure_1(*parts, count=2), kind)


def test_ten_lines_of_python_compute_the_numbers_again(sheet, parts, tmp_path, digits_2d):
    own = single(digits_2d, parts[4](4), "my image", None, {"link": "from=draw"})
    for made, reports in ((sheet, [p.view.report for p in sheet.panels]), (own, [own.panels[0].view.report])):
        (tmp_path / f"{made.name}.npz").write_bytes(export(made, "npz"))
        script = export(made, "py").decode()
        assert len([line for line in script.splitlines() if line and "import" not in line]) <= 10
        result = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
        )
        lines = result.stdout.splitlines()
        for line, report in zip(lines, reports, strict=True):
            values = list(map(float, re.findall(r"(-?\d+\.\d+)", line)))
            wanted = [report[k] for k in ("log_evidence", "kl_base", "kl_marginal", "kl_best")]
            assert values == pytest.approx(wanted, abs=2e-3)


def test_the_page_by_itself_carries_the_atlas_and_no_markup_of_its_input(parts, digits_2d):
    nasty = single(digits_2d, parts[4](4), "</script><b>x", None, {"link": "</script>"})
    html = export(nasty, "html", box_atlas(digits_2d, 4.5)).decode()
    assert html.count("</script>") == 2 and "<b>x" not in html


def test_the_command_writes_both_figures_and_refuses_what_it_cannot(tmp_path):
    command = ["--checkpoint", "digits-2d", "--images", "2", "--formats", "png,csv", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0
    assert {f.name for f in tmp_path.iterdir()} == {f"figure{k}.{kind}" for k in (1, 2) for kind in ("png", "csv")}
    for bad, said in ((["--formats", "gif"], "no format 'gif'"), (["--images", "0"], "figure of 0 images")):
        result = CliRunner().invoke(main, [*command, *bad])
        assert result.exit_code == 2 and said in result.output and "Traceback" not in result.output
