"""What a replay of the captured changes gives, as text that can be reviewed: `python -m tests.support.golden` makes tests/data/replay anew.

Topics with few records are kept whole, of the others every eighth record; `digests.json` has the length and the hash of all of them.
"""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from app.replay.outputs import Outputs
from app.replay.recording import read
from app.replay.run import INPUTS, OUTPUTS, Replay
from app.settings import WorkerSettings

DATA: Final = Path(__file__).resolve().parents[1] / "data"
CAPTURED: Final = DATA / "bank-cdc.ndjson.zst"
GOLDEN: Final = DATA / "replay"
WHOLE_UP_TO: Final = 100
EVERY: Final = 8


def golden() -> dict[str, str]:
    """The files of tests/data/replay by name, as the code at hand makes them."""
    with TemporaryDirectory() as temporary:
        out = Path(temporary)
        with Outputs(out, OUTPUTS) as outputs:
            Replay(WorkerSettings()).run(read([CAPTURED], INPUTS, lambda _: None), outputs)
        files, digests = {}, {}
        for topic in OUTPUTS:
            raw = (out / f"{topic}.ndjson").read_bytes()
            lines = raw.decode().splitlines(keepends=True)
            digests[topic] = {"records": len(lines), "sha256": hashlib.sha256(raw).hexdigest()}
            files[f"{topic}.ndjson"] = "".join(lines if len(lines) <= WHOLE_UP_TO else lines[::EVERY])
        files["digests.json"] = json.dumps(digests, indent=2) + "\n"
        return files


def main() -> None:
    """Write them."""
    GOLDEN.mkdir(exist_ok=True)
    for name, text in golden().items():
        (GOLDEN / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
