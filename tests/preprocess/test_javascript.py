"""The definition is exact: another implementation, in JavaScript, gives the same bits."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

import pipcook_deploy.preprocess
from pipcook_deploy.preprocess.execute import prepare
from pipcook_deploy.preprocess.operations import Operation

pytestmark = pytest.mark.node
HERE = Path(__file__).parent
MODULE = Path(pipcook_deploy.preprocess.__file__).parent / "preprocess.mjs"
OPERATIONS = TypeAdapter(tuple[Operation, ...])
LETTERS = list("aAbBzZ09_ ,.!\t\néΣςİß中文🙂٣\u3000\u00a0\u0301")


def resize(random):
    method = random.choice(["nearest", "bilinear", "bicubic", "area_bilinear"])
    operation = {"op": "resize", "method": str(method), "round": bool(random.integers(2))}
    operation |= {"height": int(random.integers(1, 20)), "width": int(random.integers(1, 20))}
    if method != "area_bilinear":
        operation["fit"] = str(random.choice(["stretch", "cover"]))
        if method != "nearest" and random.integers(2):
            operation["antialias"] = True
        else:
            operation["corners"] = str(random.choice(["half_pixel", "align_corners", "asymmetric"]))
    return operation


def numbers(random):
    """An operation on numbers."""
    std = [float(x) for x in random.uniform(0.01, 90, 3)]
    return [
        {"op": "scale", "factor": float(random.normal()), "offset": float(random.normal())},
        {"op": "normalize", "mean": [float(x) for x in random.normal(size=3) * 99], "std": std},
        {"op": "normalize", "mean": [0.1], "std": [std[0]]},
        {"op": "normalize_per_image", "per_channel": bool(random.integers(2))},
        {"op": "normalize_per_image", "rounded": True},
    ][random.integers(5)]


def image_case(random):
    height, width = (int(x) for x in random.integers(1, 24, 2))
    channels = int(random.choice([1, 3, 4]))
    pixels = random.integers(0, 256, height * width * channels)
    decode = {"op": "decode", "alpha": str(random.choice(["drop", "white", "black"]))}
    operations = [decode, resize(random), numbers(random)]
    if random.integers(2):
        operations.insert(1, {"op": "color", "to": str(random.choice(["rgb", "bgr"]))})
    if random.integers(3) == 0:
        operations.append(
            {"op": "cast", "dtype": str(random.choice(["uint8", "int8", "int32", "int64"]))}
        )
    operations.append({"op": "layout", "to": str(random.choice(["hwc", "chw", "flat"]))})
    value = {"width": width, "height": height, "channels": channels, "data": pixels.tolist()}
    return {"operations": operations, "value": value}


def grey_case(random):
    case = image_case(random)
    case["operations"] = [
        {"op": "decode", "channels": "grey", "alpha": "white"},
        resize(random),
        {"op": "normalize_per_image"},
    ]
    return case


def text_case(random):
    words = ["".join(random.choice(LETTERS, random.integers(1, 4))) for _ in range(9)]
    tokenize = {
        "op": "tokenize",
        "vocabulary": [word.lower() for word in words[:5]],
        "split": str(random.choice(["word", "whitespace", "char"])),
        "lower": bool(random.integers(2)),
        "unknown_id": None if random.integers(3) == 0 else 1,
    }
    side, cut = (str(x) for x in random.choice(["start", "end"], 2))
    pad = {"op": "pad", "length": int(random.integers(1, 12)), "side": side, "cut": cut}
    return {"operations": [tokenize, pad], "value": " ".join(random.permutation(words))}


def python_result(case):
    value = case["value"]
    if isinstance(value, dict):
        shape = (value["height"], value["width"], value["channels"])
        value = np.asarray(value["data"], np.uint8).reshape(shape)
    return prepare(OPERATIONS.validate_python(case["operations"]), value)


@pytest.mark.parametrize(("kind", "count"), [(image_case, 400), (grey_case, 60), (text_case, 150)])
def test_the_same_bits(kind, count):
    node = shutil.which("node")
    assert node, "this test needs Node"
    cases = [kind(np.random.default_rng([7, seed])) for seed in range(count)]
    done = subprocess.run(
        [node, str(HERE / "compare.mjs"), str(MODULE)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == count
    for case, line in zip(cases, lines, strict=True):
        ours = python_result(case)
        expected = f"{json.dumps(ours.shape).replace(' ', '')} {ours.dtype} {ours.tobytes().hex()}"
        assert line == expected, case["operations"]
