"""A JupyterLab of one's own and a headless Chromium that shows it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_SECONDS = 180.0
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
CHROMEDRIVER = os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver")
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--window-size=1100,1400", "--force-device-scale-factor=1",
]  # fmt: skip
# Counts what a script of a page could do unasked, before any script of the page runs.
WATCH = """
window.acts = [];
for (const name of ['alert', 'confirm', 'prompt', 'open', 'print'])
    window[name] = (...given) => { window.acts.push(name + '(' + given + ')'); };
window.frames_seconds = [];
let last = performance.now();
(function frame(now) {
    window.frames_seconds.push((now - last) / 1000); last = now; requestAnimationFrame(frame);
})(last);
"""


def cell_of(code: str) -> dict[str, Any]:
    """Return a cell of a notebook."""
    return {
        "cell_type": "code",
        "source": code,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        "id": code_id(),
    }


def code_id() -> str:
    """Return an identifier that was not used before."""
    return os.urandom(8).hex()


class Lab:
    """A server of JupyterLab in a directory, and a browser."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}"
        settings = directory / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}', encoding="utf-8")
        home = {
            name: str(directory / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
        }
        self._log = (directory / "lab.log").open("w", encoding="utf-8")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
             "--IdentityProvider.token=", "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={directory}",
             "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None", "--LabApp.extension_manager=readonly",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"],
            env={**os.environ, **home, "JUPYTERLAB_SETTINGS_DIR": str(directory / "settings")},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={directory / 'profile'}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.browser = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
        self.browser.set_script_timeout(LIMIT_SECONDS)
        self.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        self.requests: list[str] = []

    def open(self, name: str, cells: list[str]) -> None:
        """Write a notebook, and show it."""
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        document = {"cells": [cell_of(code) for code in cells], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        (self.directory / name).write_text(json.dumps(document), encoding="utf-8")
        self.wait_for_server()
        self.browser.get(f"{self.base_url}/lab/workspaces/{name.partition('.')[0]}/tree/{name}?reset")
        self.wait("return !!window.jupyterapp && !!document.querySelector('.jp-Notebook .jp-CodeCell')")
        self.wait("return window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
        self.script("window.jupyterapp.commands.execute('application:toggle-left-area')")

    def run_all(self, *, wait: bool = True) -> None:
        """Run all cells."""
        self.browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        if wait:
            self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Wait until every cell has run, and the formulas are typeset."""
        self.wait(
            "const cells = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];"
            "return cells.length > 0 && cells.every(cell => /\\[\\d+\\]/.test(cell.textContent))"
        )
        self.wait("return !document.querySelector('.jp-InputPrompt')?.textContent.includes('*')")
        time.sleep(2)  # MathJax works on after the last output

    def wait(self, condition: str) -> None:
        """Wait until a script returns something true."""
        limit = time.monotonic() + LIMIT_SECONDS
        while not self.browser.execute_script(condition):
            assert time.monotonic() < limit, f"this did not become true: {condition}"
            time.sleep(0.1)

    def wait_for_server(self) -> None:
        """Wait until the server accepts connections."""
        limit = time.monotonic() + LIMIT_SECONDS
        port = int(self.base_url.rpartition(":")[2])
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                assert time.monotonic() < limit, "the server did not start"
                time.sleep(0.2)
            else:
                return

    def foreign_requests(self) -> set[str]:
        """Return the addresses that were requested since the last call, but for those of the server."""
        entries = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        addresses = {
            entry["params"]["request"]["url"] for entry in entries if entry["method"] == "Network.requestWillBeSent"
        }
        own = (f"{self.base_url}/", "data:", "blob:")
        return {address for address in addresses if not address.startswith(own)}

    def script(self, code: str) -> Any:
        """Run a script in the page."""
        return self.browser.execute_script(code)

    def picture(self, path: Path, height: int = 1400, element: str = "#main") -> None:
        """Save what an element of the page looks like."""
        self.browser.set_window_size(1100, height)
        time.sleep(1)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.browser.find_element("css selector", element).screenshot(str(path))

    def close(self) -> None:
        """End the browser and the server."""
        self.browser.quit()
        self._server.terminate()
        self._server.wait(30)
        self._log.close()
