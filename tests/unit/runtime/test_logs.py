"""Tests workers' logs: whole lines, JSON on request, and never the contents of a record."""

import json
import logging
import logging.config
from typing import Literal

import pytest

from app.config.settings import WorkerSettings
from app.engine.exits import exit_code
from app.errors import ContinuityError, discreet
from app.runtime import logs

CANARY = "Zebedee Quillfeather"


def written(
    capsys: pytest.CaptureFixture[str], log_format: Literal["json", "text"], error: BaseException | None = None
) -> str:
    """The text on standard error after one message."""
    settings = WorkerSettings(log_format=log_format)
    logger = logging.getLogger("app.test_logs")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logging.config.dictConfig(logs.config(settings, "streams"))
        logger.critical("it ends at %s", "by-account/3", exc_info=error)
        return capsys.readouterr().err
    finally:
        root.handlers[:], root.level = handlers, level


def quoting(name: str) -> None:
    """Raises an error that quotes the value that it could not read, as many libraries do."""
    try:
        int(name)
    except ValueError as cause:
        raise KeyError(name) from cause


def raised(name: str) -> BaseException:
    with pytest.raises(KeyError) as found:
        quoting(name)
    return found.value


def test_json_is_one_object_a_line_with_the_exception_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = written(capsys, "json", raised(CANARY)).splitlines()
    found = json.loads(line)
    assert found.keys() == {"time", "level", "logger", "message", "worker", "pid", "exception"}
    assert (found["level"], found["logger"], found["worker"]) == ("CRITICAL", "app.test_logs", "streams")
    assert found["message"] == "it ends at by-account/3"
    assert found["time"].endswith("Z")
    assert found["exception"].index("builtins.ValueError") < found["exception"].index("builtins.KeyError")
    assert "test_logs.py" in found["exception"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_an_exception_is_logged_without_what_it_quotes(
    capsys: pytest.CaptureFixture[str], log_format: Literal["json", "text"]
) -> None:
    text = written(capsys, log_format, raised(CANARY))
    assert "KeyError" in text
    assert "quoting" in text, "the way through the code"
    assert CANARY not in text


def test_our_own_errors_are_logged_with_their_messages() -> None:
    assert discreet(ContinuityError("topic/3 offsets 5 to 9")) == "ContinuityError: topic/3 offsets 5 to 9"
    assert discreet(raised(CANARY)) == "KeyError"
    assert exit_code(raised(CANARY)) == 70


def test_text_is_the_default_and_has_one_line_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert WorkerSettings().log_format == "text"
    (line,) = written(capsys, "text").splitlines()
    assert line.endswith("CRITICAL app.test_logs: it ends at by-account/3")
