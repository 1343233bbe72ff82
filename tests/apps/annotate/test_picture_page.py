"""What the canvas shows, in a real browser: pictures that were seen before, masks with another label."""

from __future__ import annotations

import time
from pathlib import Path

from bessemer.annotation.documents import save
from bessemer.annotation.shapes import Annotation, Mask
from bessemer.apps.annotate.desk import Desk
from bessemer.apps.annotate.pixels import Pictures
from bessemer.apps.annotate.server import Server
from bessemer.apps.annotate.sessions import Sessions
from browser import NAMED, SAVED, Browser, enter_anew
from drawn_project import make_project
from page_client import ME

PIXEL = """
const canvas = document.querySelector('.layer.shapes');
return [...canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data].join();
"""


def test_a_picture_that_is_gone_back_to_stays(window: Browser, tmp_path: Path) -> None:
    """Of many pictures that were decoded those used last are kept, whatever the order they came in."""
    with make_project(tmp_path / "project", tmp_path / "photographs", 14) as project:
        sessions = Sessions(ME, tmp_path / "state.json", project.directory)
        server = Server(Desk(project, "roof-east", sessions, Pictures(project)), log=lambda line: None)
        server.start()
        try:
            enter_anew(window, server.link("ann"))
            window.js(
                "const real = window.setTimeout;"
                "window.setTimeout = (work, wait, ...rest) => real(work, wait === 20000 ? 0 : wait, ...rest)"
            )
            for image in (5, 2, 10, 13, 6):
                window.js(f"document.querySelector('button.row[data-image=\"{image}\"]').click()")
                window.wait(NAMED, f"cell-{image:03d}.png")
                time.sleep(0.6)  # the next ones are fetched ahead
            window.press("+", "f")
            time.sleep(0.3)
            assert window.complaints() == []
        finally:
            server.close()


def test_a_mask_has_the_colour_of_its_label(window: Browser, served: Server) -> None:
    save(served.desk.project, 1, "ann", 0, [Annotation("1", "crack", Mask((0, 640 * 640), 640, 640))])
    enter_anew(window, served.link("ann"))
    before = window.wait(f"const pixel = (() => {{ {PIXEL} }})(); return pixel !== '0,0,0,0' && pixel")
    window.press("v", "Alt+.", "2", "u")
    window.wait(SAVED, "saved")
    window.wait(f"const pixel = (() => {{ {PIXEL} }})(); return pixel !== '0,0,0,0' && pixel !== arguments[0]", before)
