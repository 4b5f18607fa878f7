"""Tests the schedule of garbage collection in a new process, because it applies to the whole process."""

import subprocess
import sys

OLD_CYCLE = """
import gc, time, weakref
from app.runtime import gc_tuning

class Node: pass

kept = [[] for _ in range(50_000)]
gc_tuning.tune(full_every_s=float({every}))
assert gc.get_freeze_count() > 50_000
full = lambda: gc.get_stats()[2]["collections"]
before, node = full(), Node()
node.itself, gone = node, weakref.ref(node)
more = [[] for _ in range(200_000)]  # enough for many looks at what is young, and, by default, for one at everything
del node
deadline = time.monotonic() + {patience}
while gone() is not None and time.monotonic() < deadline:
    time.sleep(0.01)
print(gone() is None, full() - before)
"""


def outcome(every: float, patience: float) -> list[str]:
    code = OLD_CYCLE.format(every=every, patience=patience)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def test_old_objects_are_not_collected_within_the_interval() -> None:
    assert outcome(every=3_600, patience=0) == ["False", "0"]


def test_an_old_reference_cycle_is_collected_in_time() -> None:
    gone, full = outcome(every=0.3, patience=30)
    assert gone == "True"
    assert int(full) >= 1
