from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.data.tables import FileIndex, Table, find_column, image_column_of, label_columns_of, read_table
from bessemer.errors import UserError

INDEX = FileIndex(["a/1.png", "a/2.png", "b/2.png", "b/3.jpg", "caf\u0065\u0301.png"])


def _read(tmp_path: Path, data: str | bytes, name: str = "t.csv", encoding: str | None = None) -> Table:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_table(path, INDEX, encoding)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("a/1.png", ["a/1.png"]), ("./a/2.png", ["a/2.png"]),
        ("a\\2.png", ["a/2.png"]), ("C:\\x\\1.png", ["a/1.png"]),
        ("1.png", ["a/1.png"]), ("3", ["b/3.jpg"]),
        ("2.png", ["a/2.png", "b/2.png"]), ("/data/b/3.jpg", ["b/3.jpg"]),
        ("caf\u00e9.png", ["caf\u0065\u0301.png"]), ("4.png", []), ("", []),
        ("../../etc/passwd", []), (" 1.png ", ["a/1.png"]),
    ],
)  # fmt: skip
def test_cells_to_files(cell: str, expected: list[str]) -> None:
    assert INDEX.find(cell) == expected


def test_cells_beside_the_table_come_first() -> None:
    assert FileIndex(["x.png", "sub/x.png"], "sub").find("x.png") == ["sub/x.png"]
    assert FileIndex(["x.png", "sub/x.png"]).find("x.png") == ["x.png"]
    assert INDEX.find("3", stems=False) == []


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("image,缺陷\n1.png,有\n3.jpg,无\n", "t.csv"),
        ("\ufeffimage;缺陷\r\n1.png;有\r\n\r\n3.jpg;无\r\n", "t.csv"),
        ("image\t缺陷\n1.png\t有\n3.jpg\t无", "t.tsv"),
        ('image|缺陷\n"1.png"| 有 \n3.jpg|无\n', "t.csv"),
        ("image,缺陷\n1.png,有\n3.jpg,无\n".encode("utf-16"), "t.csv"),
    ],
)
def test_dialects(tmp_path: Path, data: str | bytes, name: str) -> None:
    table = _read(tmp_path, data, name)
    assert table.columns == ("image", "缺陷")
    assert [row for _, row in table.rows] == [
        {"image": "1.png", "缺陷": "有"},
        {"image": "3.jpg", "缺陷": "无"},
    ]
    assert table.notes == ()


def test_excels_chinese_encoding(tmp_path: Path) -> None:
    data = "图片,缺陷\n1.png,裂纹\n3.jpg,无\n"
    table = _read(tmp_path, data.encode("gb18030"))
    assert table.rows[0][1] == {"图片": "1.png", "缺陷": "裂纹"}
    assert table.notes == ("t.csv is not UTF-8 and was read as GB 18030",)
    assert _read(tmp_path, data.encode("gb18030"), encoding="gbk").notes == ()
    assert _read(tmp_path, "a,ü\n1,2\n".encode("latin-1"), encoding="latin-1").columns == ("a", "ü")


def test_line_numbers_count_lines_inside_quotes(tmp_path: Path) -> None:
    table = _read(tmp_path, 'image,note\n1.png,"two\nlines"\n2.png\n3.jpg,x\n')
    assert [line for line, _ in table.rows] == [2, 5]
    assert table.bad_rows == ((4, "1 cells, expected 2"),)


def test_without_header(tmp_path: Path) -> None:
    table = _read(tmp_path, "1.png,yes\n3.jpg,no\n")
    assert table.columns == ("column1", "column2")
    assert [line for line, _ in table.rows] == [1, 2]
    assert "no header row" in table.notes[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", ":1: fewer than two columns"),
        ("image\n1.png\n", ":1: fewer than two columns"),
        ("a,a\n1,2\n", ":1: column 'a' stands twice"),
        ('a,b\n1,2\n3,"x\n', ":3: "),
        ("a,b\n" + "x" * 200_000 + ",1\n", ":2: field larger"),
        (b"a,b\n1,\0\n", "not a text file"),
        (b"a,b\n1,\xff\xff\xff\n", "not a text file in UTF-8 or GB 18030"),
    ],
)
def test_no_tables(tmp_path: Path, data: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match="t.csv.*" + message):
        _read(tmp_path, data)


def test_encodings_that_fail(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a text file in ascii"):
        _read(tmp_path, "a,é\n1,2\n", encoding="ascii")
    for name in ("klingon", "zlib"):
        with pytest.raises(UserError, match=f"encoding '{name}' is not known"):
            _read(tmp_path, "a,b\n1,2\n", encoding=name)


def test_find_column(tmp_path: Path) -> None:
    table = _read(tmp_path, "image,label\n1.png,x\n")
    assert find_column(table, "label") == "label"
    with pytest.raises(UserError, match="no column 'lable'; did you mean 'label'"):
        find_column(table, "lable")
    with pytest.raises(UserError, match="expected one of image, label"):
        find_column(table, "zzz")


def test_names_and_values_have_single_spaces(tmp_path: Path) -> None:
    table = _read(tmp_path, 'image,"crack\n (small)?"\n1.png,very  bad\na/2.png,very bad\n3.jpg,ok\n')
    assert table.columns == ("image", "crack (small)?") and find_column(table, "crack\n (small)?") == table.columns[1]
    (label,), _ = label_columns_of(table, table.columns[1:], chosen=True)
    assert set(label.values.values()) == {"very bad", "ok"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("id,where,label\n1,1.png,x\n3,3.jpg,y\n", "where"),
        ("severity,file\n1,1.png\n3,3.jpg\n", "file"),
        ("label,id\nx,1\ny,3\n", "id"),
        ("copy,image\n1.png,1.png\n3.jpg,3.jpg\n", "image"),
        ("image,label\nmissing.png,x\nother.png,y\n", None),
        ("level,label\n1,x\n3,y\n1,x\n3,y\n1,y\n", None),  # few values that happen to be stems
    ],
)
def test_image_column(tmp_path: Path, data: str, expected: str | None) -> None:
    assert image_column_of(_read(tmp_path, data), INDEX) == expected


def _table(columns: dict[str, list[str]]) -> Table:
    rows = tuple(
        (line, dict(zip(columns, cells, strict=True)))
        for line, cells in enumerate(zip(*columns.values(), strict=True), 2)
    )
    return Table(Path("t.csv"), tuple(columns), rows, (), ())


def test_which_columns_are_labels() -> None:
    n = 60
    table = _table({
        "text": ["ok", "划痕", "NA"] * 20,
        "binary": ["0", "1"] * 30,
        "grade": ["1", "2.0", "10", "2", "", "01"] * 10,
        "nfc": ["caf\u0065\u0301", "caf\u00e9", "thé"] * 20,
        "constant": ["x"] * n,
        "empty": [""] * n,
        "id": [f"id{i}" for i in range(n)],
        "comment": [f"c{i // 2}" for i in range(n)],
        "millimetres": [str(i / 4) for i in range(n)],
        "rare": ["a", "b", "c"] + [""] * (n - 3),
    })  # fmt: skip
    labels, reasons = label_columns_of(table, table.columns, chosen=False)
    assert [(label.name, label.ordered) for label in labels] == [
        ("text", False),
        ("binary", False),
        ("grade", True),
        ("nfc", False),
    ]
    values = {label.name: label.values for label in labels}
    assert values["text"] == {"ok": "ok", "划痕": "划痕"}
    assert values["grade"] == {"1": "1", "01": "1", "2": "2", "2.0": "2", "10": "10"}
    assert set(values["nfc"].values()) == {"caf\u00e9", "thé"}
    assert reasons == {
        "constant": "has one value only",
        "empty": "is empty",
        "id": "holds 60 different values (free text or ids?)",
        "comment": "holds 30 different values (free text or ids?)",
        "millimetres": "holds 60 different numbers (a measurement? bin it into at most 10 values)",
        "rare": "holds 3 different values in 3 cells (free text or ids?)",
    }


def test_chosen_columns_are_labels_or_errors() -> None:
    table = _table({"many": [f"v{i % 40}" for i in range(60)], "id": [str(i) for i in range(60)], "one": ["x"] * 60})
    labels, _ = label_columns_of(table, ["many"], chosen=True)
    assert len(labels[0].values) == 40
    for column, message in [("id", "60 different numbers"), ("one", "one value only")]:
        with pytest.raises(UserError, match=f"t.csv: column '{column}' .*{message}.*, expected a column of labels"):
            label_columns_of(table, [column], chosen=True)


def test_numbers_that_are_none() -> None:
    table = _table({"a": ["0.3333333333333333", "1.0"] * 3, "b": ["0.33331", "0.33332"] * 3})
    labels, _ = label_columns_of(table, ["a", "b"], chosen=False)
    assert [sorted(set(label.values.values())) for label in labels] == [
        ["0.3333", "1"],
        ["0.33331", "0.33332"],
    ]
    table = _table({"a": ["1", "inf", "2", "1", "inf", "2"], "b": ["1e3", "1000", "5", "5", "7", "7"]})
    labels, _ = label_columns_of(table, ["a", "b"], chosen=False)
    assert [(label.ordered, sorted(set(label.values.values()))) for label in labels] == [
        (False, ["1", "2", "inf"]),
        (True, ["1000", "5", "7"]),
    ]
