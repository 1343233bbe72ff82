from __future__ import annotations

import pytest

from bessemer.report.formats import count, decimal, duration, percent, points, short, span


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(0.8885), "88.8 %"),
        (percent(1.0), "100.0 %"),
        (percent(None), "–"),
        (points(0.0123), "+1.2"),
        (points(-0.0123), "−1.2"),
        (points(-0.0001), "±0.0"),
        (points(None), "–"),
        (span([0.8624, 0.9111]), "86.2 to 91.1"),
        (span([-0.0001, 0.02]), "0.0 to 2.0"),
        (span(None), "–"),
        (decimal(-0.1824), "−0.182"),
        (decimal(None), "–"),
        (count(134_515_008), "134.5 M"),
        (count(1_700_000_000), "1.7 G"),
        (count(999), "999"),
        (count(None), "–"),
        (duration(4.26), "4.3 s"),
        (duration(59.7), "1 min 00 s"),
        (duration(185), "3 min 05 s"),
        (duration(7620), "2 h 07 min"),
        (duration(None), "–"),
        (short("  two \n words ", 20), "two words"),
        (short("abcdef", 4), "abc…"),
    ],
)
def test_numbers_as_people_read_them(shown: str, expected: str) -> None:
    assert shown == expected
