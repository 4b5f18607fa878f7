"""The pages, one a file. Each draws what the query cache holds, and says how old it is."""

from collections.abc import Callable, Mapping
from typing import Final

from ops.dashboard.views import alerts, customer, health, history, live

ALL: Final[Mapping[str, Callable[[], None]]] = {
    "Live": live.show,
    "Alerts": alerts.show,
    "Customer": customer.show,
    "Health": health.show,
    "History": history.show,
}
"""By title, in the order of the navigation."""
FIRST: Final = live.show
"""What a browser sees first, at `/`; the others are at their titles in small letters."""
