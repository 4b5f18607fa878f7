"""When Python's garbage collector looks at what, in a process that has to answer, or to time what others answer, at once.

By default everything that lives is looked through every few seconds. A streams worker's caches are hundreds of thousands of objects:
that took 50 to 120 ms of each such moment, in which nothing else ran, and found nothing.
"""

import gc
import threading
import time
from typing import Final

YOUNG: Final = (5_000, 10)
"""What was made lately is looked through after so many objects more, and after so many times of that once more together."""
NEVER: Final = 1 << 30
FULL_EVERY_S: Final = 600.0
"""A cycle that grew old is taken away so much later: it may only be an error's traceback, a connection that was lost."""


def tune(full_every_s: float = FULL_EVERY_S) -> None:
    """Call it once, when everything is loaded: that is not looked at again. The rest is looked through as a whole every `full_every_s`."""
    gc.collect()
    gc.freeze()  # a quarter more throughput
    gc.set_threshold(*YOUNG, NEVER)
    threading.Thread(target=_collect, args=(full_every_s,), name="collection", daemon=True).start()


def _collect(every_s: float) -> None:
    while True:
        time.sleep(every_s)
        gc.collect()
