from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from bessemer.assets import resolve
from bessemer.data import elpv
from bessemer.data.elpv import read_elpv
from bessemer.data.images import load_image
from bessemer.errors import UserError

THIRDS = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")
RUNS = [("mono", 70), ("poly", 130), ("mono", 60)]  # blocks: 70; 60 + 70; 60


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A directory of the package's layout, 260 tiny images, all probabilities in turn."""
    images = tmp_path / "elpv_dataset" / "data" / "images"
    images.mkdir(parents=True)
    kinds = [kind for kind, length in RUNS for _ in range(length)]
    rows: list[str] = []
    for row, kind in enumerate(kinds, start=1):
        Image.new("L", (2, 2), row % 256).save(images / f"cell{row:04d}.png")
        rows.append(f"images/cell{row:04d}.png  {THIRDS[row % 4]:<20} {kind}\n")
    (images.parent / "labels.csv").write_text("".join(rows))
    return tmp_path


def test_labels_weights_and_order(package: Path) -> None:
    examples = read_elpv(package)
    assert [example.id for example in examples] == [f"cell{row:04d}" for row in range(1, 261)]
    of_third = {0: ("no", "none", 0.0, 1.0), 1: ("no", "slight", 1 / 3, 0.33),
                2: ("yes", "moderate", 2 / 3, 0.67),
                3: ("yes", "severe", 1.0, 1.0)}  # fmt: skip
    for row, example in enumerate(examples, start=1):
        defect, severity, p, weight = of_third[row % 4]
        kind = "poly" if 70 < row <= 200 else "mono"
        assert example.labels == {"defect": defect, "severity": severity, "cell_type": kind}
        assert example.soft == pytest.approx({"defect": p}, abs=1e-12)
        assert (example.weight, example.scene, example.provenance["row"]) == (weight, "equipment", row)
    assert load_image(examples[6].image).getpixel((0, 0)) == (7, 7, 7)


def test_groups_are_blocks(package: Path) -> None:
    for protocol in ("P1", "P2"):
        groups = [example.group for example in read_elpv(package, protocol)]
        assert groups == ["module-01"] * 70 + ["module-02"] * 60 + ["module-03"] * 70 + ["module-04"] * 60


def test_p1_is_stratified(package: Path) -> None:
    examples = read_elpv(package, "P1", seed=4)
    assert Counter(example.split for example in examples) == {
        "test": 65,
        "val": 20,
        "train": 175,
    }  # 260 / 4; 195 / 10
    sizes = Counter((example.labels["severity"], example.labels["cell_type"]) for example in examples)
    tested = Counter((e.labels["severity"], e.labels["cell_type"]) for e in examples if e.split == "test")
    assert len(sizes) == 8
    assert all(abs(tested[stratum] - size / 4) < 1 for stratum, size in sizes.items())
    assert [e.split for e in examples] == [e.split for e in read_elpv(package, "P1", seed=4)]
    assert [e.split for e in examples] != [e.split for e in read_elpv(package, "P1", seed=5)]


def test_p2_keeps_blocks_whole(package: Path) -> None:
    examples = read_elpv(package, "P2", seed=1)
    parts = {group: {e.split for e in examples if e.group == group} for group in {e.group for e in examples}}
    assert all(len(splits) == 1 for splits in parts.values())
    assert Counter(split for splits in parts.values() for split in splits) == {
        "train": 2,
        "val": 1,
        "test": 1,
    }


def test_layouts(package: Path) -> None:
    assert len(read_elpv(package / "elpv_dataset")) == 260
    assert len(read_elpv(package / "elpv_dataset" / "data")) == 260
    with pytest.raises(UserError, match="no labels.csv, expected the unpacked elpv-dataset"):
        read_elpv(package / "elpv_dataset" / "data" / "images")


def test_the_licence_is_printed_once(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elpv._print_licence.cache_clear()
    read_elpv(package)
    read_elpv(package)
    assert capsys.readouterr().err.count("CC BY-NC-SA 4.0") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("images/cell0001.png 0.5 mono", ":1: probability 0.5, expected 0, 1/3, 2/3 or 1"),
        ("images/cell0001.png nan mono", ":1: probability nan"),
        ("images/cell0001.png -0.0004 mono", ":1: probability -0.0004"),
        ("images/cell0001.png x mono", ":1: probability x"),
        ("images/cell0001.png 1.0 thin", ":1: type 'thin', expected one of mono, poly"),
        ("images/cell0001.png,1.0,mono", ":1: 1 fields"),
        ("images/cell0002.png 1.0 mono", ":2: .*cell0002.png stands on line 1 too"),
        ("../../../secret.png 1.0 mono", "leads out of"),
        ("images/none.png 1.0 mono", "none.png: cannot be read"),
    ],
)
def test_bad_rows(package: Path, line: str, message: str) -> None:
    table = package / "elpv_dataset" / "data" / "labels.csv"
    rows = table.read_text().split("\n")
    table.write_text("\n".join([line, *rows[1:]]))
    (package.parent / "secret.png").write_bytes(b"x")
    with pytest.raises(UserError, match=message):
        read_elpv(package)


def test_labels_that_are_no_text(package: Path) -> None:
    (package / "elpv_dataset" / "data" / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="labels.csv: cannot be read .*expected elpv-dataset's labels"):
        read_elpv(package)
    (package / "elpv_dataset" / "data" / "labels.csv").write_bytes(b"\n\n")
    with pytest.raises(UserError, match="labels.csv has no rows"):
        read_elpv(package)


def test_bad_protocol(package: Path) -> None:
    with pytest.raises(UserError, match="protocol 'p3', expected one of P1, P2"):
        read_elpv(package, "p3")  # type: ignore[arg-type]


@pytest.mark.assets
def test_the_real_dataset() -> None:
    try:
        folder = resolve("elpv")
    except UserError as error:
        pytest.skip(f"neither cached nor to be had: {error}")
    p1, p2 = read_elpv(folder, "P1"), read_elpv(folder, "P2")
    # the figures of the dataset's paper
    assert Counter((e.labels["severity"], e.labels["cell_type"]) for e in p1) == {
        ("none", "mono"): 588, ("slight", "mono"): 117, ("moderate", "mono"): 56, ("severe", "mono"): 313,
        ("none", "poly"): 920, ("slight", "poly"): 178, ("moderate", "poly"): 50, ("severe", "poly"): 402,
    }  # fmt: skip
    assert Counter(e.split for e in p1) == {"train": 1771, "val": 197, "test": 656}
    assert len({e.group for e in p2}) == 44  # the published number of modules
    tested = [e for e in p2 if e.split == "test"]
    assert not {e.group for e in tested} & {e.group for e in p2 if e.split != "test"}
    assert len(tested) == pytest.approx(656, abs=66)
    assert sum(e.labels["defect"] == "yes" for e in tested) / len(tested) == pytest.approx(821 / 2624, abs=0.04)
    assert len({e.image.sha256 for e in p1}) == 2624
    assert load_image(p1[0].image).size == (300, 300)
