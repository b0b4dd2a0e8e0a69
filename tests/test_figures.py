"""Figures 1 and 2 and every export: chosen by rule, the same numbers in each format, code that gives them again."""

import csv
import io
import json
import os
import re
import runpy
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from app.compute import box_atlas, compute_view
from app.figures import panels
from app.figures.__main__ import main
from app.figures.export import FORMATS, export, file_name
from app.figures.sheet import at_quantiles, even_quantiles, figure_1, figure_2, pair, single
from app.words import speak, spoken
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.diagnostics.judgement import posterior_report
from gpvae_core.diagnostics.stored import stored_columns
from gpvae_core.errors import InputError
from gpvae_core.paths import grid_cache


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


def test_figure_2_says_where_nobody_can_see_a_gain(parts):
    """Both encoders' regions coincide where all of its gains are tiny."""
    checkpoint, dataset, columns, labels, view_of = parts
    assert "cannot be told apart" not in figure_2(*parts).caption
    level = columns | {"kl_marginal": columns["kl_base"] - 0.0041}
    said = figure_2(checkpoint, dataset, level, labels, view_of).caption
    assert "Here the two cannot be told apart: the largest of these gains is 0.0041 nats." in said


def lines_of(trace):
    """The lines of a trace that is broken between them."""
    points = np.stack([trace.x, trace.y], 1)
    gaps = np.flatnonzero(np.isnan(points[:, 0]))
    return [points[a + 1 : b].astype(float) for a, b in pairwise(gaps)]


def test_a_panel_shows_the_exact_posterior_and_each_q_with_its_kl(sheet, digits, digits_engine):
    panel = sheet.panels[0]
    exact = digits_engine.posterior(digits.test.pixels(slice(panel.index, panel.index + 1)))
    figure = panels.chart(panel.view, sheet.overlays, whole=False, dark=False, projector=False)
    heat, regions, outline, centre = figure.data
    first, second = (np.asarray(axis, dtype=float) for axis in (heat.x, heat.y))
    peak = panel.view.zoom_log_density.max()
    near = np.asarray(heat.z).T < 10  # nats: the rest is white
    assert near.any()
    there = exact.log_density(first, second)
    np.testing.assert_allclose((peak - there)[near], np.asarray(heat.z).T[near], atol=2e-2)
    masses = [exact.hdr_mass(line[len(line) // 2]) for line in lines_of(regions)]
    assert masses == pytest.approx([0.5, 0.8, 0.95], abs=0.02)
    base = next(q for q in panel.view.overlays if q.key == "base")
    depth = [(((line - base.mean) / base.std) ** 2).sum(1) for line in lines_of(outline)]
    assert [np.median(d) for d in depth] == pytest.approx([-2 * np.log(1 - m) for m in (0.5, 0.8, 0.95)], rel=1e-3)
    assert (centre.x[0], centre.y[0]) == tuple(base.mean)
    said = re.search(r"= ([\d.e+-]+) nats", centre.hovertemplate).group(1)
    assert float(said) == pytest.approx(panel.view.report["kl_base"], rel=1e-3)


def test_a_heading_begins_with_the_quantile(sheet):
    for panel, q in zip(sheet.panels, sheet.config["quantiles"], strict=True):
        name, quantile, value = panel.heading.split("\n")
        assert (name, quantile) == (f"image {panel.index}", f"{100 * q:.0f} % quantile") and value.startswith(
            "(U(x) = "
        )


def test_the_base_encoders_dashes_are_drawn_over_the_marginalised_line(sheet):
    figure = panels.chart(sheet.panels[0].view, ("base", "marginal"), whole=False, dark=False, projector=False)
    dashes = [trace.line.dash for trace in figure.data if trace.type == "scatter" and trace.mode == "lines"]
    assert dashes[-2:] == ["solid", "dash"]


def test_a_panel_of_the_whole_box_frames_the_part_that_holds_the_mass(sheet, digits_engine):
    view = sheet.panels[1].view
    figure = panels.chart(view, sheet.overlays, whole=True, dark=True, projector=True)
    heat, rings = figure.data[:2]
    half = float(digits_engine.grid.axis[-1])
    assert [heat.x[0], heat.x[-1]] == pytest.approx([-half, half]) == list(figure.layout.xaxis.range)
    nats = np.asarray(heat.customdata)
    assert nats.min() >= 0 and np.log10(1 + nats) == pytest.approx(np.asarray(heat.z), abs=1e-4)
    frame = figure.layout.shapes[0]
    assert frame.x0 < view.report["mean"][0] < frame.x1 and frame.y0 < view.report["mean"][1] < frame.y1
    assert lines_of(rings)
    words = [words for words, _, _ in panels.legend(sheet, whole=True, dark=True)]
    assert words == [
        "log p(x, z), 3, 30 and 300 nats below its maximum",
        "the part that holds the mass",
        "base encoder",
    ]
    assert panels.legend(sheet, whole=False, dark=False)[0][0] == "exact p(z|x): regions of 50, 80 and 95 % of its mass"


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


@pytest.fixture(scope="module")
def computed_twice(parts):
    return [figure_1(*parts, count=2) for _ in range(2)]


@pytest.mark.parametrize("kind", ["png", "svg", "pdf", "html", "csv", "npz"])
def test_the_same_figure_gives_the_same_bytes(computed_twice, kind):
    """Of a second computation as well as of a second drawing."""
    one, other = computed_twice
    assert export(one, kind) == export(other, kind)


def run_script(script: bytes, folder) -> subprocess.CompletedProcess:
    """An exported script, run in an empty folder by an interpreter of its own."""
    (folder / "again.py").write_bytes(script)
    inherited = {key: value for key, value in os.environ.items() if key != "GPVAE_DATA_DIR"}
    return subprocess.run([sys.executable, "again.py"], cwd=folder, capture_output=True, text=True, env=inherited)


@pytest.fixture
def printed_by(tmp_path, monkeypatch, capsys):
    """What a script prints, run in an empty folder by this interpreter, which has imported torch already."""

    def run(script: bytes, **environment: str) -> str:
        monkeypatch.delenv("GPVAE_DATA_DIR", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        (folder / "again.py").write_bytes(script)
        capsys.readouterr()
        runpy.run_path("again.py", run_name="__main__")
        return capsys.readouterr().out

    return run


def test_the_exported_script_computes_the_numbers_again_and_checks_them(sheet, parts, tmp_path, digits_2d, printed_by):
    ran = run_script(export(sheet, "py"), tmp_path)
    assert ran.returncode == 0, ran.stderr
    own = single(digits_2d, parts[4](4), "my image", None, {"link": "from=draw"})
    for made, printed in ((sheet, ran.stdout), (own, printed_by(export(own, "py")))):
        values = [float(value) for value in re.findall(r"^kl_best (\S+),", printed, re.MULTILINE)]
        wanted = [panel.view.report["kl_best"] for panel in made.panels]
        assert values == pytest.approx(wanted, abs=2e-3)
    script = export(own, "py").decode()
    wrong = re.sub(r"'kl_base': \((\S+),", lambda m: f"'kl_base': ({float(m[1]) + 0.05},", script)
    other = script.replace(digits_2d.digest, "0" * 64)
    for changed, said in ((wrong, "kl_base is"), (other, "other weights")):
        with pytest.raises(AssertionError, match=said):
            exec(compile(changed, "again.py", "exec"), {"__name__": "__main__"})


def test_a_german_figure_is_german_in_every_format_and_its_script_runs(parts, digits_2d, printed_by):
    before = spoken()
    speak("de")
    try:
        made = figure_1(*parts, count=2)
        files = {kind: export(made, kind, [box_atlas(digits_2d, 4.5)]) for kind in FORMATS}
    finally:
        speak(before)
    page = files["html"].decode()
    assert '<html lang="de">' in page and "Approximationslücke" in page and "numerischer Fehler" in page
    assert "approximation gap</span>" not in page
    assert files["csv"] == export(made, "csv"), "numbers are named alike in every language"
    assert "kl_best" in printed_by(files["py"])


def test_the_exported_script_takes_its_data_from_where_the_app_does(
    mnist, mnist_2d, mnist_engine, data_dir, printed_by
):
    view = compute_view(mnist_2d, mnist_engine, mnist.test.pixels(slice(7, 8))[0, 0].numpy())
    made = single(mnist_2d, view, "test image 7", 7, {"dataset": "mnist", "seed": 0, "indices": [7]})
    assert "kl_best" in printed_by(export(made, "py"), GPVAE_DATA_DIR=str(data_dir.resolve()))


@pytest.fixture(scope="module")
def compared(parts, digits, digits_2d):
    """Test image 4 under digits-2d beside one's own picture under digits-2d-wide."""
    one = single(digits_2d, parts[4](4), "test image 4", 4, {"dataset": "digits", "seed": 0, "indices": [4]})
    wide, pixels = load_checkpoint("digits-2d-wide"), digits.test.pixels(slice(9, 10))[0, 0].numpy()
    two = single(wide, compute_view(wide, wide.engine(cache=grid_cache()), pixels), "your drawing", None, {})
    return pair(one, two)


def test_two_images_are_exported_as_one_figure(compared, digits_2d, printed_by):
    digits_wide = load_checkpoint("digits-2d-wide")
    left, right = (panel.view.report for panel in compared.panels)
    atlases = [box_atlas(digits_2d, 4.5), box_atlas(digits_wide, 4.5)]
    made = {kind: export(compared, kind, atlases) for kind in FORMATS}
    rows = list(csv.DictReader(io.StringIO(made["csv"].decode())))
    assert [row["checkpoint"] for row in rows] == ["digits-2d", "digits-2d-wide"]
    assert [float(row["kl_best"]) for row in rows] == pytest.approx([left["kl_best"], right["kl_best"]])
    arrays = np.load(io.BytesIO(made["npz"]), allow_pickle=False)
    for side, report in (("left", left), ("right", right)):
        np.testing.assert_allclose(arrays[f"{side}_best_mean"], [report["best_mean"]])
    texts = [node.text for node in ElementTree.fromstring(made["svg"]).iter("{http://www.w3.org/2000/svg}text")]
    for words in ("test image 4", "digits-2d", "your drawing", "digits-2d-wide", "marginalised q(z|x)"):
        assert texts.count(words) == 1
    data = json.loads(re.search(r'id="data">(.*?)</script>', made["html"].decode(), re.DOTALL).group(1))
    weights = [digits_2d.digest, digits_wide.digest]
    assert [plane["digest"] for plane in data["planes"]] == weights == [atlas["digest"] for atlas in data["atlases"]]
    assert [part["weights"] for part in json.loads(made["json"])["parts"]] == weights
    printed = printed_by(made["py"])
    values = [float(value) for value in re.findall(r"^log_evidence (\S+),", printed, re.MULTILINE)]
    assert values == pytest.approx([left["log_evidence"], right["log_evidence"]], abs=2e-3)
    assert file_name(compared, "png") == "comparison-digits-2d-digits-2d-wide-test-image-4-your-drawing.png"


def test_files_are_named_after_figure_checkpoint_and_image(sheet, parts, digits_2d):
    assert file_name(sheet, "png") == "figure1-digits-2d.png"
    own = single(digits_2d, parts[4](4), "test image 5, changed", None, {})
    assert file_name(own, "csv") == "posterior-digits-2d-test-image-5-changed.csv"


def test_the_page_by_itself_carries_the_atlas_and_no_markup_of_its_input(parts, digits_2d):
    nasty = single(digits_2d, parts[4](4), "</script><b>x", None, {"link": "</script>"})
    html = export(nasty, "html", [box_atlas(digits_2d, 4.5)]).decode()
    assert html.count("</script>") == 2 and "<b>x" not in html


def test_the_command_writes_both_figures_and_refuses_what_it_cannot(tmp_path):
    command = ["--checkpoint", "digits-2d", "--images", "2", "--formats", "png,csv", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0
    names = {f"figure{k}-digits-2d.{kind}" for k in (1, 2) for kind in ("png", "csv")}
    assert {f.name for f in tmp_path.iterdir()} == names
    for bad, said in (
        (["--formats", "gif"], "no format 'gif'"),
        (["--images", "0"], "0 is not in the range"),
        (["--formats", ""], "names none"),
    ):
        result = CliRunner().invoke(main, [*command, *bad])
        assert result.exit_code == 2 and said in result.output and "Traceback" not in result.output


def test_a_place_that_cannot_be_written_is_named_before_the_pass(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("app.figures.__main__.load_checkpoint", lambda _: pytest.fail("it is opened"))
    result = CliRunner().invoke(main, ["--checkpoint", "digits-2d", "--out", str(tmp_path / "file" / "x")])
    assert result.exit_code == 2 and "it is no folder); choose another --out" in result.output
