"""Provides what all browsers of a server share: the query cache, the landing tables, and settings.

Settings come from the environment or .streamlit/secrets.toml. Everything is read once.
"""

import os

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from app.config.settings import DashboardSettings, SnowflakeSettings, read
from app.config.topics import read_catalogue
from app.operations.provision.warehouse import landing_tables
from ops.dashboard.query_cache import QueryCache
from ops.dashboard.warehouse import Session


def _secrets() -> dict[str, str]:
    """Returns the top-level BANKSTREAM_ names of secrets.toml that the environment does not set. They are never shown or logged."""
    try:
        found = dict(st.secrets)
    except StreamlitSecretNotFoundError:
        return {}
    return {
        name: str(value) for name, value in found.items() if name.startswith("BANKSTREAM_") and name not in os.environ
    }


@st.cache_resource
def query_cache() -> QueryCache:
    """Returns the query cache, one for the whole server."""
    return QueryCache(Session(read(SnowflakeSettings, _secrets())))


@st.cache_resource
def landing() -> tuple[str, ...]:
    """Returns the landing tables that the tables file asks for. Raises TablesError if the file is invalid."""
    return tuple(landing_tables(read_catalogue(_secrets())))


@st.cache_resource
def shows_personal_data() -> bool:
    """Returns whether personal data such as e-mail addresses may be shown unmasked."""
    return read(DashboardSettings, _secrets()).show_personal_data
