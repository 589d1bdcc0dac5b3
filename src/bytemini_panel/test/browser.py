"""Headless Chromium by its own debugging protocol over one socket: no driver, no library beyond aiohttp."""

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import aiohttp

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


class Page:
    """One tab. `errors` gathers exceptions and console errors of the page."""

    def __init__(self, width=1500, height=1000, phone=False):
        self._folder = tempfile.TemporaryDirectory(prefix="bytemini-browser-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu-sandbox",
                "--use-gl=angle",
                "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader",
                "--ignore-certificate-errors",
                "--remote-debugging-port=0",
                f"--user-data-dir={self._folder.name}",
                f"--window-size={width},{height}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.errors = []
        self._ids = itertools.count(1)
        self._answers = {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._listen(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(40), "Chromium did not start"
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        if phone:
            self.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=True
            )
            self.call("Emulation.setTouchEmulationEnabled", enabled=True)

    async def _listen(self):
        active = Path(self._folder.name, "DevToolsActivePort")
        deadline = time.monotonic() + 30
        while not active.exists() or not active.read_text().strip():
            assert time.monotonic() < deadline, "Chromium did not start"
            await asyncio.sleep(0.05)
        port = active.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
                if tabs:
                    break
                await asyncio.sleep(0.05)
            async with session.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=0) as self._socket:
                self._ready.set()
                async for message in self._socket:
                    self._hear(json.loads(message.data))

    def _hear(self, message):
        if "id" in message:
            self._answers.pop(message["id"]).set_result(message)
        elif message["method"] == "Runtime.exceptionThrown":
            details = message["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.errors.append(message["params"]["entry"]["text"])

    def call(self, method, **parameters):
        """Call one method of the protocol."""

        async def send():
            number = next(self._ids)
            answer = self._answers[number] = self._loop.create_future()
            await self._socket.send_json({"id": number, "method": method, "params": parameters})
            return await answer

        message = asyncio.run_coroutine_threadsafe(send(), self._loop).result(60)
        assert "error" not in message, message
        return message["result"]

    def open(self, url):
        """Go to an address."""
        self.call("Page.navigate", url=url)

    def evaluate(self, expression):
        """The value of a JavaScript expression; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, expression, seconds=20.0):
        """Wait until a JavaScript expression is true; one that cannot be evaluated yet is not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.evaluate(f"(() => {{ try {{ return Boolean({expression}); }} catch {{ return false; }} }})()"):
                return
            time.sleep(0.05)
        raise AssertionError(
            f"never true: {expression}; errors: {self.errors}; {self.evaluate('document.body.innerText')}"
        )

    def click(self, selector):
        """Press and release the mouse in the middle of an element, as a person would."""
        box = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoViewIfNeeded();"
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def write(self, selector, text):
        """Type into a field, in place of what is there."""
        self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.focus(); e.select(); }})()"
        )
        self.call("Input.insertText", text=text)

    def screenshot(self, path, whole=False):
        """Save what is seen, or the whole page, as PNG."""
        result = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(result["data"]))

    def close(self):
        """End the browser."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join(5)
        self._folder.cleanup()
