"""Machines as they are: caches that cannot be written, another working folder, a page inside somebody else's."""

import os
import threading
from io import BytesIO

import pytest
from PIL import Image, ImageDraw

from app.jobs import Job
from tests.pages import evidence, settle, until
from tests.server import files_served, serving


@pytest.fixture
def unwritable(tmp_path) -> dict[str, str]:
    """A home and caches below files, so that nobody can write there, the administrator included."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    caches = {name: str(blocked / name) for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "GPVAE_DATA_DIR")}
    return {"HOME": os.devnull} | caches


REMEMBER = """
window.said = [];
new MutationObserver(() => {
  for (const bar of document.querySelectorAll("[data-testid=stProgress]")) {
    const controls = [...document.querySelectorAll("label")].some((label) => label.innerText === "Checkpoint");
    window.said.push([bar.innerText, controls]);
  }
}).observe(document, { childList: true, subtree: true, characterData: true });
"""


@pytest.mark.long
def test_a_first_visit_anywhere_without_caches_says_what_is_being_done(visit, tmp_path, unwritable):
    """Started in another folder, no cache can be written: each step is said beside what is ready, nothing is lost."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with serving(tmp_path, unwritable, cwd=elsewhere) as own:
        page = visit(path="_stcore/health", base=own.url)
        page.add_init_script(REMEMBER)
        page.goto(f"{own.url}/?c=digits-2d&from=number&i=5&data=digits")
        settle(page, "the page without caches")
        said = page.evaluate("window.said")
        assert any(
            words.startswith("Decoding the latent plane of digits-2d, once") and beside for words, beside in said
        )
        first = evidence(page)
        page.reload()
        settle(page, "the page once more")
        assert evidence(page) == first
        page.goto(f"{own.url}/figures?c=digits-2d&n=4")
        until(page, "both figures", lambda: page.locator(".legend").count() == 2)
        said = {words.strip() for words, beside in page.evaluate("window.said") if beside}
        titles = (("Figure 1", 4), ("Figure 2", 3))  # what is quick is not always painted
        assert said & {f"{title}: exact posterior of image {k + 1} of {n} …" for title, n in titles for k in range(n)}


def seven() -> bytes:
    image = Image.new("L", (300, 300), 255)
    ImageDraw.Draw(image).line([(80, 60), (200, 60), (120, 250)], fill=10, width=24, joint="curve")
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_uploads_work_inside_another_sites_frame(visit, server, tmp_path):
    """127.0.0.1 inside a page of localhost: another site to the browser, so its cookies are not sent along."""
    frame = f'<iframe src="{server}/?c=digits-2d&from=upload&embed=true" style="width:100%;height:800px"></iframe>'
    (tmp_path / "lesson.html").write_text(frame)
    with files_served(tmp_path, "localhost") as outer:
        page = visit(path="lesson.html", base=outer, inside=server)
        inside = page.frame_locator("iframe")
        chooser = inside.locator("input[type=file]")
        chooser.wait_for(state="attached")
        chooser.set_input_files({"name": "seven.png", "mimeType": "image/png", "buffer": seven()})
        inside.get_by_text("what the model saw").wait_for()
        assert float(inside.locator(".evidence b").first.inner_text())  # the numbers of that image
        assert not [cookie["name"] for cookie in page.context.cookies() if "xsrf" in cookie["name"]]  # none is needed


def test_a_job_reports_its_share_and_hands_over_what_it_raises():
    going = threading.Event()

    def work(report):
        report(0.4)
        going.wait()
        return "made"

    job = Job("making", work)
    assert not job.done(0.05) and job.share == 0.4 and not job.failed()
    going.set()
    assert job.result() == "made" and job.done()
    broken = Job("breaking", lambda report: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.result()
    assert broken.failed()
