import json

import numpy as np
import pytest
from PIL import Image

from pipcook_deploy.data.detection_folder import seen_box
from pipcook_deploy.errors import UsageError
from tests.data.made import detector, prepared


def _picture(path, width=40, height=20, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def _coco(folder, count=8, key="file_name", names=("cat", "dog")):
    images, annotations = [], []
    for number in range(count):
        _picture(folder / f"{number}.png", seed=number)
        images.append({"id": 100 + number, key: f"{number}.png", "width": 40, "height": 20})
        annotations.append(
            {"id": number, "image_id": 100 + number, "category_id": 7, "bbox": [4, 5, 8, 10]}
        )
    annotations.append({"image_id": 100, "category_id": 9, "bbox": [0, 0, 40, 20], "iscrowd": 1})
    categories = [{"id": 7, "name": names[0]}, {"id": 9, "name": names[1]}]
    (folder / "annotation.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return folder


def _objects(data):
    return {
        origin: objects
        for split in data.splits.values()
        for origin, objects in zip(split.origins(), split.targets(), strict=True)
    }


@pytest.mark.parametrize("key", ["file_name", "url"])
def test_coco_boxes_are_relative_to_what_the_model_sees(tmp_path, key):
    _coco(tmp_path / "dataset" / "test", key=key)
    data = prepared(detector(), tmp_path / "out", evaluation=tmp_path / "dataset")
    found = _objects(data)
    assert len(found) == 8
    one = found["test/0.png"]
    np.testing.assert_allclose(one["boxes"], [[0.25, 0.1, 0.75, 0.3], [0, 0, 1, 1]])
    assert (one["labels"], one["crowd"]) == ([0, 1], [0, 1])
    assert data.splits["verdict"].inputs()["x"].shape[1:] == (10, 10, 3)


def test_the_annotation_file_itself_may_be_named(tmp_path):
    _coco(tmp_path / "a")
    data = prepared(detector(), tmp_path / "out", evaluation=tmp_path / "a" / "annotation.json")
    assert len(_objects(data)) == 8


XML = """<annotation><folder>x</folder><filename>{name}</filename>
<size><width>40</width><height>20</height></size>
<object><name>owl</name><bndbox><xmin>4</xmin><ymin>5</ymin><xmax>12</xmax><ymax>15</ymax></bndbox></object>
</annotation>"""


@pytest.mark.parametrize("layout", ["beside", "pipcook 1"])
def test_pascal_voc(tmp_path, layout):
    root = tmp_path / "dataset"
    pictures = root / "test" if layout == "beside" else root / "images"
    notes = root / "test" if layout == "beside" else root / "annotations" / "test"
    notes.mkdir(parents=True)
    for number in range(8):
        _picture(pictures / f"{number}.png", seed=number)
        (notes / f"{number}.xml").write_text(XML.format(name=f"{number}.png"))
    data = prepared(detector(), tmp_path / "out", evaluation=root)
    found = _objects(data)
    assert len(found) == 8
    for objects in found.values():
        np.testing.assert_allclose(objects["boxes"], [[0.25, 0.1, 0.75, 0.3]])
        assert objects["labels"] == [2]


def test_an_annotation_of_another_size_is_bad(tmp_path):
    folder = _coco(tmp_path / "a")
    _picture(folder / "3.png", 20, 40)
    data = prepared(detector(), tmp_path / "out", evaluation=folder, bad_limit=0.2)
    assert data.bad == ("a/3.png: is 40x20, its annotation says 20x40",)


def test_a_picture_that_is_missing_is_bad(tmp_path):
    folder = _coco(tmp_path / "a")
    (folder / "3.png").unlink()
    with pytest.raises(UsageError, match=r"3\.png: cannot be read: No such file"):
        prepared(detector(), tmp_path / "out", evaluation=folder)


def test_a_category_that_is_no_label_is_named(tmp_path):
    _coco(tmp_path / "a", names=("cat", "dogg"))
    with pytest.raises(UsageError, match=r"'dogg' is not one of the model's labels.*'dog'"):
        prepared(detector(), tmp_path / "out", evaluation=tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [], "annotations": [', "not COCO annotations"),
        ('{"images": [{"id": 1}], "annotations": []}', "no 'coco_url'"),
        ('{"images": [{"id": 1, "url": "http://a/b"}], "annotations": []}', "is an address"),
        ('{"images": [], "annotations": []}', "no pictures"),
    ],
)
def test_broken_annotations_are_told(tmp_path, content, message):
    (tmp_path / "annotation.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        prepared(detector(), tmp_path / "out", evaluation=tmp_path / "annotation.json")


def test_pictures_without_annotations_are_told(tmp_path):
    _picture(tmp_path / "a" / "0.png")
    with pytest.raises(UsageError, match="no annotations of objects"):
        prepared(detector(), tmp_path / "out", evaluation=tmp_path / "a")


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"op": "resize", "height": 10, "width": 10}, (0.25, 0.1, 0.75, 0.3)),
        # 20 x 40 covers 10 x 10 as 10 x 20; columns 5 to 15 are kept.
        ({"op": "resize", "height": 10, "width": 10, "fit": "cover"}, (0.25, 0, 0.75, 0.1)),
        # The central 10 x 20 of 20 x 40: rows 5 to 15, columns 10 to 30.
        ({"op": "center_crop", "height": 10, "width": 20}, (0, 0, 1, 0.1)),
    ],
)
def test_boxes_follow_the_crop(operation, expected):
    operations = detector(operation).preprocessing["x"]
    found = seen_box((0.25, 0.1, 0.75, 0.3), (20, 40), operations)
    assert found == pytest.approx(expected)


def test_a_box_that_the_crop_cuts_away_is_no_object():
    operations = detector({"op": "center_crop", "height": 10, "width": 20}).preprocessing["x"]
    assert seen_box((0.25, 0, 0.75, 0.2), (20, 40), operations) is None


def test_a_crop_moves_objects_where_the_pixels_go(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[8:14, 16:22] = 255
    images = []
    for number in range(4):
        shifted = np.roll(pixels, 2 * number, axis=1)
        Image.fromarray(shifted).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png"})
    annotations = [
        {"image_id": n, "category_id": 1, "bbox": [16 + 2 * n, 8, 6, 6]} for n in range(4)
    ]
    (folder / "a.json").write_text(
        json.dumps(
            {
                "images": images,
                "annotations": annotations,
                "categories": [{"id": 1, "name": "cat"}],
            }
        )
    )
    spec = detector(
        {"op": "resize", "height": 10, "width": 10, "fit": "cover", "method": "nearest"}
    )
    data = prepared(spec, tmp_path / "out", evaluation=folder)
    for split in data.splits.values():
        for picture, objects in zip(split.inputs()["x"], split.targets(), strict=True):
            rows, columns = np.nonzero(picture[..., 0])
            measured = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
            np.testing.assert_allclose(np.array(objects["boxes"][0]) * 10, measured, atol=0.51)
