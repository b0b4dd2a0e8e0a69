"""The app as a server runs it, with a route that says whether it can compute: streamlit run app/served.py.

``GET /health`` computes the posterior of a simulated image and answers with JSON: 200 and the number with its error, or
503 and what went wrong. It computes once in EVERY seconds at the most, however many ask.
"""

import asyncio
import time
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from streamlit.starlette import App

EVERY = 5.0  # seconds
MODEL, NODES, TOLERANCE = "digits-2d-wide", 61, 1e-2  # small: the memory belongs to the pages


class Health:
    """The answer, and when it was found."""

    def __init__(self) -> None:
        self.alone = asyncio.Lock()
        self.found: dict[str, Any] = {}
        self.at = -EVERY

    async def answer(self, request: Request) -> JSONResponse:
        """Whether a posterior can be computed now."""
        async with self.alone:
            if time.monotonic() - self.at >= EVERY:
                self.found = await asyncio.to_thread(computed)
                self.at = time.monotonic()
        return JSONResponse(self.found, 200 if self.found["ok"] else 503, {"Cache-Control": "no-store"})


def computed() -> dict[str, Any]:
    """log p(x) of an image that the model makes, in nats, with its error and the time it took."""
    try:
        engine, image = _prepared()
        started = time.perf_counter()
        posterior = engine.posterior(image)
    except Exception as error:  # whatever it is, the answer is that this server does not compute
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}
    return {
        "ok": bool(posterior.log_evidence_error <= TOLERANCE),
        "model": MODEL,
        "log_evidence": posterior.log_evidence,
        "log_evidence_error": posterior.log_evidence_error,
        "milliseconds": round(1e3 * (time.perf_counter() - started)),
    }


@cache
def _prepared() -> tuple[Any, Any]:
    from gpvae_core.checkpoints import load_checkpoint  # torch comes with it: the server must answer before
    from gpvae_core.exact import PosteriorEngine

    checkpoint = load_checkpoint(MODEL)
    engine = PosteriorEngine(checkpoint.model.generative, nodes=NODES, tolerance=TOLERANCE)
    return engine, checkpoint.simulate(1, seed=0).images


app = App(Path(__file__).parent / "main.py", routes=[Route("/health", Health().answer)])
