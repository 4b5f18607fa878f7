"""The models whose rows can be traced: how a row is named, and what it was made from."""

from dataclasses import dataclass
from typing import Final, Literal

from app.config.topics import ALERTS, SCD2_ACCOUNTS, SCD2_CUSTOMERS, VELOCITY

Kind = Literal["version", "row", "record"]
"""What a row of a model is made from: a version's open and close records, a raw change, a derived record."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the warehouse. `key` is the column by which people name its rows; `version_key` the id of one version."""

    relation: str
    kind: Kind
    key: str
    key_is_number: bool = True
    topic: str = ""
    version_key: str = ""
    newest: str = "source_offset DESC"
    """The order in which the row that is meant comes first."""


MODELS: Final = {
    "dim_customer": Model(
        "GOLD.DIM_CUSTOMER", "version", "customer_id", topic=SCD2_CUSTOMERS.name, version_key="customer_version_id",
        newest="version_number DESC",
    ),
    "dim_account": Model(
        "GOLD.DIM_ACCOUNT", "version", "account_id", topic=SCD2_ACCOUNTS.name, version_key="account_version_id",
        newest="version_number DESC",
    ),
    "fct_transactions": Model("GOLD.FCT_TRANSACTIONS", "row", "transaction_id"),
    "fct_alerts": Model("GOLD.FCT_ALERTS", "record", "alert_id", key_is_number=False, topic=ALERTS.name),
    "fct_velocity": Model(
        "GOLD.FCT_VELOCITY", "record", "transaction_id", topic=VELOCITY.name, newest="record_offset DESC"
    ),
    "customers": Model("SILVER.CUSTOMERS", "row", "customer_id"),
    "accounts": Model("SILVER.ACCOUNTS", "row", "account_id"),
    "transactions": Model("SILVER.TRANSACTIONS", "row", "transaction_id"),
}  # fmt: skip
