from __future__ import annotations

import hashlib
import random
import statistics

from bessemer.scenes.chance import Chance


def test_a_key_is_a_stream() -> None:
    assert [Chance("a", 1).share() for _ in range(2)] == [Chance("a", 1).share()] * 2
    assert Chance("a", 1).share() != Chance("a", 2).share() != Chance("b", 2).share()
    seed = int.from_bytes(hashlib.sha256(b"a\x1f1").digest(), "big")
    assert Chance("a", 1).share() == random.Random(seed).random()


def test_choices_have_their_distributions() -> None:
    chance = Chance("test")
    values = [chance.normal(2.0) for _ in range(4000)]
    assert abs(statistics.fmean(values)) < 4 * 2 / 4000**0.5
    assert abs(statistics.stdev(values) - 2) < 4 * 2 / 8000**0.5
    assert {chance.whole(2, 4) for _ in range(200)} == {2, 3, 4}
    assert 0.2 < sum(chance.flag(0.25) for _ in range(1000)) / 1000 < 0.3
    assert all(3 <= chance.between(3, 5) < 5 for _ in range(100))
    noise = chance.noise(40, 50)
    assert noise.shape == (40, 50) and 0 <= noise.min() < 0.01 and 0.99 < noise.max() <= 1
    assert abs(float(noise.mean()) - 0.5) < 4 / 12**0.5 / 2000**0.5
