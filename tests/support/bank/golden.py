"""Writes the results of a replay of the recorded changes to tests/data/replay, as text that can be reviewed.

Run it with `python -m tests.support.bank.golden`.

Small topics are written completely, large ones with every eighth record. `digests.json` has the length and the hash of every topic.
"""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from app.config.settings import WorkerSettings
from app.proof.replay.outputs import Outputs
from app.proof.replay.recording import read
from app.proof.replay.run import Replay
from tests.support.catalogue import CATALOGUE
from tests.support.paths import DATA

CAPTURED: Final = DATA / "bank-cdc.ndjson.zst"
GOLDEN: Final = DATA / "replay"
WHOLE_UP_TO: Final = 100
EVERY: Final = 8


def golden() -> dict[str, str]:
    """The files of tests/data/replay by name, as the current code generates them."""
    with TemporaryDirectory() as temporary:
        out = Path(temporary)
        replay = Replay(CATALOGUE, WorkerSettings())
        with Outputs(out, replay.outputs) as outputs:
            replay.run(read([CAPTURED], replay.inputs, lambda _: None), outputs)
        files, digests = {}, {}
        for topic in replay.outputs:
            raw = (out / f"{topic}.ndjson").read_bytes()
            lines = raw.decode().splitlines(keepends=True)
            digests[topic] = {"records": len(lines), "sha256": hashlib.sha256(raw).hexdigest()}
            files[f"{topic}.ndjson"] = "".join(lines if len(lines) <= WHOLE_UP_TO else lines[::EVERY])
        files["digests.json"] = json.dumps(digests, indent=2) + "\n"
        return files


def main() -> None:
    """Writes the files."""
    GOLDEN.mkdir(exist_ok=True)
    for name, text in golden().items():
        (GOLDEN / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
