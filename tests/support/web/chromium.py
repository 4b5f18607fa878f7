"""Controls a headless Chromium through the DevTools protocol: opens a page at a width, waits for content, takes screenshots."""

import base64
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.machine.waiting import eventually

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT_S = 60.0


def program() -> str:
    """The browser in BANKSTREAM_TEST_CHROMIUM, or one found on this machine. Skips the test if none is named and none is found."""
    if named := os.environ.get("BANKSTREAM_TEST_CHROMIUM"):
        found = shutil.which(named)
        assert found is not None, f"there is no {named}, which BANKSTREAM_TEST_CHROMIUM names"
        return found
    for name in NAMES:
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip("no browser on this machine: install Chromium or Chrome (Debian: apt install chromium)")


class Browser:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._ids = socket, itertools.count(1)

    def open(self, url: str, width: int, height: int) -> None:
        """Opens a page in a window of this size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.say("Emulation.setDeviceMetricsOverride", **metrics)
        self.say("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of an expression of JavaScript. AssertionError if it throws."""
        answer = self.say("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, (script, answer["exceptionDetails"])
        return answer["result"].get("value")

    def text(self) -> str:
        """The visible text of the page."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def shows(self, wanted: str, *, settled: bool = True) -> None:
        """Waits until the page shows this text and, if requested, Streamlit has drawn everything."""

        def ready() -> bool:
            still = self.evaluate("document.querySelector('[data-test-script-state=notRunning]') !== null")
            return wanted in self.text() and (bool(still) or not settled)

        eventually(ready, timeout_s=TIMEOUT_S, message=f"the page did not say {wanted!r}")

    def has(self, selector: str, number: int) -> None:
        """Waits until the page has at least this number of these elements."""
        script = f"document.querySelectorAll({json.dumps(selector)}).length"
        eventually(lambda: int(self.evaluate(script)) >= number, timeout_s=TIMEOUT_S, message=f"no {number} {selector}")

    def picture(self, file: Path) -> bytes:
        """A screenshot of the window as PNG."""
        found = base64.b64decode(self.say("Page.captureScreenshot", format="png")["data"])
        file.write_bytes(found)
        return found

    def say(self, method: str, **parameters: object) -> dict[str, Any]:
        """Sends a command and returns its response. Events in between are ignored."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(TIMEOUT_S))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """A new browser with a new profile, ended afterwards."""
    profile.mkdir(parents=True, exist_ok=True)
    port_file = profile / "DevToolsActivePort"
    process = subprocess.Popen(
        [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
            "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(
            lambda: port_file.exists() and len(port_file.read_text().split()) == 2,
            timeout_s=TIMEOUT_S,
            message="Chromium gave no port",
        )
        port = port_file.read_text().split()[0]
        with urlopen(f"http://127.0.0.1:{port}/json") as reply:
            page = next(one for one in json.load(reply) if one["type"] == "page")
        with connect(page["webSocketDebuggerUrl"], max_size=None) as socket:
            tab = Browser(socket)
            tab.say("Page.enable")
            yield tab
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
