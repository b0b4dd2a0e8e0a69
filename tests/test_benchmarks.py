"""The statistics of the benchmarks, against other ways to the same numbers."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks import (
    adversarial,
    claims,
    cluster,
    gaps_table,
    gpu,
    kills,
    paper_tables,
    refined_training,
    seeds,
    table_one,
)
from benchmarks.card import card
from benchmarks.common import command, fell_out, store_part, told
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.diagnostics import statistics
from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.errors import InputError
from gpvae_core.files import read_json
from gpvae_core.inference.gp import Correction
from gpvae_core.models import ModelConfig, build
from gpvae_core.paths import CONFIG, WEIGHTS
from gpvae_core.spread import Engine, spread
from gpvae_core.training.curves import CURVES
from gpvae_core.training.fit import STATE

ROOT = Path(__file__).resolve().parent.parent


def three(count: int = 200) -> np.ndarray:
    """Three correlated columns with ties."""
    rng = np.random.default_rng(1)
    common = rng.normal(size=count)
    return np.round([common + rng.normal(size=count) for _ in range(3)], 1)


def test_a_recorded_command_can_be_typed_again(monkeypatch, tmp_path):
    given = ["x", "mnist-2d", "--data-dir", str(tmp_path), "--only", "vae", "gn, 4 steps, 4 starts"]
    monkeypatch.setattr("sys.argv", given)
    said = command("gaps_table", tmp_path)
    assert shlex.split(said) == ["python", "-m", "benchmarks.gaps_table", *given[1:3], "DIR", *given[4:]]


def test_new_gaps_leave_the_times_that_were_measured_beside_them(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.common.RESULTS", tmp_path)
    (tmp_path / "exact-gaps-d.json").write_text('{"vae": {"ms": 3.5, "mean": 1.0}, "vae, seed 1": {"mean": 2.0}}')
    row = gaps_table.Asked("vae", 0, "d", 10, None, "cpu", 1)
    assert gaps_table.times_of(row) == {"ms": 3.5}
    assert gaps_table.times_of(replace(row, seed=1)) == gaps_table.times_of(replace(row, decoder="none")) == {}


def test_rank_correlations_are_scipys():
    a, b, given = three()
    assert statistics.spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    ranks = [stats.rankdata(column) for column in (a, b, given)]
    left = [r - np.poly1d(np.polyfit(ranks[2], r, 1))(ranks[2]) for r in ranks[:2]]  # what a line through given leaves
    assert statistics.partial_spearman(a, b, given) == pytest.approx(stats.pearsonr(*left).statistic, abs=1e-10)
    assert statistics.partial_spearman(given, b, given) is None


def test_auroc_counts_the_pairs():
    outside, inside, _ = three(60)
    pairs = outside[:40, None] - inside[None]
    assert statistics.auroc(outside[:40], inside) == pytest.approx(((pairs > 0) + (pairs == 0) / 2).mean(), abs=1e-12)
    assert statistics.auroc(inside, inside) == 0.5


def test_the_interval_over_seeds_is_students():
    differences = [np.array([0.1, 0.3]), np.array([-0.2, 0.1]), np.array([0.5, 0.9])]
    found = seeds.over_seeds(differences)["mean"]
    interval = stats.ttest_1samp([d.mean() for d in differences], 0).confidence_interval(0.95)
    assert found == pytest.approx([(interval.low + interval.high) / 2, (interval.high - interval.low) / 2], abs=1e-4)


def test_a_settled_model_stands_on_the_plain_one_of_its_seed_and_budget(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(seeds, "RUNS", tmp_path)
    monkeypatch.setattr(seeds, "command_line", lambda *words: asked.append(words))
    out = seeds.made("trained", "early", "settled", 2, tmp_path)
    assert out == tmp_path / "trained-early-settled-2"
    assert [words[0] for words in asked] == ["train", "train", "settle"]  # both stages of the plain VAE
    assert asked[2][:3] == ("settle", "--checkpoint", str(tmp_path / "trained-early-vae-2"))
    out.mkdir()
    (out / WEIGHTS).touch()
    seeds.made("trained", "early", "settled", 2, tmp_path)
    assert [words[0] for words in asked[3:]] == ["train", "train"]  # which go on where they stand; nothing settled anew


def test_the_mixtures_divergence_is_that_of_draws():
    """KL of (11) to (12): E log mixture(z) - log N(z), with z and h drawn."""
    one = torch.ones(1, 1, dtype=torch.float64)
    base = DiagonalGaussian(0 * one, 0.5 * one)
    correction = Correction(base=base, mean_f=0 * one, var_f=0.01 * one, mean_h=0.1 * one, var_h=0.09 * one)
    rng = np.random.default_rng(0)
    count = 20_000
    stds = np.sqrt((0.6 + 0.3 * rng.normal(size=(2, count))) ** 2 + 0.01)
    z = stds[0] * rng.normal(size=count)
    log_mixture = np.log(stats.norm.pdf(z[:, None], scale=stds[1, :1000]).mean(1))
    draws = log_mixture - stats.norm.logpdf(z, scale=float(correction.marginal().std))
    found, error = claims._mixture_kl(correction, 0, 0), 4 * draws.std() / count**0.5
    assert error < found / 4
    assert found == pytest.approx(draws.mean(), abs=error)


def test_a_card_renewed_without_its_run_is_the_one_that_stands(digits, digits_2d):
    assert card(digits_2d, digits, None) == (digits_2d.folder / "README.md").read_text()


# --- the paper's tables -----------------------------------------------------------------------------------------


def test_every_cell_of_the_papers_tables_is_a_model_that_can_be_built():
    for method, options in paper_tables.CELLS.values():
        build(ModelConfig(method=method, hidden=8, channels=(4, 4, 4), latent_dim=10, options=options), seed=0)
    assert set(paper_tables.PAPER) <= set(paper_tables.CELLS)
    assert {len(row) for row in paper_tables.PAPER.values()} == {len(paper_tables.PAPER_DIMS)}


def test_table_one_has_its_spread_and_marks_what_a_paired_test_finds(monkeypatch, tmp_path):
    iwae = {"vae": [900.0, 910.0, 920.0], "vae-3": [905.0, 915.5, 924.5], "gpvae": [903.0, 908.0, 925.0], "me-2": [1.0]}
    stored = {
        f"{name}, d = 20, 10 epochs, seed {seed}": dict.fromkeys(("elbo", "iwae", "iwae_by_search"), value)
        | {"parameters": 1000, "seconds": 10.0 + seed}
        for name, values in iwae.items()
        for seed, value in enumerate(values)
    } | {"vae, d = 20, 10 epochs, seed 9, 50 images": {}}
    (tmp_path / paper_tables.RESULT).write_text(json.dumps(stored))
    monkeypatch.setattr(table_one, "RESULTS", tmp_path)
    rows = {row[0]: row for row in table_one.table_one(20)}
    assert rows["vae"] == ["vae", "3", *["910.0 ± 10.0"] * 3, "930.7", "1,000", "11"]
    assert rows["vae-3"][3] == "915.0 ± 9.8 *" and rows["vae-3"][5] == ""  # 5.0 ± 0.5 over seeds
    assert rows["gpvae"][3] == "912.0 ± 11.5" and rows["gpvae"][5] == "944.3"  # 2.0 ± 3.6
    assert rows["me-2"][3] == "1.0" and table_one.table_one(7)[1:] == []


def test_a_cell_is_stored_when_it_is_made_and_made_once(tiny_dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.common.RESULTS", tmp_path)
    monkeypatch.setattr(paper_tables, "load_dataset", lambda *_: replace(tiny_dataset, name="mnist"))
    flags = ["--dims", "3", "--images", "4", "--epochs", "1", "--only", "vae"]
    monkeypatch.setattr("sys.argv", ["paper_tables", *flags])
    paper_tables.main()
    (cell,) = read_json(tmp_path / paper_tables.RESULT).values()
    assert cell["images"] == 4 and cell["iwae"] > cell["elbo"]
    assert cell["iwae_by_search"] == pytest.approx(cell["iwae"], abs=0.1)  # a decoder that ignores z: q is the prior
    monkeypatch.setattr(paper_tables, "made", lambda cell: pytest.fail(f"{cell} is made"))
    capsys.readouterr()
    paper_tables.main()
    assert capsys.readouterr().out == (
        "stored already: vae, d = 3, 1 epochs, seed 0, 4 images; --again makes them anew\n"
    )
    for other in (["--again"], ["--images", "3"], ["--images", "999"]):  # neither fewer images nor all are these four
        monkeypatch.setattr("sys.argv", ["paper_tables", *flags, *other])
        with pytest.raises(pytest.fail.Exception, match=r"vae, d = 3.* is made"):
            paper_tables.main()


def test_ways_that_are_stored_are_named_and_made_when_asked_for_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.common.RESULTS", tmp_path)
    monkeypatch.setattr(refined_training, "made", lambda way, *_: {"way": way})
    for more in ([], ["--only", "vae", "apart"], ["--again"]):
        monkeypatch.setattr("sys.argv", ["refined_training", "--only", "vae", *more])
        refined_training.main()
        said = capsys.readouterr().out
        assert ("stored already: vae, d = 10, 20,000 images, 10 epochs, seed 0; --again" in said) == ("apart" in more)
    assert len(read_json(tmp_path / refined_training.RESULT)) == 2


def test_cells_of_two_archives_of_one_name_are_two(tmp_path):
    cell = paper_tables.Cell("vae", 3, seed=0, epochs=1, images=4, tested=4, data_dir=None, device="cpu")
    one, other = (replace(cell, data=f"archive:{tmp_path}/{folder}/set.npz") for folder in ("a", "b"))
    assert one.key.startswith("set-") and one.key != other.key and one.folder != other.folder
    assert paper_tables.not_stored([one, other], {one.key: {"images": 4}}) == [other]
    assert paper_tables.not_stored([one], {one.key: {"images": 3}}) == [one]
    assert replace(cell, images=10_000, tested=10_000).key == "vae, d = 3, 1 epochs, seed 0"


def test_what_no_cell_can_be_made_of_is_named(monkeypatch):
    for flags, said in (
        (
            ["--only", "vae, after a vae", "--epochs", "1"],
            "'vae, after a vae' halves its epochs, and --epochs 1 has no",
        ),
        (["--images", "0"], "--images 0 leaves nothing to measure; give 1 or more"),
    ):
        monkeypatch.setattr("sys.argv", ["paper_tables", *flags])
        with pytest.raises(InputError, match=said):
            paper_tables.main()


def test_workers_write_where_the_program_that_sent_them_reads(monkeypatch, tmp_path):
    """A worker of a cluster has another working directory."""
    sent = []
    monkeypatch.setattr(paper_tables, "load_dataset", lambda *_: SimpleNamespace(test=range(4)))
    for module, name in ((paper_tables, []), (gaps_table, ["digits-2d"])):
        monkeypatch.setattr(module, "spread", lambda make, asked, *_: sent.extend(asked) or [])
        monkeypatch.setattr("sys.argv", ["x", *name, "--only", "vae", "--data-dir", "there"])
        with pytest.raises(InputError, match="1 of 1 runs failed"):
            module.main()
    assert all(one.runs.is_absolute() and one.data_dir.is_absolute() for one in sent) and len(sent) == 2


def test_a_cell_after_a_vae_takes_over_at_half_its_epochs(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paper_tables, "load_dataset", lambda *_: replace(tiny_dataset, name="mnist"))
    cell = paper_tables.Cell("gn-2, after a vae", 3, seed=0, epochs=3, images=4, tested=4, data_dir=None, device="cpu")
    found = paper_tables.made(cell)
    first, then = (load_checkpoint(folder) for folder in (Path(f"{cell.folder}-first"), cell.folder))
    assert (first.config.method, first.training["epochs"]) == ("vae", 1)
    assert (then.config.method, then.training["epochs"], then.training["initial"]) == ("gn", 2, str(first.folder))
    assert found["seconds"] > 0 and cell.folder != replace(cell, name="gn-2").folder


def test_a_win_over_the_vae_is_more_than_rounding() -> None:
    stored = {"kl_base": np.array([1.0, 1.0, 1.0, 9.0]), "kl_base_error": np.array([1e-3, 1e-3, 1e-3, 1e-3])}
    kl, errors = np.array([1.0 - 1e-5, 0.9985, 0.9]), np.array([1e-6, 1e-3, 1e-3])
    assert gaps_table.share_better(kl, errors, stored) == pytest.approx(1 / 3)


# --- many runs --------------------------------------------------------------------------------------------------


def third(number: int) -> float:
    """Something that two of four numbers survive, and that shows how many threads it had."""
    if number % 2:
        raise InputError(f"{number} is odd")
    return number / 3 + torch.get_num_threads()


def test_runs_in_processes_are_those_made_one_by_one_and_one_may_fail_alone(capfd):
    assert dict(spread(third, [0, 2], Engine(), fell_out)) == {n: n / 3 + torch.get_num_threads() for n in (0, 2)}
    assert dict(spread(third, [0, 1, 2, 3], Engine(jobs=2), fell_out)) == {n: n / 3 + 1 for n in (0, 2)}
    assert sorted(capfd.readouterr().out.splitlines()) == ["1: 1 is odd", "3: 3 is odd"]
    assert [one for one, _ in spread(third, [0, 1, 2, 3], Engine(), fell_out)] == [0, 2]
    assert capfd.readouterr().out.splitlines() == ["1: 1 is odd", "3: 3 is odd"]


class LostError(Exception):
    """Ray's own base error."""


def fake_ray(monkeypatch, answers):
    """As much of Ray as ``spread`` uses; a call's result is raised where it is an error."""
    asked, ray = [], ModuleType("ray")

    def get(done):
        if isinstance(answers[done], Exception):
            raise answers[done]
        return answers[done]

    ray.is_initialized = lambda: False
    ray.init = lambda *given, **named: asked.append((given, named))
    ray.remote = lambda **_: lambda function: SimpleNamespace(remote=lambda make, one: one)
    ray.wait = lambda left: (left[:1], left[1:])
    ray.get, ray.cancel, ray.exceptions = get, lambda *_, **__: None, SimpleNamespace(RayError=LostError)
    monkeypatch.setitem(sys.modules, "ray", ray)
    return asked


def test_whatever_ray_loses_is_one_run_and_local_is_a_cluster_of_its_own(monkeypatch, capsys):
    asked = fake_ray(monkeypatch, {0: 0.5, 1: LostError("Traceback\nthe node died"), 2: LostError(), 3: 1.5})
    assert dict(spread(third, [0, 1, 2, 3], Engine(ray="local"), fell_out)) == {0: 0.5, 3: 1.5}
    assert capsys.readouterr().out.splitlines() == ["1: the node died", "2: LostError"]
    ((given, named),) = asked
    assert (given, named["address"]) == ((), "local")  # not None: that is the one that RAY_ADDRESS names


def test_a_node_is_killed_in_the_middle_of_a_run_and_no_earlier(tmp_path, monkeypatch):
    for seed, nodes in enumerate(["a", "b", "a", "b\na", "a\nb", "a"]):
        (tmp_path / f"{seed}.begun").write_text(f"{nodes}\n")
        (tmp_path / str(seed)).mkdir()
        if seed < 5:  # of run 5 no epoch is there yet
            (tmp_path / str(seed) / STATE).touch()
    (tmp_path / "0.done").touch()
    assert sorted(cluster.begun_on(tmp_path, "a")) == [2, 3]
    cluster.wait_for_a_run(tmp_path, "a")
    monkeypatch.setattr(cluster, "PATIENCE", 0.1)
    with pytest.raises(InputError, match=r"the node to be killed had no run in 0.1 s, so none can be lost; give more"):
        cluster.wait_for_a_run(tmp_path, "c")


def test_parts_that_several_store_at_once_all_stay(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.common.RESULTS", tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: store_part("some.json", str(k), k), range(40)))
    assert read_json(tmp_path / "some.json") == {str(k): k for k in range(40)}


def test_a_benchmark_that_is_stopped_says_one_sentence(capsys):
    with pytest.raises(SystemExit) as stopped:
        told(lambda: signal.raise_signal(signal.SIGINT))
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "stopped; what was stored stays, and the same command makes the rest\n"


def test_workers_that_are_stopped_say_nothing():
    code = (
        "import time\nfrom benchmarks.common import told\nfrom gpvae_core.spread import Engine, spread\n"
        "def main():\n print('goes', flush=True)\n list(spread(time.sleep, [60, 0], Engine(jobs=2), print))\n"
        "if __name__ == '__main__':\n told(main)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=-1, stderr=-1, text=True, cwd=ROOT, start_new_session=True
    )
    assert child.stdout.readline() == "goes\n"
    time.sleep(8)  # one worker is at it, the other waits for more
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    said = child.communicate(timeout=30)
    assert said == ("", "stopped; what was stored stays, and the same command makes the rest\n")


def test_without_ray_its_option_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"Ray is not installed, and --ray needs it; pip install '.\[ray\]'"):
        list(spread(third, [0], Engine(ray="local"), fell_out))


def test_an_adversarial_row_counts_its_decodes():
    """Of a model in training mode the engine decodes by a copy."""
    (first, *_) = adversarial.ridges()
    row = adversarial.measured(first)
    assert row["decodes"] > 100 and not row["quiet_and_wrong"]


@pytest.mark.long
def test_the_script_for_a_gpu_runs_whole_on_a_cpu(tmp_path, monkeypatch):
    out = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--quick", "--out", str(out)])
    gpu.main()
    found = json.loads(out.read_text())["found"]
    assert {record["part"] for record in found} == {"correctness", "throughput", "processes", "training", "steps"}
    assert [record["beyond_both_errors"] for record in found if "beyond_both_errors" in record] == [0]
    assert all(record["first_steps_apart"] == 0 for record in found if record["part"] == "steps")


def test_a_run_that_ends_with_another_bit_than_the_one_left_alone_is_not_counted_as_the_same(tmp_path, monkeypatch):
    """Each of two is killed twice; the second has other weights."""

    def attempt(folder, data, epochs, seconds=None):
        folder.mkdir(exist_ok=True)
        (folder / WEIGHTS).write_bytes(b"1" if folder.name == "2" else b"0")
        (folder / CONFIG).write_bytes(b"{}")
        (folder / CURVES).write_text(json.dumps({"epoch": 1, "seconds": seconds}) + "\n")
        left[folder] = left.get(folder, 3) - 1
        return seconds is None or left[folder] == 0

    left = {}
    monkeypatch.setattr(kills, "attempt", attempt)
    found = kills.compared(tmp_path, None, 4, 2, np.random.default_rng(0))
    assert (found["kills"], found["runs"], found["same_to_the_last_bit"]) == (4, 2, 1)
