"""A Sheet -> the bytes of a file: PNG, SVG, PDF, a page by itself, CSV, NPZ, its config, a script that computes it."""

import base64
import io
import json
import platform
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.metadata import version
from inspect import getsource
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from app import components, meter, theme
from app.compute import TOLERANCE, Array
from app.figures import again
from app.figures.sheet import Panel, Sheet
from app.payload import plane_data
from app.words import spoken, t

DPI = 200
Extra = Sequence[Mapping[str, Any]]  # the box's atlas of each checkpoint, for the cursor of the HTML


def _print(kind: str) -> Callable[[Sheet, Extra], bytes]:
    def export(sheet: Sheet, atlas: Extra) -> bytes:
        from matplotlib import rc_context  # here, as a third of a second of the page's start is long

        from app.figures.draw import draw

        buffer = io.BytesIO()
        stamp = {"png": "Creation Time", "svg": "Date", "pdf": "CreationDate"}[kind]
        # the same figure gives the same bytes: no date, and names that do not depend on memory
        with rc_context({"svg.hashsalt": sheet.name, "svg.fonttype": "none", "pdf.fonttype": 42}):
            draw(sheet).savefig(buffer, format=kind, dpi=DPI, metadata={stamp: None})
        return buffer.getvalue()

    return export


def rows(sheet: Sheet) -> list[dict[str, Any]]:
    """One row for each image: checkpoint, number, class, scores, and every number of its report."""
    return [_row(sheet.name, made.config["checkpoint"], panel) for made in sheet.made for panel in made.panels]


def _row(figure: str, checkpoint: str, panel: Panel) -> dict[str, Any]:
    view = panel.view
    row: dict[str, Any] = {"figure": figure, "checkpoint": checkpoint, "index": panel.index, "label": panel.label}
    row |= view.scores
    for key, value in view.report.items():
        if key == "modes":
            row["modes"] = len(value)
        elif isinstance(value, list):
            flat = np.array(value).ravel()
            row |= {f"{key}_{k + 1}": float(v) for k, v in enumerate(flat)}
        else:
            row[key] = value
    if view.truth is not None:
        row |= {"true_z_1": float(view.truth[0]), "true_z_2": float(view.truth[1]), "true_z_mass": view.truth_mass}
    return row


def _csv(sheet: Sheet, atlas: Extra) -> bytes:
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows(sheet)), buffer)
    return buffer.getvalue()


def _npz(sheet: Sheet, atlas: Extra) -> bytes:
    """The arrays of each sheet it is made of; of several the names begin with left_ and right_."""
    sides = ("left_", "right_") if sheet.parts else ("",)
    named = zip(sides, sheet.made, strict=True)
    arrays = {side + name: values for side, made in named for name, values in _arrays(made).items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _arrays(sheet: Sheet) -> dict[str, Array]:
    """Stacked over images: pixels, fields and axes of both planes, contour levels, means and stds of each q."""
    views = [panel.view for panel in sheet.panels]
    names = ("pixels", "box_log_joint", "zoom_first", "zoom_second", "zoom_log_density", "levels")
    arrays = {name: np.stack([getattr(view, name) for view in views]) for name in names}
    arrays |= {"box_axis": views[0].box_axis, "masses": np.array(theme.MASSES)}
    for place, q in enumerate(views[0].overlays):
        for part in ("mean", "std"):
            arrays[f"{q.key}_{part}"] = np.stack([getattr(view.overlays[place], part) for view in views])
    return arrays


def config(sheet: Sheet) -> dict[str, Any]:
    """What the figure was made of, and with which versions."""
    packages = ("gpvae-core", "torch", "numpy", "matplotlib")
    return (
        sheet.config
        | {"figure": sheet.name, "versions": {name: version(name) for name in packages}}
        | {"python": platform.python_version(), "machine": platform.machine()}
    )


def _json(sheet: Sheet, atlas: Extra) -> bytes:
    return (json.dumps(config(sheet), indent=2) + "\n").encode()


def _python(sheet: Sheet, atlas: Extra) -> bytes:
    """A script that computes the figure's numbers again and holds them against the page's, within their errors."""
    title = re.sub(r"[\\\"]", " ", sheet.title)
    tested = any("indices" in made.config for made in sheet.made)
    data = " Data sets are looked for in GPVAE_DATA_DIR, or in the user's cache folder." if tested else ""
    return f'''"""{title}: computed again and compared with what the page showed, in nats.

Run it where the project's packages are installed.
Checkpoints are looked for in pretrained/ and in GPVAE_CHECKPOINTS.{data}
"""

import base64
import zlib

import numpy as np
import torch

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import load_dataset
from gpvae_core.diagnostics.judgement import posterior_report
from gpvae_core.paths import grid_cache


{getsource(again.check)}

{getsource(again.unpacked)}

{chr(10).join(map(_checked, sheet.made))}'''.encode()


def _checked(sheet: Sheet) -> str:
    """A call of ``check`` for the images of one checkpoint."""
    made, views = sheet.config, [panel.view for panel in sheet.panels]
    keys = ["log_evidence", *(f"kl_{q.key}" for q in views[0].overlays)]
    expected = [{key: (float(view.report[key]), float(view.report[f"{key}_error"])) for key in keys} for view in views]
    images = _from_data(made) if "indices" in made else _from_text([view.pixels for view in views])
    return f"""check(
    {made["checkpoint"]!r},
    "{made["weights"]}",
    {images},
    others={views[0].others!r},
    tolerance={TOLERANCE},
    expected=[
{"".join(f"        {row},{chr(10)}" for row in expected)}    ],
)
"""


def _from_data(made: Mapping[str, Any]) -> str:
    """Test images by their numbers."""
    data = f"load_dataset({made['dataset']!r}, seed={made['seed']})"
    return f"{data}.test.take(np.array({made['indices']})).pixels()"


def _from_text(pictures: list[Array]) -> str:
    """Anybody's own images, their float32 pixels within the script: it needs nothing beside it."""
    pixels = np.stack(pictures).astype("<f4")
    packed = base64.b64encode(zlib.compress(pixels.tobytes(), 9)).decode()
    text = "\n".join(f'        "{packed[k : k + 100]}"' for k in range(0, len(packed), 100))
    return f"unpacked(\n{text},\n        {(len(pixels), 1, *pixels.shape[1:])},\n    )"


def _html(sheet: Sheet, atlas: Extra) -> bytes:
    """The planes themselves, as in the app, with their tables; needs no network and no server."""
    weights = [made.config["weights"] for made in sheet.made for _ in made.panels]
    planes = zip(sheet.panels, weights, strict=True)
    data = {
        "planes": [plane_data(panel.view, digest, _flat(panel)) for panel, digest in planes],
        "atlases": [dict(one) for one in atlas],
        "modules": {name: components.source(f"{name}.js") for name in ("plane", "atlas")},
    }
    packed = json.dumps(data).replace("<", "\\u003c")  # "</script" would end the element that holds the text
    sections = "".join(
        f"<section><h2>{escape(_flat(panel))}</h2><div class='plane-host'></div>{meter.gap_meter(panel.view)}"
        f"{_table(meter.numbers(panel.view))}</section>"
        for panel in sheet.panels
    )
    script = _python(sheet, atlas).decode()
    page = f"""<!doctype html>
<html lang="{spoken()}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(sheet.title)}</title>
<style>{PAGE_CSS}{theme.css("page.css")}{components.source("plane.css")}</style></head>
<body><main><h1>{escape(sheet.title)}</h1><p>{escape(sheet.caption)}</p>{sections}
<h2>{t("Made of")}</h2><pre tabindex="0">{escape(json.dumps(config(sheet), indent=2))}</pre>
<h2>{t("Compute it again")}</h2><pre tabindex="0">{escape(script)}</pre></main>
<script type="application/json" id="data">{packed}</script>
<script type="module">
const data = JSON.parse(document.getElementById("data").textContent);
const load = (text) => import(URL.createObjectURL(new Blob([text], {{ type: "text/javascript" }})));
const plane = await load(data.modules.plane);
document.querySelectorAll(".plane-host").forEach((host, k) => {{
  plane.default({{ data: data.planes[k], parentElement: host, setTriggerValue() {{}} }});
}});
const atlas = await load(data.modules.atlas);
for (const one of data.atlases) atlas.default({{ data: one }});
</script></body></html>
"""
    return page.encode()


PAGE_CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0; }
main { max-width: 1180px; margin: auto; padding: 1rem; }
table { border-collapse: collapse; } td, th { padding: .15em .8em; border-bottom: 1px solid #ccc; text-align: right; }
td:first-child, th:first-child { text-align: left; } pre { overflow: auto; background: #f3f3f3; padding: .8em; }
"""


def _flat(panel: Panel) -> str:
    return panel.heading.replace("\n", ", ")


def _table(numbers: list[meter.Number]) -> str:
    body = "".join(f"<tr><td>{escape(n.said)}</td><td>{n.shown}</td><td>{n.error:.0e}</td></tr>" for n in numbers)
    head = f"<tr><th></th><th>{t('nats')}</th><th>{t('numerical error')}</th></tr>"
    summary = t("Every number, with its numerical error")
    return f"<details><summary>{summary}</summary><table>{head}{body}</table></details>"


FORMATS: dict[str, tuple[str, str, Callable[[Sheet, Extra], bytes]]] = {
    "png": ("PNG picture", "image/png", _print("png")),
    "svg": ("SVG drawing", "image/svg+xml", _print("svg")),
    "pdf": ("PDF for print", "application/pdf", _print("pdf")),
    "html": ("Page that works by itself", "text/html", _html),
    "csv": ("Numbers (CSV)", "text/csv", _csv),
    "npz": ("Arrays (NPZ)", "application/octet-stream", _npz),
    "json": ("Configuration (JSON)", "application/json", _json),
    "py": ("Python that computes it again", "text/x-python", _python),
}


def file_name(sheet: Sheet, kind: str) -> str:
    """A name that says figure, checkpoint and, for a single image, which: posterior-mnist-2d-test-image-5.png."""
    checkpoints = dict.fromkeys(made.config["checkpoint"] for made in sheet.made)
    parts = [sheet.name, *checkpoints, sheet.subject]
    return "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts if part) + f".{kind}"


def export(sheet: Sheet, kind: str, atlas: Extra = ()) -> bytes:
    """The sheet as a file of ``kind``, one of FORMATS; ``atlas``: each ``loaders.box_atlas``, for the HTML's cursor."""
    return FORMATS[kind][2](sheet, atlas)
