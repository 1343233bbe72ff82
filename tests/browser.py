"""A real browser for tests, driven through chromedriver's HTTP protocol with the standard library."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
MISSING = "needs Chromium and its driver: apt-get install chromium chromium-driver"
KEYS = {
    "Control": "\ue009", "Shift": "\ue008", "Alt": "\ue00a", "Enter": "\ue007", "Escape": "\ue00c", "Tab": "\ue004",
    "Backspace": "\ue003", "Delete": "\ue017", "ArrowLeft": "\ue012", "ArrowUp": "\ue013", "ArrowRight": "\ue014",
    "ArrowDown": "\ue015", "Space": " ", "Insert": "\ue016", "PageDown": "\ue00f", "PageUp": "\ue00e",
}  # fmt: skip
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One window. Selectors are CSS; `js` runs a function body with its arguments."""

    def __init__(self, driver: str, session: str) -> None:
        self._at = f"{driver}/session/{session}"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return _ask(method, self._at + path, body)

    def open(self, address: str) -> None:
        self.call("POST", "/url", {"url": address})

    def js(self, body: str, *args: Any) -> Any:
        return self.call("POST", "/execute/sync", {"script": body, "args": list(args)})

    def wait(self, body: str, *args: Any, seconds: float = 30) -> Any:
        """The first truthy value of a function body."""
        end = time.monotonic() + seconds
        while True:
            value = self.js(body, *args)
            if value:
                return value
            assert time.monotonic() < end, f"never true: {body} {args}\n{self.js('return document.body.innerText')}"
            time.sleep(0.05)

    def click(self, selector: str, index: int = 0) -> None:
        self.wait("return document.querySelectorAll(arguments[0]).length > arguments[1]", selector, index)
        found = self.call("POST", "/elements", {"using": "css selector", "value": selector})
        self.call("POST", f"/element/{found[index][ELEMENT]}/click", {})

    def press(self, *chords: str) -> None:
        """Chords like "Control+z", one after the other."""
        for chord in chords:
            names = chord.split("+") if chord != "+" else ["+"]
            keys = [KEYS.get(name, name) for name in names]
            steps = [{"type": "keyDown", "value": key} for key in keys]
            steps += [{"type": "keyUp", "value": key} for key in reversed(keys)]
            self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": steps}]})

    def type(self, text: str) -> None:
        steps = [{"type": kind, "value": c} for c in text for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": steps}]})

    def drag(self, points: Sequence[tuple[float, float]], button: int = 0) -> None:
        """Press at the first point of the window, move over the others, release at the last; one point is a click."""
        steps: list[dict[str, Any]] = [_move(points[0]), {"type": "pointerDown", "button": button}]
        steps += [_move(point) for point in points[1:]]
        steps.append({"type": "pointerUp", "button": button})
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
        self.call("POST", "/actions", {"actions": [pointer]})

    def hover(self, point: tuple[float, float]) -> None:
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [_move(point)]}
        self.call("POST", "/actions", {"actions": [pointer]})

    def screenshot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def complaints(self) -> list[str]:
        """What the console said since the last question: errors and warnings."""
        found = self.call("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in found if entry["level"] in ("SEVERE", "WARNING")]


def _move(point: tuple[float, float]) -> dict[str, Any]:
    return {"type": "pointerMove", "duration": 0, "x": round(point[0]), "y": round(point[1]), "origin": "viewport"}


def _ask(method: str, address: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)["value"]
    except urllib.error.HTTPError as error:
        found = json.load(error)["value"]
        raise AssertionError(f"{method} {address}: {found.get('error')}: {found.get('message')}") from None


@contextlib.contextmanager
def browser(profile: Path, size: tuple[int, int] = (1440, 900), language: str = "en") -> Iterator[Browser]:
    """A window of headless Chromium with a profile of its own."""
    assert CHROMIUM and DRIVER, MISSING
    process = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout
        port = next(found[1] for line in process.stdout if (found := re.search(r"successfully on port (\d+)", line)))
        base = f"http://127.0.0.1:{port}"
        # The sandbox needs rights that a container's root does not have; the pages are our own.
        words = ["headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", f"user-data-dir={profile}"]
        words += ["window-size={},{}".format(*size), f"lang={language}", "force-device-scale-factor=1"]
        options = {"binary": CHROMIUM, "args": [f"--{word}" for word in words]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}, "timeouts": {"script": 60000}}
        made = _ask("POST", f"{base}/session", {"capabilities": {"alwaysMatch": wanted}})
        window = Browser(base, made["sessionId"])
        try:
            yield window
        finally:
            window.call("DELETE", "")
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout:
            process.stdout.close()


READY = "return document.body && document.body.dataset.ready"
SAVED = "return document.querySelector('.save-state').dataset.state === arguments[0]"
NAMED = "return document.querySelector('.image-name').textContent === arguments[0]"


def enter_anew(window: Browser, link: str) -> None:
    """Enter as somebody who was never here."""
    window.open(link)
    window.wait(READY)
    window.js("localStorage.clear(); sessionStorage.clear(); indexedDB.deleteDatabase('bessemer')")
    window.open(link)
    window.wait(READY)
    window.hover((700, 5))  # away from the canvas
    window.complaints()


def on_screen(
    window: Browser, *points: tuple[float, float], size: tuple[int, int] = (640, 640)
) -> list[tuple[float, float]]:
    """Where points of an image that fills the canvas are in the window."""
    left, top, width, height = window.js(
        "const b = document.querySelector('.canvas').getBoundingClientRect(); return [b.left, b.top, b.width, b.height]"
    )
    scale = min((width - 32) / size[0], (height - 32) / size[1])
    x0, y0 = left + (width - size[0] * scale) / 2, top + (height - size[1] * scale) / 2
    return [(x0 + x * scale, y0 + y * scale) for x, y in points]


def draw_box(window: Browser, at: float) -> None:
    """A box of 60 pixels from (at, at) of the image."""
    window.press("b")
    window.drag(on_screen(window, (at, at), (at + 60, at + 60)))


def stop(window: Browser, pattern: str, hold: bool = False) -> None:
    """From now on requests "METHOD path" that match fail as without a server; or wait until `go_on`."""
    window.js(
        "window.__fetch ??= window.fetch; window.__held ??= []; const [pattern, hold] = arguments;"
        "window.fetch = (path, options) => {"
        "  if (!new RegExp(pattern).test(`${options?.method ?? 'GET'} ${path}`)) return window.__fetch(path, options);"
        "  if (!hold) return Promise.reject(new TypeError('away'));"
        "  return new Promise((done) => window.__held.push(() => done(window.__fetch(path, options)))); };",
        pattern,
        hold,
    )


def hold_answers(window: Browser, pattern: str, lose: bool = False) -> None:
    """From now on answers to requests "METHOD path" that match wait until `go_on`, or get lost; `__read` counts those
    that came."""
    window.js(
        "window.__fetch ??= window.fetch; window.__held ??= []; window.__read = 0; const [pattern, lose] = arguments;"
        "window.fetch = (path, options) => { const answer = window.__fetch(path, options);"
        "  if (!new RegExp(pattern).test(`${options?.method ?? 'GET'} ${path}`)) return answer;"
        "  const read = answer.then(() => { window.__read += 1; if (lose) throw new TypeError('away'); });"
        "  if (lose) return read;"
        "  return new Promise((done) => window.__held.push(() => done(answer))); };",
        pattern,
        lose,
    )


def go_on(window: Browser) -> None:
    """Requests go through again, also those that wait."""
    window.js("window.fetch = window.__fetch; for (const send of window.__held.splice(0)) send();")
