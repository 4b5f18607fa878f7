"""Runs the warehouse: a persistent server of the Snowflake protocol (fakesnow on DuckDB, with fixes)."""

import sys
from typing import Any, Final

import requests

from app.local.stack.environment import REGION
from app.local.stack.errors import StackError
from app.local.stack.home import os_errors_as_home_errors
from app.local.stack.http import loopback
from app.local.stack.part import Context, Definition, Launch, NotReadyError, Part
from app.local.stack.parts import s3


def _prepare(context: Context) -> None:
    directory = context.home.data("warehouse")
    with os_errors_as_home_errors(directory):
        directory.mkdir(exist_ok=True, mode=0o700)


def _launch(context: Context) -> Launch:
    return Launch(
        argv=(sys.executable, "-m", "app.local.stack.warehouse_server"),
        environment={
            "BANKSTREAM_WAREHOUSE_SERVER_PORT": str(context.port("warehouse")),
            "BANKSTREAM_WAREHOUSE_SERVER_DIRECTORY": str(context.home.data("warehouse")),
            "BANKSTREAM_WAREHOUSE_SERVER_USER": context.environment["BANKSTREAM_SNOWFLAKE_USER"],
            "BANKSTREAM_WAREHOUSE_SERVER_PASSWORD": context.secrets.warehouse,
            "BANKSTREAM_WAREHOUSE_SERVER_S3_ENDPOINT_URL": s3.endpoint(context) if "s3" in context.state.ports else "",
            "BANKSTREAM_WAREHOUSE_SERVER_S3_REGION": REGION,
            "BANKSTREAM_WAREHOUSE_SERVER_S3_ACCESS_KEY_ID": context.secrets.s3_access_key_id,
            "BANKSTREAM_WAREHOUSE_SERVER_S3_SECRET_ACCESS_KEY": context.secrets.s3_secret_access_key,
        },
        yields=True,
    )


def _check(context: Context) -> None:
    body: dict[str, Any] = {
        "data": {
            "LOGIN_NAME": context.environment["BANKSTREAM_SNOWFLAKE_USER"],
            "PASSWORD": context.secrets.warehouse,
            "SESSION_PARAMETERS": {},
        }
    }
    base = f"http://127.0.0.1:{context.port('warehouse')}"
    try:
        with loopback() as session:
            login = session.post(f"{base}/session/v1/login-request", json=body, timeout=(1, 10)).json()
            if not login["success"]:
                raise StackError(f"the warehouse refuses this stack's own login: {login.get('message')}")
            token = f'Snowflake Token="{login["data"]["token"]}"'
            session.post(f"{base}/session?delete=true", headers={"Authorization": token}, timeout=(1, 10))
    except (requests.RequestException, ValueError, KeyError) as error:
        raise NotReadyError(f"{type(error).__name__}: {error}") from None


WAREHOUSE: Final = Definition(Part.WAREHOUSE, ("warehouse",), _prepare, _launch, _check)
