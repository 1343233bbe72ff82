from __future__ import annotations

import hashlib
import random
from collections import Counter

import numpy as np
import pytest

from bessemer.data.mixture import epoch_order, mixture_order, permutation
from bessemer.errors import UserError

PINNED = [[1, 3, 7, 5, 2, 0, 6, 4], [7, 5, 4, 3, 0, 6, 1, 2], [4, 5, 6, 0, 7, 1, 2, 3]]


def test_order_is_pinned() -> None:
    # Written down once: a change of these numbers means that no old run can be resumed.
    assert epoch_order(8, 0, 0) == PINNED[0]
    assert epoch_order(8, 0, 1) == PINNED[1]
    assert epoch_order(8, 1, 0) == PINNED[2]


def test_order_is_the_documented_construction() -> None:
    key = hashlib.sha256(b"str:epoch\x1fint:7\x1fint:2").hexdigest()
    generator = random.Random(int(key, 16))
    left, expected = list(range(12)), [0] * 12
    for place in reversed(range(12)):  # the last place first, each from what is left
        drawn = int(generator.random() * (place + 1))
        expected[place], left[drawn] = left[drawn], left[place]
    assert epoch_order(12, 7, 2) == expected


def test_order_ignores_and_leaves_the_global_generators() -> None:
    random.seed(5)
    np.random.seed(5)
    first = epoch_order(50, 3, 2)
    drawn = random.random(), np.random.rand()
    random.seed(5)
    np.random.seed(5)
    assert (random.random(), np.random.rand()) == drawn
    assert epoch_order(50, 3, 2) == first


@pytest.mark.parametrize("n", [0, 1, 2, 37])
def test_every_index_once(n: int) -> None:
    assert sorted(epoch_order(n, 9, 4)) == list(range(n))


def test_key_parts_do_not_run_into_one_another() -> None:
    orders = [permutation(20, *key) for key in [(1, 23), (12, 3), ("1", 23), ("1", "23"), (123,)]]
    assert len({tuple(order) for order in orders}) == len(orders)


def test_permutation_is_uniform() -> None:
    # 24 orders of 4 items, 4,800 draws: 200 each are expected; chi-squared (23) exceeds 49.7 with p = 0.001
    counts = Counter(tuple(permutation(4, "uniform", draw)) for draw in range(4800))
    assert len(counts) == 24
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 49.7


SIZES = {"defect": 40, "type": 30, "report": 7}


def test_weight_one_is_every_record_once() -> None:
    order = mixture_order(SIZES, {}, 1, 0)
    assert sorted(order) == sorted((task, i) for task, size in SIZES.items() for i in range(size))
    assert [task for task, _ in order] != sorted(task for task, _ in order)  # interleaved


def test_weights_count_visits() -> None:
    visits = Counter(mixture_order(SIZES, {"defect": 0.5, "type": 2, "report": 0}, 1, 0))
    by_task = Counter(task for task, _ in visits.elements())
    assert by_task == {"defect": 20, "type": 60}
    assert set(visits.values()) == {1, 2}
    assert all(count == (1 if task == "defect" else 2) for (task, _), count in visits.items())


def test_no_record_falls_behind_over_epochs() -> None:
    rng = random.Random(0)
    for _ in range(20):
        sizes = {"a": rng.randint(1, 12), "b": rng.randint(1, 12)}
        weights = {"a": rng.choice([0.1, 0.3, 1 / 3, 0.7, 1.7, 2.5]), "b": 1.0}
        seen: Counter[tuple[str, int]] = Counter()
        for epoch in range(30):
            seen.update(mixture_order(sizes, weights, 4, epoch))
            visits = [seen["a", i] for i in range(sizes["a"])]
            assert max(visits) - min(visits) <= 1
        assert abs(sum(visits) - 30 * weights["a"] * sizes["a"]) <= 0.5


def test_epochs_and_seeds_differ_and_mapping_order_does_not_matter() -> None:
    base = mixture_order(SIZES, {"type": 2.0}, 1, 0)
    assert base != mixture_order(SIZES, {"type": 2.0}, 1, 1)
    assert base != mixture_order(SIZES, {"type": 2.0}, 2, 0)
    assert base == mixture_order(dict(reversed(SIZES.items())), {"type": 2.0}, 1, 0)


def test_one_tasks_records_do_not_depend_on_the_others() -> None:
    def of_defect(order: list[tuple[str, int]]) -> list[int]:
        return sorted(i for task, i in order if task == "defect")

    with_others = mixture_order(SIZES, {"defect": 0.3}, 1, 2)
    assert of_defect(with_others) == of_defect(mixture_order({"defect": 40}, {"defect": 0.3}, 1, 2))


def test_wrong_weights() -> None:
    with pytest.raises(UserError, match="did you mean 'defect'"):
        mixture_order(SIZES, {"defct": 1}, 0, 0)
    with pytest.raises(UserError, match="0 or more"):
        mixture_order(SIZES, {"defect": -1}, 0, 0)
    with pytest.raises(UserError, match="0 or more"):
        mixture_order(SIZES, {"defect": float("nan")}, 0, 0)
    with pytest.raises(UserError, match="empty"):
        mixture_order({"defect": 3}, {"defect": 0}, 0, 0)
