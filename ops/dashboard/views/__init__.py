"""The pages, one in each file. Each draws cached query results and shows their age.

May import the other modules of ops.dashboard.
"""

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
"""The pages by title, in the order of the navigation."""
FIRST: Final = live.show
"""The page at `/`. The path of every other page is its title in lower case."""
