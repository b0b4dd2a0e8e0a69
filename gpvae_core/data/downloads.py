"""Files from the network, each checked by its md5, and one clause on why one could not be had."""

from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests


def reason(error: Exception) -> str:
    """One clause on why a download failed."""
    host = (
        urlsplit(str(error.request.url)).hostname
        if isinstance(error, requests.RequestException) and error.request
        else None
    )
    if isinstance(error, requests.Timeout):
        return f"{host} did not answer in time"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{host} answered {error.response.status_code}"
    if isinstance(error, requests.ConnectionError):
        return f"no connection to {host}"
    return str(error).splitlines()[0][:200]


def fetch(url: str, md5: str, folder: Path, timeout: float) -> Path:
    """The file at ``url``, in ``folder``. Raises requests.RequestException, OSError, or ValueError for a wrong md5."""
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=timeout)
    name = url.rsplit("/", 1)[1]
    return Path(pooch.retrieve(url, known_hash=f"md5:{md5}", fname=name, path=folder, downloader=downloader))


def fetch_from_any(mirrors: list[str], name: str, md5: str, folder: Path, timeout: float) -> Path:
    """``fetch`` from the first mirror that has it; raises what the first one raised."""
    failures: list[Exception] = []
    for mirror in mirrors:
        try:
            return fetch(mirror + name, md5, folder, timeout)
        except (requests.RequestException, OSError, ValueError) as error:
            failures.append(error)
    raise failures[0]
