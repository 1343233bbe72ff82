"""Makes the fixtures beside this file with the tools that they are named after; see README.md. Not run by tests.

usage: python generate.py TOOL FOLDER, with the Python of an environment that has the tool.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def photograph(path: Path, width: int, height: int, orientation: int = 1) -> None:
    """A grey photograph of that size as stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    Image.new("L", (width, height), 120).save(path, exif=exif, quality=20)


def bitmap(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[3:12, 5:20] = True
    mask[6:8, 9:12] = False
    mask[14:, 30:33] = True
    return mask


def labelme(folder: Path) -> None:
    """labelme's own writer and shapes, the photograph turned by EXIF: it works upright, 30 x 40."""
    from labelme import utils
    from labelme._label_file import write_label_file

    photograph(folder / "turned.jpg", 40, 30, 6)
    common = {"group_id": None, "flags": {}, "mask": None}
    mask = np.ones((5, 4), dtype=np.uint8)
    mask[1:3, 1:3] = 0
    shapes = [
        {
            "label": "裂纹",
            "points": [[1.5, 2.25], [10, 2], [8, 30.125]],
            "shape_type": "polygon",
            "description": "at the edge",
            **common,
        },
        {
            "label": "dirt",
            "points": [[20.5, 10], [3, 4]],
            "shape_type": "rectangle",
            "description": "",
            **common,
            "flags": {"old": True},
        },
        {"label": "dot", "points": [[7, 8.5]], "shape_type": "point", "description": None, **common, "group_id": 3},
        {"label": "spot", "points": [[15, 20], [15, 24]], "shape_type": "circle", "description": "", **common},
        {"label": "wire", "points": [[1, 1], [5, 9]], "shape_type": "line", "description": "", **common},
        {
            "label": "tilted",
            "points": [[10, 10], [14, 13], [11, 17], [7, 14]],
            "shape_type": "oriented_rectangle",
            "description": "",
            **common,
        },
        {
            "label": "hole",
            "points": [[2, 30], [5, 34]],
            "shape_type": "mask",
            "description": "",
            **common,
            "mask": utils.img_arr_to_b64(mask),
            "my own key": [1, {"a": None}],
        },
    ]
    write_label_file(
        str(folder / "turned.json"), shapes=shapes, image_path="turned.jpg", image_height=40, image_width=30,
        flags={"blurred": False, "night": True}, other_data={"weather": "雨", "camera": {"id": 7}},
    )  # fmt: skip


def x_anylabeling(folder: Path) -> None:
    """X-AnyLabeling's converter: from YOLO and YOLO-OBB to its own files."""
    from anylabeling.views.labeling.label_converter import LabelConverter

    classes = folder / "classes.txt"
    classes.write_text("crack\n污渍\n", encoding="utf-8")
    rows = {"hbb": "0 0.25 0.5 0.125 0.25\n1 0.7 0.7 0.1 0.2\n", "obb": "1 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5\n"}
    rows["seg"] = "0 0.1 0.1 0.5 0.1 0.45 0.6\n"
    converter = LabelConverter(classes_file=str(classes))
    for mode, text in rows.items():
        picture = folder / f"{mode}.jpg"
        photograph(picture, 40, 30)
        (folder / f"{mode}.txt").write_text(text)
        target = folder / f"{mode}.json"
        if mode == "obb":
            converter.yolo_obb_to_custom(str(folder / "obb.txt"), str(target), str(picture))
        else:
            converter.yolo_to_custom(str(folder / f"{mode}.txt"), str(target), str(picture), mode)
        (folder / f"{mode}.txt").unlink()
    classes.unlink()


def datumaro(folder: Path) -> None:
    """One Datumaro dataset in four formats, images saved with it."""
    import datumaro as dm
    from datumaro.components.media import Image as Picture

    def item(id: str, annotations: list) -> dm.DatasetItem:
        pixels = np.full((30, 40, 3), 90, dtype=np.uint8)
        return dm.DatasetItem(id=id, subset="train", media=Picture.from_numpy(pixels), annotations=annotations)

    polygon = dm.Polygon([1, 1, 20.5, 2.25, 18, 25], label=0, id=1, attributes={"severity": "high"})
    ring = dm.Mask(bitmap(30, 40), label=1, id=2)
    box = dm.Bbox(3.5, 4, 10.25, 8, label=1, id=3, attributes={"occluded": True})
    second = dm.Bbox(3.5, 4, 10.25, 8, label=1, id=4)
    items = [item("a", [polygon, box]), item("sub/a", [second]), item("empty", []), item("c", [ring])]
    dataset = dm.Dataset.from_iterable(items, categories=["裂纹", "dirt"])
    captions = dm.Dataset.from_iterable([item("a", [dm.Caption("一块板 with a crack", id=5)])])
    dataset.export(str(folder / "coco"), "coco_instances", save_media=True)
    captions.export(str(folder / "coco_captions"), "coco_captions", save_media=False)
    dataset.export(str(folder / "cvat"), "cvat", save_media=False)
    boxes = dm.Dataset.from_iterable(
        [item("a", [box]), item("sub/a", [box]), item("empty", [])], categories=["裂纹", "dirt"]
    )
    boxes.export(str(folder / "voc"), "voc_detection", save_media=True)
    boxes = dm.Dataset.from_iterable(
        [item("b", [box]), item("sub/a", [box]), item("empty", [])], categories=["裂纹", "dirt"]
    )
    other = dm.DatasetItem(id="v", subset="val", media=items[0].media, annotations=[box])
    boxes.put(other)
    boxes.export(str(folder / "yolo"), "yolo_ultralytics", save_media=True)


def supervision(folder: Path) -> None:
    """supervision's three writers of one detection dataset."""
    import supervision as sv

    pictures = folder / "pictures"
    for name in ("a.jpg", "empty.jpg"):
        photograph(pictures / name, 40, 30)
    paths = [str(pictures / name) for name in ("a.jpg", "empty.jpg")]
    found = sv.Detections(
        xyxy=np.array([[5.0, 3, 20, 12], [1, 2, 9, 8]]), class_id=np.array([0, 1]),
        mask=np.stack([bitmap(30, 40), np.pad(np.ones((6, 8), bool), ((2, 22), (1, 31)))]),
    )  # fmt: skip
    boxes = sv.Detections(xyxy=found.xyxy, class_id=found.class_id)
    for kind, detections in (("masks", found), ("boxes", boxes)):
        dataset = sv.DetectionDataset(
            classes=["crack", "dirt"], images=paths, annotations={paths[0]: detections, paths[1]: sv.Detections.empty()}
        )
        where = folder / kind
        dataset.as_coco(annotations_path=str(where / "coco" / "a.json"))
        dataset.as_yolo(
            annotations_directory_path=str(where / "yolo" / "labels"), data_yaml_path=str(where / "yolo" / "data.yaml")
        )
        if kind == "boxes":
            dataset.as_pascal_voc(annotations_directory_path=str(where / "voc"))


def label_studio_sdk(folder: Path) -> None:
    """The SDK's brush encoder, and its import of COCO and YOLO; made of the files of `supervision` beside it."""
    from label_studio_sdk.converter import brush
    from label_studio_sdk.converter.imports.yolo import convert_yolo_to_ls

    packed = brush.mask2rle(bitmap(30, 40).astype(np.uint8) * 255)
    size = {"original_width": 40, "original_height": 30, "image_rotation": 0}
    value = {"format": "rle", "rle": [int(byte) for byte in packed], "brushlabels": ["crack"]}
    result = {"id": "b1", "type": "brushlabels", "from_name": "tag", "to_name": "image", **size, "value": value}
    task = {
        "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"},
        "annotations": [{"id": 9, "completed_by": 1, "result": [result]}],
    }
    (folder / "brush.json").write_text(json.dumps([task]))
    yolo = folder / "input"
    photograph(yolo / "images" / "a.jpg", 40, 30)
    (yolo / "labels").mkdir()
    (yolo / "labels" / "a.txt").write_text("0 0.25 0.5 0.125 0.25\n1 0.7 0.7 0.1 0.2\n")
    (yolo / "classes.txt").write_text("crack\ndirt\n")
    convert_yolo_to_ls(str(yolo), str(folder / "from_yolo.json"), image_root_url="/data/local-files/?d=images")


def labelimg(folder: Path) -> None:
    """labelImg's writer."""
    from libs.pascal_voc_io import PascalVocWriter

    writer = PascalVocWriter("photos", "甲.jpg", (30, 40, 3), local_img_path="C:\\photos\\甲.jpg")
    writer.add_bnd_box(1, 1, 20, 12, "裂纹", False)
    writer.add_bnd_box(5, 6, 40, 30, "dirt", True)
    writer.save(str(folder / "甲.xml"))


def pascal_voc_writer(folder: Path) -> None:
    """The package pascal-voc-writer, which asks for numbers and writes them as they are."""
    from pascal_voc_writer import Writer

    writer = Writer("photos/b.jpg", 40, 30)
    writer.addObject("crack", 0, 2, 20, 12)
    writer.save(str(folder / "b.xml"))


def pycocotools(folder: Path) -> None:
    """Masks as pycocotools encodes them, compressed and not, crowds of both kinds, sparse and float ids."""
    from pycocotools import mask as masks

    array = np.asfortranarray(bitmap(30, 40).astype(np.uint8))
    packed = masks.encode(array)
    plain = {
        "size": [30, 40],
        "counts": [int(run) for run in np.diff(np.flatnonzero(np.diff(array.T.reshape(-1), prepend=2, append=2)))],
    }
    compressed = {"size": packed["size"], "counts": packed["counts"].decode()}
    common = {"image_id": 900100284400, "area": float(masks.area(packed)), "bbox": masks.toBbox(packed).tolist()}
    annotations = [
        {"id": 1, "category_id": 90, "iscrowd": 0, "segmentation": compressed, **common},
        {"id": 2, "category_id": 90, "iscrowd": 1, "segmentation": plain, **common},
        {"id": 3, "category_id": 7, "iscrowd": 0, "segmentation": [[1, 1, 9, 1, 9, 9.5], [20, 20, 25, 20, 25, 25]],
         **common, "area": 60.1, "bbox": [1, 1, 24, 24], "track_id": 4},
    ]  # fmt: skip
    top = {
        "info": {"year": 2026, "who": "某"}, "licenses": [{"id": 1, "name": "x"}], "my key": None,
        "images": [
            {"id": 9.001002844e11, "file_name": "d\\甲.jpg", "width": 40, "height": 30, "license": 1},
            {"id": 5, "file_name": "none.jpg", "width": 8, "height": 8},
        ],
        "categories": [{"id": 90, "name": "裂纹", "supercategory": "defect"}, {"id": 7.0, "name": "dirt"}],
        "annotations": annotations,
    }  # fmt: skip
    (folder / "instances.json").write_text(json.dumps(top, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    target = Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    globals()[sys.argv[1]](target)
