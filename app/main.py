"""The router: streamlit run app/main.py."""

import streamlit as st

from app import components, first_paint
from app.text import DIFFICULTY_TITLE, FIGURES_TITLE, MAP_TITLE, TITLE, TRAIN_TITLE

st.set_page_config(page_title=TITLE, layout="wide")
components.history()
components.menu()
first = st.empty()
painted = first_paint.wanted() and first_paint.show(first)

# torch comes with these: the first picture must not wait for it
from app import session  # noqa: E402
from app.views import difficulty, explore, figures, latent_map, lesson, train  # noqa: E402

pages = [
    st.Page(explore.page, title="Explore", url_path="explore", default=True),
    st.Page(lesson.page, title="Lesson", url_path="lesson"),
    st.Page(figures.page, title=FIGURES_TITLE, url_path="figures"),
    st.Page(difficulty.page, title=DIFFICULTY_TITLE, url_path="difficulty"),
    st.Page(latent_map.page, title=MAP_TITLE, url_path="map"),
    st.Page(train.page, title=TRAIN_TITLE, url_path="train"),
]
st.session_state["explore-page"] = pages[0]
page = st.navigation(pages, position="top")
session.enter(page.url_path or "explore")
if painted:
    explore.warm_up()
first.empty()
page.run()
