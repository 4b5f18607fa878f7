"""The dashboard's entry point: `python -m streamlit run ops/dashboard/main.py` in the root of the project (see `make dashboard`)."""

import streamlit as st

from app.errors import SettingsError
from ops.dashboard import components, views
from ops.dashboard.access import landing, query_cache

st.set_page_config(page_title="bankstream", page_icon=":material/account_balance:", layout="wide")
st.html(components.STYLE)
page = st.navigation(
    [
        st.Page(show, title=title, url_path=title.lower(), default=show is views.FIRST)
        for title, show in views.ALL.items()
    ],
    position="top",
)
try:
    query_cache()
    landing()
except SettingsError as error:
    st.error(str(error))
    st.stop()
page.run()
