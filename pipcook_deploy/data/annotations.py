"""Annotated pictures, as data: read from COCO's JSON or Pascal VOC's XML."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pipcook_deploy.errors import UsageError
from pipcook_deploy.samples import image_files


@dataclass
class Annotated:
    """One picture. `boxes` are [y0, x0, y1, x1] in pixels; `labels` names, or numbers where there are none.

    `size` is (height, width) as the annotation says, None where it does not.
    """

    path: Path
    size: tuple[int, int] | None = None
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    crowd: list[int] = field(default_factory=list)


def read_annotations(path: Path) -> tuple[list[Annotated], str]:
    """Every annotated picture of a COCO file, of a folder with one, or of a folder with Pascal VOC files; and the
    name of the format. Raises `UsageError` naming the file.
    """
    if path.is_file():
        return _coco(path), "COCO"
    found = [file for file in sorted(path.rglob("*.json")) if _is_coco(file)]
    if len(found) > 1:
        names = ", ".join(str(file.relative_to(path)) for file in found[:4])
        raise UsageError(f"{path}: several COCO files: {names}", "give the path of one of them")
    if found:
        return _coco(found[0]), "COCO"
    files = sorted(path.rglob("*.xml"))
    if not files:
        raise UsageError(
            f"{path}: no annotations of objects: neither COCO's .json nor Pascal VOC's .xml"
        )
    # `annotations/train/a.xml` with `images/a.jpg`: the pictures may lie beside the folder of annotations.
    roots = [path] if image_files(path) else [path.parent, path.parent.parent]
    pictures = {picture.name: picture for root in roots for picture in image_files(root)}
    return [_voc(file, pictures) for file in files], "Pascal VOC"


def _is_coco(path: Path) -> bool:
    with path.open("rb") as stream:
        return b'"annotations"' in stream.read(1 << 16) or _has_annotations(path)


def _has_annotations(path: Path) -> bool:
    try:
        data = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(data, dict) and "annotations" in data and "images" in data


def _coco(path: Path) -> list[Annotated]:
    try:
        data = json.loads(path.read_bytes())
        names = {row["id"]: str(row["name"]) for row in data.get("categories", [])}
        found = {
            row["id"]: Annotated(_picture(path, row), _size(row.get("height"), row.get("width")))
            for row in data["images"]
        }
        for row in data["annotations"]:
            left, top, width, height = (float(number) for number in row["bbox"])
            image = found[row["image_id"]]
            image.boxes.append((top, left, top + height, left + width))
            image.labels.append(names[row["category_id"]])
            image.crowd.append(int(row.get("iscrowd", 0)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"{path}: not COCO annotations: {said}") from error
    return list(found.values())


def _picture(path: Path, row: dict[str, Any]) -> Path:
    """COCO calls it `file_name`; Pipcook reads `url`, from the annotation's folder on."""
    name = str(row.get("file_name") or row.get("url") or row["coco_url"])
    if "://" in name:
        raise ValueError(f"the picture {name} is an address: download it and say `file_name`")
    places = [
        path.parent / name,
        path.parent / "images" / name,
        path.parent.parent / "images" / name,
    ]
    return next((place for place in places if place.is_file()), places[0])


def _size(height: object, width: object) -> tuple[int, int] | None:
    if not height or not width:
        return None
    return int(str(height)), int(str(width))


def _voc(path: Path, pictures: dict[str, Path]) -> Annotated:
    try:
        root = ElementTree.parse(path).getroot()  # noqa: S314 - the user's own file; expat stops bombs
        name = Path(root.findtext("filename") or root.findtext("path") or "").name
        # A file name without its ending, or none at all: the picture is called as the annotation.
        places = [pictures.get(name)] + [
            picture for picture in pictures.values() if picture.stem == (name or path.stem)
        ]
        picture = next((place for place in places if place is not None), path.with_name(name))
        found = Annotated(picture, _size(root.findtext("size/height"), root.findtext("size/width")))
        for thing in root.iter("object"):
            sides = [float(thing.findtext(f"bndbox/{side}") or "") for side in SIDES]
            found.boxes.append((sides[0], sides[1], sides[2], sides[3]))
            found.labels.append((thing.findtext("name") or "").strip())
            found.crowd.append(0)
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise UsageError(f"{path}: not a Pascal VOC annotation: {error}") from error
    return found


SIDES = ("ymin", "xmin", "ymax", "xmax")
