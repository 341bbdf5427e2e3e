"""A real Chromium without a window, driven through its own pipe: no driver, no package."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.folders import leave_out

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


def find_chromium() -> str:
    """Return the browser's path; without one the test is left out."""
    if os.environ.get("FISTFUL_NO_BROWSER") == "1":
        leave_out("no browser is wanted: FISTFUL_NO_BROWSER=1")
    return next((path for name in NAMES if (path := shutil.which(name))), None) or leave_out(
        f"none of {', '.join(NAMES)} is installed, and make can install it as root only: apt-get install chromium"
    )


class Page:
    """One page, and what it did."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._in, self._out = to_browser, from_browser
        self._buffer, self._number, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters} | ({"sessionId": self._session} if self._session else {})
        os.write(self._in, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._out, 1 << 16)
            assert data, "the browser has gone"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        found = json.loads(line)
        if found.get("method") == "Network.requestWillBeSent":
            self.requests.append(found["params"]["request"]["url"])
        if found.get("method") == "Page.javascriptDialogOpening":
            self.dialogs.append(found["params"]["message"])
            os.write(
                self._in,
                json.dumps(
                    {"id": 0, "sessionId": self._session, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
                ).encode()
                + b"\0",
            )
        return found

    def open(self, path: Path, width: int, scheme: str = "light") -> None:
        """Open a file in a window of so many pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.requests.clear()
        self.call("Page.navigate", url=path.absolute().as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def ask(self, expression: str) -> Any:
        """Evaluate JavaScript in the page, from outside it: the page's own may be forbidden."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Start Chromium; it ends with the block."""
    command = [find_chromium(), *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    pipes = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (*os.pipe(), *os.pipe())]
    its_in, our_out, our_in, its_out = pipes

    def plug() -> None:
        os.dup2(its_in, 3)
        os.dup2(its_out, 4)

    process = subprocess.Popen(command, preexec_fn=plug, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(its_in)
    os.close(its_out)
    try:
        page = Page(our_out, our_in)
        yield page
        page._session = ""
        page.call("Browser.close")
        process.wait(20)
    finally:
        process.kill()
        process.wait(20)
        os.close(our_out)
        os.close(our_in)
