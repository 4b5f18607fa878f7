"""Tests that a small disk is really full after it is filled, and really free after it is emptied."""

import errno
import os
from pathlib import Path

import pytest

from tests.faults.instruments.small_disk import small_disk, unavailable

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "it can")


def test_a_full_disk_accepts_no_byte_until_it_is_freed(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    with small_disk(place, 1) as disk:
        assert 0 < disk.fill() <= 1 << 20
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            (place / "file").write_bytes(b"1")
        disk.free()
        (place / "file").write_bytes(b"1")
        assert [found.name for found in place.iterdir()] == ["file"]
    assert not list(place.iterdir())
