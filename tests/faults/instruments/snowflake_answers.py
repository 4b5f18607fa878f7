"""Snowflake's error responses, with its own texts and codes, for an `HttpProxy` in front of a server of its protocol.

The codes are those that snowflake-connector-python handles (its network.py): on 390112 it requests a new session token with the master
token and repeats the request; on all other codes of the login service it raises.
"""

import json
from collections.abc import Callable
from typing import Any, Final

from tests.support.web.http_faults import Matcher, Reply, Request, json_reply

INTERNAL: Final = (
    "000603",
    "SQL execution internal error: Processing aborted by error 300010:391167117; incident 4720198.",
)
SESSION_EXPIRED: Final = ("390112", "Your session has expired. Please login again.")
SESSION_GONE: Final = ("390111", "Session no longer exists. New login required to access the service.")
MASTER_EXPIRED: Final = ("390114", "Authentication token has expired. The user must authenticate again.")


def statement(*beginnings: str) -> Matcher:
    """Matches requests that execute a statement with one of these beginnings. Leading white space is ignored."""

    def matches(request: Request) -> bool:
        if not request.target.startswith("/queries/v1/query-request"):
            return False
        sql = str(json.loads(request.text).get("sqlText", "")).lstrip()
        return sql.upper().startswith(beginnings)

    return matches


def renewal(request: Request) -> bool:
    """Matches requests for a new session token."""
    return request.target.startswith("/session/token-request")


def failure(error: tuple[str, str], name: str) -> Reply:
    """An error response with HTTP status 200, as Snowflake sends it."""
    code, message = error
    data = {"errorCode": code, "sqlState": "XX000"} if error == INTERNAL else None
    return json_reply({"data": data, "code": code, "message": message, "success": False, "headers": None}, name)


def renewed(name: str) -> Callable[[Request], Reply]:
    """The response to a renewal. Both tokens stay valid at the server, because its session has not ended."""

    def make(request: Request) -> Reply:
        token: Any = json.loads(request.text)["oldSessionToken"]
        data = {
            "sessionToken": token,
            "masterToken": token,
            "validityInSecondsST": 3_600,
            "validityInSecondsMT": 14_400,
        }
        return json_reply({"data": data, "code": None, "message": None, "success": True}, name)

    return make
