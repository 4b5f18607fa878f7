"""What all browsers of one server share: the query cache with its session, and settings from the environment or .streamlit/secrets.toml."""

import os

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from app.config.settings import DashboardSettings, SnowflakeSettings, read
from ops.dashboard.query_cache import QueryCache
from ops.dashboard.warehouse import Session


def _secrets() -> dict[str, str]:
    """Top-level BANKSTREAM_ names of secrets.toml that the environment does not set. Never shown, never logged."""
    try:
        found = dict(st.secrets)
    except StreamlitSecretNotFoundError:
        return {}
    return {
        name: str(value) for name, value in found.items() if name.startswith("BANKSTREAM_") and name not in os.environ
    }


@st.cache_resource
def query_cache() -> QueryCache:
    """One for the whole server."""
    return QueryCache(Session(read(SnowflakeSettings, _secrets())))


@st.cache_resource
def shows_personal_data() -> bool:
    """Whether e-mail addresses and the like may be shown whole."""
    return read(DashboardSettings, _secrets()).show_personal_data
