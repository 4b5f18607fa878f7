"""Current accounts. Key: account_id. Value: the row as the source sent it, its open version and its log position."""

from typing import Final

from tables.rows import Rows, integers

ACCOUNTS: Final[Rows] = integers("accounts")
