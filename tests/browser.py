"""A headless Chromium, controlled through the HTTP interface of chromedriver: a page as its reader sees it."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

MISSING = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
_PATIENCE_S = 60


class Browser:
    def __init__(self, address: str) -> None:
        self._address = address

    def open(self, page: Path) -> None:
        self._post("url", {"url": page.as_uri()})

    def resize(self, *, width: int, height: int, dark: bool) -> None:
        """Sets the size of the page in CSS pixels; a browser window has a minimum size, the page has none."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._protocol("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._protocol("Emulation.setEmulatedMedia", {"features": [scheme]})

    def ask(self, script: str) -> Any:
        """The result of a script; it runs although the page's own policy forbids scripts."""
        return self._post("execute/sync", {"script": f"return {script}", "args": []})

    def screenshot(self, path: Path) -> None:
        self.resize_to_content()
        path.write_bytes(base64.b64decode(self._get("screenshot")))

    def resize_to_content(self) -> None:
        width, height = self.ask("[innerWidth, document.documentElement.scrollHeight]")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._protocol("Emulation.setDeviceMetricsOverride", metrics)

    def _protocol(self, command: str, parameters: dict[str, Any]) -> None:
        self._post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def _post(self, command: str, body: dict[str, Any]) -> Any:
        return _call(f"{self._address}/{command}", body)

    def _get(self, command: str) -> Any:
        return _call(f"{self._address}/{command}", None)


@contextmanager
def browser(scratch: Path) -> Iterator[Browser]:
    """A session with an empty profile, closed at the end of the block."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    with driver:
        try:
            started = next(match for line in driver.stdout if (match := re.search(r"successfully on port (\d+)", line)))
            root = f"http://127.0.0.1:{started[1]}/session"
            arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            options = {
                "args": [*arguments, f"--user-data-dir={scratch / 'profile'}"],
                "binary": shutil.which("chromium"),
            }
            session = _call(root, {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})["sessionId"]
            try:
                yield Browser(f"{root}/{session}")
            finally:
                _call(f"{root}/{session}", None, method="DELETE")
        finally:
            driver.terminate()


def _call(address: str, body: dict[str, Any] | None, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(address, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310 - a driver that this test started
    with urlopen(request, timeout=_PATIENCE_S) as response:  # noqa: S310 - as above
        return json.load(response)["value"]
