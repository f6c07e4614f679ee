"""A headless Chromium, driven through its driver's own HTTP interface: real clicks and real keys."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")
KEYS = {
    "left": "\ue012",
    "right": "\ue014",
    "home": "\ue011",
    "end": "\ue010",
    "page up": "\ue00e",
    "page down": "\ue00f",
}
KEYS |= {"enter": "\ue007", "escape": "\ue00c", "tab": "\ue004", "down": "\ue015"}
_ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1400,1150",
]  # fmt: skip


class Browser:
    """One window. Ends its driver, and with it the browser, when closed."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        assert DRIVER is not None
        self._driver = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._driver.stdout is not None
        port = next(found[1] for line in self._driver.stdout if (found := re.search(r"on port (\d+)\.", line)))
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._at = f"http://127.0.0.1:{port}/session"
        options = {"binary": CHROMIUM, "args": [*_ARGUMENTS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self._at += f"/{made['sessionId']}"

    def close(self) -> None:
        try:
            self._ask("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait(10)

    def open(self, address: str) -> None:
        self._ask("POST", "/url", {"url": "about:blank"})  # or another place in the same page does not load it again
        self._ask("POST", "/url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """What the script returns; it runs beside the page's policy, as the driver's own code."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def click(self, selector: str) -> None:
        self._ask("POST", f"/element/{self._element(selector)}/click", {})

    def text(self, selector: str) -> str:
        found: str = self._ask("GET", f"/element/{self._element(selector)}/text")
        return found

    def press(self, *keys: str) -> None:
        """Press and release keys: names of `KEYS`, or texts to type."""
        typed = "".join(KEYS.get(key, key) for key in keys)
        actions = [{"type": kind, "value": one} for one in typed for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def screenshot(self, path: Path) -> bytes:
        made = base64.b64decode(self._ask("GET", "/screenshot"))
        path.write_bytes(made)
        return made

    def complaints(self) -> list[str]:
        """What the browser's console says since the last time: refused scripts, requests, exceptions."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def _element(self, selector: str) -> str:
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        (number,) = found.values()
        return str(number)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._at + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with self._opener.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None
