"""Tunes garbage collection so that full collections do not delay alerts.

By default Python runs a full collection every few seconds. A streams worker's caches hold hundreds of thousands of objects: each full
collection paused the process for 50 to 120 ms and freed nothing.

Young collections find hardly any garbage either: records are freed by their reference counts. A collection costs about 0.1 us for each
record object that is alive, so what counts is how often it happens while fetched records wait. Measured with `gc.callbacks`: 100,000
changes replayed by the worker's handlers from aiokafka's record objects, one fetch ahead, three interleaved runs of each threshold on two
cores shared with other programs (3 to 3.5 s of processor time each).

| new objects | fetches of 5,000: collections, together, longest | fetches of 20,000 |
| ---: | --- | --- |
| 5,000 | 109, 106 to 211 ms, 12 to 29 ms | 126, 86 to 187 ms, 11 to 19 ms |
| 20,000 | 21, 113 to 178 ms, 14 to 23 ms | |
| 50,000 | 1, 4 to 6 ms, 4 to 6 ms | 11, 90 to 147 ms, 20 to 32 ms |
| 100,000 | none | |
| 200,000 | none | 1, 24 to 55 ms, 24 to 55 ms |

50,000 is above what a fetch of 5,000 (`BANKSTREAM_ENGINE_MAX_BATCH_RECORDS`) leaves alive, and its longest pause stays near 30 ms when
several fetches wait.
"""

import gc
import threading
import time
from typing import Final

YOUNG: Final = (50_000, 10)
"""Collection thresholds: new objects for generation 0, and collections of generation 0 for generation 1."""
NEVER: Final = 1 << 30
FULL_EVERY_S: Final = 600.0
"""Seconds between two full collections. Old cycles can wait: they are an error's traceback or a lost connection at most."""


def tune(full_every_s: float = FULL_EVERY_S) -> None:
    """Excludes all present objects from collection; collects the rest in full every `full_every_s` seconds. Call it once, after loading."""
    gc.collect()
    gc.freeze()  # raises throughput by a quarter
    gc.set_threshold(*YOUNG, NEVER)
    threading.Thread(target=_collect, args=(full_every_s,), name="collection", daemon=True).start()


def _collect(every_s: float) -> None:
    while True:
        time.sleep(every_s)
        gc.collect()
