"""HTTP to our own loopback servers, whatever proxy the environment names."""

import requests


def loopback() -> requests.Session:
    """A session that never goes through a proxy and reads no ~/.netrc."""
    session = requests.Session()
    session.trust_env = False
    return session
