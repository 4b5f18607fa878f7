"""Damages files of a stopped worker's local state: truncates a file, flips bits, deletes a file or the whole directory."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

Damage = Callable[[Path, random.Random], str]
"""Damages one RocksDB directory and returns what it did."""


def stores(state: Path) -> list[Path]:
    """The RocksDB directories below a state directory."""
    return sorted(current.parent for current in state.rglob("CURRENT"))


def truncated(store: Path, chance: random.Random) -> str:
    """Cuts a file with content in half."""
    victim = _pick(store, chance, "*.sst", "MANIFEST-*")
    size = victim.stat().st_size
    with victim.open("r+b") as file:
        file.truncate(size // 2)
    return f"{victim.name} truncated from {size} to {size // 2} bytes"


def flipped(store: Path, chance: random.Random, bits: int = 64) -> str:
    """Flips bits at a random place of a data file, which has checksums. A store that was never flushed has only a manifest."""
    victim = _pick(store, chance, "*.sst" if any(store.glob("*.sst")) else "MANIFEST-*")
    content = bytearray(victim.read_bytes())
    for _ in range(bits):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    victim.write_bytes(content)
    return f"{bits} bits of {victim.name} flipped ({len(content)} bytes)"


def file_gone(store: Path, chance: random.Random) -> str:
    """Deletes one file."""
    victim = _pick(store, chance, "*.sst", "MANIFEST-*", "CURRENT")
    victim.unlink()
    return f"{victim.name} deleted"


def all_gone(store: Path, _: random.Random) -> str:
    """Deletes the whole directory."""
    count = len(list(store.iterdir()))
    shutil.rmtree(store)
    return f"{store.name} with {count} files deleted"


KINDS: Final[tuple[Damage, ...]] = (truncated, flipped, file_gone, all_gone)


def _pick(store: Path, chance: random.Random, *patterns: str) -> Path:
    candidates = [found for pattern in patterns for found in sorted(store.glob(pattern)) if found.stat().st_size]
    if not candidates:
        raise FileNotFoundError(
            f"{store} has no {' or '.join(patterns)} with content: {sorted(p.name for p in store.iterdir())}"
        )
    return chance.choice(candidates)
