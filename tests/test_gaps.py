"""The gaps of a data set as a table: what it holds, its formats, and going on after a stop."""

import shutil
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.cli import cli
from gpvae_core.commands.gaps import Part, _failed, _in_order
from gpvae_core.diagnostics.gap_table import settings_file
from gpvae_core.diagnostics.judgement import posterior_report
from gpvae_core.errors import InputError
from gpvae_core.files import read_json
from gpvae_core.paths import CONFIG, PRETRAINED, WEIGHTS
from gpvae_core.tables import read_table, write_table

COMMAND = ["gaps", "--checkpoint", "digits-2d", "--batch-size", "4"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    out = tmp_path_factory.mktemp("gaps") / "gaps.csv"
    result = CliRunner().invoke(
        cli, [*COMMAND, "--limit", "6", "--gaussians", "--out", str(out)], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "6 images" in result.output
    return read_table(out)


def test_a_row_says_what_the_library_says_of_that_image(table, digits, digits_2d, digits_engine):
    for index in (0, 5):
        report = posterior_report(digits_engine, digits_2d.model, digits.test.pixels(slice(index, index + 1)))
        row = table[index]
        assert row["index"] == index and row["label"] == digits.test.labels[index]
        for name in ("log_evidence", "kl_base", "kl_marginal", "negentropy"):
            assert row[name] == pytest.approx(report[name], abs=1e-3)
        assert row["log_evidence_error"] < 1e-3 and row["kl_base_error"] < 2e-3


def test_the_gap_is_the_sum_of_its_parts(table):
    """KL of the encoder = approximation + amortization; the full family leaves less than the diagonal one."""
    for row in table:
        for q, suffix in (("marginal", ""), ("base", "_base")):
            parts = row["approximation_gap"] + row[f"amortization_gap{suffix}"]
            assert parts == pytest.approx(row[f"kl_{q}"], abs=1e-9)
            assert row[f"amortization_gap{suffix}"] > -row[f"amortization_gap{suffix}_error"]
        assert -row["approximation_gap_full_error"] < row["approximation_gap_full"]
        assert row["approximation_gap_full"] < row["approximation_gap"] + row["approximation_gap_error"]


def test_a_stopped_run_goes_on_and_other_settings_are_refused(tmp_path, monkeypatch, capsys):
    out = tmp_path / "gaps.parquet"
    for limit in ("3", "5"):
        resume = ["--resume"] if limit == "5" else []
        result = CliRunner().invoke(
            cli, [*COMMAND, "--limit", limit, "--out", str(out), *resume], catch_exceptions=False
        )
        assert result.exit_code == 0
    rows = read_table(out)
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 4]
    from gpvae_core.cli import main

    for options, message in (
        ([], "exists already; go on with it by --resume"),
        (["--resume", "--split", "train"], "was computed with split = test, not train"),
    ):
        monkeypatch.setattr(sys, "argv", ["gpvae_core", *COMMAND, "--out", str(out), *options])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 2
        assert message in capsys.readouterr().err


def test_another_option_of_the_method_is_named(tmp_path):
    """Not by the digest of what it makes: nobody can give that."""
    command = [*COMMAND, "--method", "gn", "--limit", "1", "--out", str(tmp_path / "gaps.csv")]
    assert CliRunner().invoke(cli, [*command, "--steps", "1"], catch_exceptions=False).exit_code == 0
    with pytest.raises(InputError, match=r"was computed with options = \{'steps': 1\}, not \{'steps': 2\}; give that"):
        CliRunner().invoke(cli, [*command, "--steps", "2", "--resume"], catch_exceptions=False)
    with pytest.raises(InputError, match=r"--gpus-a-run 0\.5 shares the GPUs of a Ray cluster; give --ray, too"):
        CliRunner().invoke(cli, [*command, "--steps", "1", "--resume", "--gpus-a-run", "0.5"], catch_exceptions=False)


def test_a_checkpoint_that_has_changed_is_opened_anew(tmp_path):
    """Within one process: the one before is not judged under the name of the one that is there now."""
    own, digests = tmp_path / "own", []
    own.mkdir()
    for name in ("digits-2d", "digits-2d-wide"):
        for file in (WEIGHTS, CONFIG):
            shutil.copyfile(PRETRAINED / name / file, own / file)
        out = tmp_path / f"{name}.csv"
        command = ["gaps", "--checkpoint", str(own), "--limit", "1", "--out", str(out)]
        assert CliRunner().invoke(cli, command, catch_exceptions=False).exit_code == 0
        digests.append(read_json(settings_file(out))["digest"])
    assert digests == [load_checkpoint(name).digest for name in ("digits-2d", "digits-2d-wide")]


@pytest.mark.long
def test_two_processes_write_the_same_table(table, tmp_path):
    """Each sums on one thread alone, in another order than several do: float32 decodes of hundreds of nats."""
    out = tmp_path / "gaps.csv"
    more = ["--limit", "6", "--gaussians", "--jobs", "2", "--out", str(out)]
    assert CliRunner().invoke(cli, [*COMMAND, *more], catch_exceptions=False).exit_code == 0
    rows = read_table(out)
    assert [row["index"] for row in rows] == list(range(6))
    for row, alone in zip(rows, table, strict=True):
        for name, value in alone.items():
            if name.startswith(("log_evidence", "kl_", "negentropy")) and not name.endswith("error"):
                assert row[name] == pytest.approx(value, abs=1e-3), name


def test_a_part_that_fails_is_named_and_the_rows_before_it_stay_in_order():
    parts = [Part("a", None, (), None, None, "test", 1e-3, False, "cpu", first, first + 2) for first in (0, 2, 4)]
    rows = {part: [{"index": part.first}] for part in parts}
    late_first = [(parts[k], rows[parts[k]]) for k in (2, 0, 1)]
    assert [batch[0]["index"] for batch in _in_order(parts, late_first)] == [0, 2, 4]
    assert [batch[0]["index"] for batch in _in_order(parts, late_first[:2])] == [0]
    with pytest.raises(InputError, match=r"images 2 to 3 could not be computed \(lost\); go on with --resume"):
        _failed(parts[1], "lost")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_come_back_as_they_were(tmp_path, suffix):
    rows = [{"index": k, "label": None, "value": 0.1 + k, "error": float(np.float64(1e-300))} for k in range(3)]
    write_table(tmp_path / f"t{suffix}", rows)
    assert read_table(tmp_path / f"t{suffix}") == rows


def test_damaged_tables_and_other_formats_are_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"t\.parquet is not a whole table"):
        read_table(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.xlsx names no table format; let it end in \.csv or \.parquet"):
        write_table(tmp_path / "t.xlsx", [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray", "x"], "'x' is no cluster; give local, auto, or ray://HOST:PORT"),
        (["--ray", ""], "it is empty"),
        (["--ray", "local", "--gpus-a-run", "1e20"], "is not in the range 0<=x<=16"),
        (["--ray", "local", "--gpus-a-run", "1.5"], "above 1 give a whole one"),
        (["--ray", "ray://head:10001"], "Ray is not installed"),
        (["--gpus-a-run", "0.5"], "give --ray, too"),
        (["--out", "file/o.csv"], "nothing can be written into file (file: it is no folder); choose another --out"),
    ],
)
def test_where_the_work_goes_is_checked_before_it_begins(words, said, tmp_path, monkeypatch):
    """The grid was decoded first, and o.csv.json left behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("gpvae_core.commands.gaps._ready", lambda work: pytest.fail("the checkpoint is opened"))
    result = CliRunner().invoke(cli, [*COMMAND, "--out", "o.csv", *words])
    assert said in result.output + str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_table_that_is_not_there_is_named(tmp_path):
    shutil.copytree(PRETRAINED / "digits-2d", tmp_path / "own")
    words = ["calibrate", "--checkpoint", str(tmp_path / "own"), "--gaps", str(tmp_path / "nan")]
    with pytest.raises(InputError, match=r"there is no table .*nan; compute it with .*gaps --checkpoint own --split"):
        CliRunner().invoke(cli, words, catch_exceptions=False)
