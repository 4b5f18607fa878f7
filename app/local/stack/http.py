"""Opens HTTP sessions to the stack's loopback servers that ignore the environment's proxies."""

import requests


def loopback() -> requests.Session:
    """Returns a session that uses no proxy and does not read ~/.netrc."""
    session = requests.Session()
    session.trust_env = False
    return session
