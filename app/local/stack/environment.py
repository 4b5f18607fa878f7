"""Builds the settings of a running stack as environment variables with the names that `app.config.settings` reads."""

from collections.abc import Collection
from typing import Final

from app.local.stack.home import Home, Secrets, State
from app.local.stack.part import Part

HOST: Final = "127.0.0.1"
DATABASE: Final = "bank"
BUCKET: Final = "bank-lake"
ADMIN: Final = "postgres"
REGION: Final = "us-east-1"
API_PORT: Final = "streams_1_api"
"""The name of the port of the first streams worker's lookup API. Every worker answers for all of them."""


def environment(home: Home, state: State, secrets: Secrets, parts: Collection[Part]) -> dict[str, str]:
    """Returns the variables for the workers, the tools and the tests, limited to the parts that the stack has.

    Besides the application's variables, they contain the accounts that provisioning needs:
    BANKSTREAM_POSTGRES_{ADMIN,OWNER,REPLICATION,READER}_{USER,PASSWORD}. ADMIN is the local server's superuser; only the local stack has
    it. BANKSTREAM_LOOKUP_{URL,TOKEN} are for clients of the lookup API. This token gives no access to personal data.
    """
    found = {"BANKSTREAM_HOME": str(home.path), "BANKSTREAM_ENGINE_STATE_DIR": str(home.data("state") / "manual")}
    if Part.KAFKA in parts:
        found |= {
            "BANKSTREAM_KAFKA_BOOTSTRAP_SERVERS": f"{HOST}:{state.ports['kafka']}",
            "BANKSTREAM_KAFKA_REPLICATION_FACTOR": "1",
        }
    if Part.CONNECT in parts:
        found |= {"BANKSTREAM_CONNECT_URL": f"http://{HOST}:{state.ports['connect']}"}
    if Part.POSTGRES in parts:
        found |= {
            "BANKSTREAM_POSTGRES_HOST": HOST,
            "BANKSTREAM_POSTGRES_PORT": str(state.ports["postgres"]),
            "BANKSTREAM_POSTGRES_DBNAME": DATABASE,
            "BANKSTREAM_POSTGRES_SSLMODE": "disable",
            "BANKSTREAM_POSTGRES_USER": "bank_app",
            "BANKSTREAM_POSTGRES_PASSWORD": secrets.postgres_app,
            "BANKSTREAM_POSTGRES_ADMIN_USER": ADMIN,
            "BANKSTREAM_POSTGRES_ADMIN_PASSWORD": secrets.postgres_admin,
            "BANKSTREAM_POSTGRES_OWNER_USER": "bank_owner",
            "BANKSTREAM_POSTGRES_OWNER_PASSWORD": secrets.postgres_owner,
            "BANKSTREAM_POSTGRES_REPLICATION_USER": "bank_replication",
            "BANKSTREAM_POSTGRES_REPLICATION_PASSWORD": secrets.postgres_replication,
            "BANKSTREAM_POSTGRES_READER_USER": "bank_reader",
            "BANKSTREAM_POSTGRES_READER_PASSWORD": secrets.postgres_reader,
        }
    if Part.S3 in parts:
        found |= {
            "BANKSTREAM_S3_BUCKET": BUCKET,
            "BANKSTREAM_S3_ENDPOINT_URL": f"http://{HOST}:{state.ports['s3']}",
            "BANKSTREAM_S3_REGION": REGION,
            "BANKSTREAM_S3_ACCESS_KEY_ID": secrets.s3_access_key_id,
            "BANKSTREAM_S3_SECRET_ACCESS_KEY": secrets.s3_secret_access_key,
        }
    if Part.WAREHOUSE in parts:
        found |= {
            "BANKSTREAM_SNOWFLAKE_ACCOUNT": "local",
            "BANKSTREAM_SNOWFLAKE_HOST": HOST,
            "BANKSTREAM_SNOWFLAKE_PORT": str(state.ports["warehouse"]),
            "BANKSTREAM_SNOWFLAKE_PROTOCOL": "http",
            "BANKSTREAM_SNOWFLAKE_DATABASE": "BANK",
            "BANKSTREAM_SNOWFLAKE_USER": "bankstream",
            "BANKSTREAM_SNOWFLAKE_PASSWORD": secrets.warehouse,
        }
    if Part.STREAMS in parts and API_PORT in state.ports:
        found |= {
            "BANKSTREAM_LOOKUP_URL": f"http://{HOST}:{state.ports[API_PORT]}",
            "BANKSTREAM_LOOKUP_TOKEN": secrets.api,
        }
    return found
