"""The tables of docs/engine.md: how exact the engine is, and how fast it and the app are."""

from collections.abc import Callable
from typing import Any

from benchmarks.common import RESULTS
from gpvae_core.files import read_json

Rows = list[list[str]]
EXACT = ("digits-2d", "mnist-2d", "mnist-2d-wide", "binary-mnist-2d", "relu")
TIMED = ("digits-2d", "mnist-2d", "mnist-2d-wide", "relu")
LOADED = {  # of results/load.json
    "warm": "4 users, any test images",
    "30_users": "30 users, any test images",
    "30_users_same_images": "30 users, the same hundred",
    "30_users_prepared_images": "30 users, five hundred prepared ones",
    "60_users": "60 users, any test images",
    "60_users_same_images": "60 users, the same hundred",
    "60_users_prepared_images": "60 users, five hundred prepared ones",
    "30_users_and_a_hostile_one": "30 users, and one who asks 50 times a second",
}
SERVED = ("digits-2d", "mnist-2d")


def exactness() -> Rows:
    """The engine against brute force, and whether its regions hold the true z; one model a column."""
    found = [dict(read_json(RESULTS / f"posterior-{name}.json")) for name in EXACT]
    figures: dict[str, Callable[[dict[str, Any]], str]] = {
        "images with a reference (outside the box)": lambda a: f"{a['images']} ({a['outside_the_box']})",
        "largest error in log p(x), nats": lambda a: _power(a["log_evidence"]["max_error"]),
        "in the KL of base / marginalised q": lambda a: _of_both(a, lambda kl: _power(kl["max_error"])),
        "reported errors cover those in log p(x)": lambda a: _percent(a["log_evidence"]["covered"]),
        "in the KL of base / marginalised q: covered": lambda a: _of_both(a, lambda kl: _percent(kl["covered"])),
        "modes with more than 0.1 % of the mass missed": lambda a: (
            f"{a['modes_missed']} of {a['modes_above_0.1_percent']}"
        ),
    }
    rows = [["", *(f"`{name}`" for name in EXACT)]]
    rows += [[label, *(figure(record["accuracy"]) for record in found)] for label, figure in figures.items()]
    held = "simulated images; the 50 / 80 / 95 % region holds the true z of"
    return [*rows, [held, *(_held(record.get("calibration")) for record in found)]]


def _of_both(record: dict[str, Any], figure: Callable[[dict[str, Any]], str]) -> str:
    """Of every q that the model has: a plain VAE has one."""
    return " / ".join(figure(record[key]) for key in record if key.startswith("kl_"))


def _held(record: dict[str, Any] | None) -> str:
    if record is None:
        return ""
    return f"{record['images']:,}; " + " / ".join(f"{100 * r['held']:.1f}" for r in record["regions"]) + " %"


def speed() -> Rows:
    """One image at a time, and the naive ways to the same number."""
    found = [read_json(RESULTS / f"posterior-{name}.json")["speed"] for name in TIMED]
    figures: dict[str, Callable[[dict[str, Any]], str]] = {
        "preview, ms: p50 / p95 / worst of 100": lambda s: _times(s["preview_ms"]),
        "exact to 1e-3 nats, ms": lambda s: _times(s["exact_ms"]),
        "exact to 5e-3 nats, as in the app, ms": lambda s: _times(s["exact_to_0.005_ms"]),
        "decodes of the first, p50 / p95 / worst": lambda s: _times(s["exact_decodes"]),
        "opening, s: cold / grid on disk": lambda s: f"{s['open_cold_s']:.1f} / {s['open_cached_s']:.2f}",
        "memory of an open checkpoint, MiB": lambda s: f"{s['memory_cold_mib']:.0f}",
        "101 x 101 grid decoded anew (one image): ms; error": lambda s: _naive(s["grid_101"]),
        "1,000 x 1,000 grid (same image): ms; error": lambda s: _naive(s["grid_1000"]),
        "SciPy's `cubature` (same image): ms; error": lambda s: _naive(s["scipy_cubature"]),
    }
    rows = [["", *(f"`{name}`" for name in TIMED)]]
    return [*rows, *([label, *(figure(record) for record in found)] for label, figure in figures.items())]


def shortcuts() -> Rows:
    """What two shortcuts to log p(x, z) would cost, one model a row."""
    rows = [["", "off by, nats: p50 / p95 / worst", "directions needed"]]
    for name, record in read_json(RESULTS / "shortcuts.json").items():
        off = " / ".join(_power(record["interpolated"][key]) for key in ("p50", "p95", "worst"))
        rows.append([f"`{name}`", off, f"{record['rank']} of {record['pixels']}"])
    return rows


def _naive(record: dict[str, Any]) -> str:
    return f"{record['ms']:,.0f}; {_power(record['errors_nats'][0])}"


def served() -> Rows:
    """The app under one user and under thirty."""
    found = [read_json(RESULTS / "app.json")[name] for name in SERVED]
    figures: dict[str, Callable[[dict[str, Any]], str]] = {
        "one user: ms a change, p50 / p95 / worst": lambda r: _times(r["one_user"]["ms"]),
        "payload of a change, kB": lambda r: _times(r["one_user"]["payload_bytes"], 1e-3),
        "30 users, each a change every 5 s for 60 s: ms": lambda r: _times(r["many_users"]["ms"]),
        "a freshly started server: picture of the last time, s": lambda r: _times(r["browser"]["picture_s"]),
        "a freshly started server: page complete, s": lambda r: _times(r["browser"]["complete_s"]),
        "reload, s": lambda r: _times(r["browser"]["reload_s"]),
        "one hover, both planes redrawn, ms": lambda r: _times(r["browser"]["hover_ms"]),
        "a walk that plays: from frame to frame, ms": lambda r: _times(r["browser"]["walk_frame_ms"]),
        "one's own Gaussian, dragged: from frame to frame, ms": lambda r: _times(r["browser"]["drag_frame_ms"]),
    }
    rows = [["", *(f"`{name}`" for name in SERVED)]]
    return [*rows, *([label, *(figure(record) for record in found)] for label, figure in figures.items())]


def load() -> Rows:
    """A class on one process, and on two workers behind one address."""
    found = [read_json(RESULTS / "load.json")[name] for name in ("mnist-2d", "mnist-2d, two workers")]
    rows = [["`mnist-2d`, ms: p50 / p95", "one process", "two workers"]]
    for key, label in LOADED.items():
        times = (record.get(key, {}).get("ms") for record in found)
        rows.append([label, *(f"{ms['p50']:,.0f} / {ms['p95']:,.0f}" if ms else "not measured" for ms in times)])
    return [*rows, ["memory after 60 users, MiB", *(f"{record['60_users']['memory_mib']:,}" for record in found)]]


def _times(record: dict[str, float], scale: float = 1) -> str:
    """p50 / p95 / worst, two digits of each at least."""
    values = [scale * record[key] for key in ("p50", "p95", "max")]
    return " / ".join(f"{value:,.0f}" if value >= 10 else f"{value:.1f}" for value in values)


def _power(value: float, digits: int = 1) -> str:
    """So many digits of an error, 9e-05 as 9e-5."""
    return f"{value:.{digits - 1}e}".replace("e-0", "e-") if value < 0.01 else f"{value:.2g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def gpu_speed() -> Rows:
    """Images a second on that GPU, and on the CPU cores beside it; steps are from another run, at another d."""
    found = read_json(RESULTS / "gpu-nvidia-h200.json")["found"]
    rows = [["what, on MNIST", "d", "images a second"]]
    best = max(record["images_per_second"] for record in found if record["part"] == "throughput")
    rows.append(["exact gaps of `mnist-2d`, one process on the GPU", "2", f"{best:.0f}"])
    for record in found:
        speed = f"{record['images_per_second']:,.0f}" if "images_per_second" in record else ""
        if record["part"] == "processes":
            place = "the GPU, shared" if record["on"] == "cuda" else "the CPU"
            rows.append([f"exact gaps of `mnist-2d`, {record['processes']} processes on {place}", "2", speed])
        elif record["part"] == "training" and record["epoch"] == 2:
            rows.append([f"training, `{record['method']}`", "2", speed])
        elif record["part"] == "steps" and speed:
            rows.append([f"training step, `{record['method']}`, {record['mode']}", str(record["latent_dim"]), speed])
    return rows


def on_a_gpu() -> Rows:
    """The device's numbers less the CPU's, and how fast 64 images are on each; one model a row."""
    found = read_json(RESULTS / "gpu-nvidia-h200.json")["found"]
    rows = [["model", "log p(x)", "KL of base", "negentropy", "64 images, s: CPU / GPU"]]
    checked = [record for record in found if record["part"] == "correctness"]
    for cpu, gpu, compared in zip(*[iter(checked)] * 3, strict=True):
        numbers = compared["largest_difference"]
        differences = [_power(numbers[key], 2) for key in ("log_evidence", "kl_base", "negentropy")]
        rows.append([f"`{cpu['model']}`", *differences, f"{cpu['seconds']:.1f} / {gpu['seconds']:.1f}"])
    return rows
