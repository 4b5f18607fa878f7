"""Runs every test of the rules twice: with histories in Python, and in the native library."""

from collections.abc import Iterator

import pytest

from app.native.history import NativeHistory, Rules
from tests.support.streams import rules
from tests.support.streams.native import library


@pytest.fixture(autouse=True, scope="module", params=["Python", "library"])
def _each_history(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "library":
            patch.setattr(rules, "new_history", lambda found: NativeHistory(Rules(library(), found)))
        yield
