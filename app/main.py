"""The router: streamlit run app/main.py."""

import streamlit as st

from app import components, first_paint
from app.text import HOME, PAGES, TITLE
from app.words import t
from gpvae_core.errors import InputError
from gpvae_core.paths import check_environment

st.set_page_config(page_title=TITLE, layout="wide")
components.history()
first = st.empty()
try:
    check_environment()
except InputError as error:
    st.error(str(error))
    st.stop()
painted = first_paint.wanted() and first_paint.show(first, PAGES.keys() - {HOME})

# torch comes with these: the first picture must not wait for it
from app import gate, session  # noqa: E402
from app.views import difficulty, explore, figures, latent_map, lesson, train  # noqa: E402


def show() -> None:
    """The page that the address names."""
    session.current()  # whose language is spoken
    gate.guard()
    components.menu()
    modules = (explore, lesson, figures, difficulty, latent_map, train)
    pages = [
        st.Page(module.page, title=t(title), url_path=path, default=path == HOME)
        for (path, title), module in zip(PAGES.items(), modules, strict=True)
    ]
    st.session_state["explore-page"] = pages[0]
    page = st.navigation(pages, position="top")
    session.enter(page.url_path or HOME)
    if painted:
        explore.warm_up()
    first.empty()
    page.run()


try:
    show()
except Exception:
    gate.unforeseen()
