"""A headless Chromium without a network, driven through Debian's chromedriver."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
MISSING = (
    "no Chromium with its driver is installed (Debian: apt-get install chromium chromium-driver)"
)
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
)

# Runs before the page's own scripts: counts what must not happen.
_WATCH = """
window.seen = {alerts: 0, errors: []};
window.alert = () => { window.seen.alerts += 1; };
addEventListener("error", (event) => window.seen.errors.push(event.message));
addEventListener("securitypolicyviolation", (event) => window.seen.errors.push(event.blockedURI));
"""


class Page:
    """One tab with one page."""

    def __init__(self, driver: Any):
        self.driver = driver

    def open(self, path: Path, width: int = 1280, *, dark: bool = False) -> None:
        """Open a file in a window of ``width`` pixels and wait until its figures are drawn."""
        self.size(width)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.cdp("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.driver.get(path.as_uri())
        self.wait("document.documentElement.dataset.drawn === 'yes'")

    def size(self, width: int, height: int = 900) -> None:
        """Give the window another size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.cdp("Emulation.setDeviceMetricsOverride", **size)

    def cdp(self, command: str, **arguments: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def js(self, expression: str, *arguments: Any) -> Any:
        """Return what an expression is worth on the page."""
        return self.driver.execute_script(f"return {expression}", *arguments)

    def wait(self, expression: str, seconds: float = 60) -> Any:
        """Return an expression's value as soon as it is true.

        Raises:
            TimeoutError: if it is not after ``seconds``.
        """
        end = time.monotonic() + seconds
        while not (value := self.js(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"still not true after {seconds} s: {expression}")
            time.sleep(0.02)
        return value

    def point(self, x: float, y: float) -> None:
        """Move the mouse."""
        self.cdp("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def key(self, key: str, code: int, **more: Any) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.cdp(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **more,
            )

    def complaints(self) -> list[str]:
        """Return all that went wrong since the last call: the console's lines, errors, alerts."""
        seen = self.js("window.seen")
        lines = [entry["message"] for entry in self.driver.get_log("browser")]
        return lines + seen["errors"] + ["alert"] * seen["alerts"]

    def requests(self) -> list[str]:
        """Return the addresses that the browser asked for since the last call, save ``data:``."""
        events = [json.loads(entry["message"]) for entry in self.driver.get_log("performance")]
        sent = [
            event["message"]["params"]["request"]["url"]
            for event in events
            if event["message"]["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in sent if not url.startswith(("data:", "blob:"))]


@contextmanager
def browser() -> Iterator[Page]:
    """Start a browser that has no network; it ends with the block."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    # axe takes half a minute on a free machine, which is all that a script has by default.
    driver.set_script_timeout(300)
    try:
        page = Page(driver)
        page.cdp("Network.enable")
        nothing = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        page.cdp("Network.emulateNetworkConditions", **nothing)
        page.cdp("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
        yield page
    finally:
        driver.quit()
