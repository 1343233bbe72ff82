from __future__ import annotations

import pytest

from bessemer.scenes.camera import Camera

CAMERA = Camera(400, 300, 200.0, 100.0, 2.0)


def test_projection_by_hand() -> None:
    # 4 m away a metre is 50 pixels: 1 m to the right of the middle, 2 m below the horizon's height
    assert CAMERA.project(1.0, 0.0, 4.0) == (250.0, 200.0)
    assert CAMERA.project(0.0, 2.0, 9.0) == (200.0, 100.0)  # what is as high as the camera is on the horizon
    assert CAMERA.scale(4.0) == 50.0 and CAMERA.reach(4.0) == 4.0


@pytest.mark.parametrize(("x", "depth"), [(0.0, 3.0), (-2.5, 7.25), (4.0, 30.0)])
def test_the_floor_is_found_again(x: float, depth: float) -> None:
    assert CAMERA.ground(*CAMERA.project(x, 0.0, depth)) == pytest.approx((x, depth))
