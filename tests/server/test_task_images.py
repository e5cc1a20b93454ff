"""Odd images: each has its answer, the same that the declared preprocessing gives in Python, or a reason."""

import io
import struct
import zlib
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest
from PIL import Image
from pydantic import TypeAdapter

from pipcook_deploy.preprocess.execute import prepare_batch
from pipcook_deploy.preprocess.operations import Operation
from tests.server import tiny_models

NOISE = np.random.default_rng(7).integers(0, 256, (40, 24, 3), np.uint8)
PICTURE = Image.fromarray(NOISE)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def made_png(width, height, colour, depth, lines):
    """A PNG by its parts: `lines` is what stands in the compressed stream."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(PICTURE, "JPEG", exif=exif, quality=95)


def animated():
    frames = [Image.new("RGB", (12, 8), colour) for colour in ((250, 0, 0), (0, 0, 250))]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)


def palette(transparent):
    image = PICTURE.convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    return saved(
        image, "PNG", **({"transparency": bytes(range(0, 256, 16))} if transparent else {})
    )


def sixteen_bits(colour):
    channels = {0: 1, 2: 3}[colour]
    wide = np.random.default_rng(1).integers(0, 65536, (6, 5, channels), np.uint16)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    return made_png(5, 6, colour, 16, lines)


GOOD = {
    "rgb png": saved(PICTURE, "PNG"),
    "jpeg": saved(PICTURE, "JPEG"),
    **{f"exif {n}": turned(n) for n in range(1, 10)},
    "cmyk jpeg": saved(PICTURE.convert("CMYK"), "JPEG"),
    "grey jpeg": saved(PICTURE.convert("L"), "JPEG"),
    "progressive jpeg": saved(PICTURE, "JPEG", progressive=True),
    "16-bit grey png": sixteen_bits(0),
    "16-bit rgb png": sixteen_bits(2),
    "palette png": palette(transparent=False),
    "palette png with transparency": palette(transparent=True),
    "rgba png": saved(Image.fromarray(np.dstack([NOISE, NOISE[..., 0]])), "PNG"),
    "grey png with alpha": saved(PICTURE.convert("LA"), "PNG"),
    "1-bit png": saved(PICTURE.convert("1"), "PNG"),
    "animated gif": animated(),
    "webp": saved(PICTURE, "WEBP", lossless=True),
    "animated webp": saved(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(90)]),
    "bmp": saved(PICTURE, "BMP"),
    "png with too few rows": made_png(100, 100, 2, 8, (b"\0" + b"\xc8" * 300) * 50),
    "1x1": saved(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"),
    "20,000 wide": saved(Image.new("RGB", (20_000, 3), (1, 200, 3)), "PNG"),
    "20,000 high": saved(Image.new("RGB", (2, 20_000), (1, 200, 3)), "JPEG"),
}
JPEG = GOOD["jpeg"]
BAD = {
    "nothing": (b"", "not a PNG"),
    "html": (b"<!doctype html><title>404</title>" * 50, "not a PNG"),
    "text": (b"a,b\n1,2\n", "not a PNG"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not a PNG"),
    "tiff": (saved(PICTURE, "TIFF"), "not a PNG"),
    "truncated jpeg": (JPEG[: len(JPEG) // 2], "damaged or truncated"),
    "truncated webp": (GOOD["webp"][:200], "damaged or truncated"),
    "truncated gif": (saved(PICTURE, "GIF")[:-200], "damaged or truncated"),
    "head of a jpeg": (JPEG[:10], "not a PNG|damaged"),
    "head of a png": (GOOD["rgb png"][:30], "not a PNG|damaged"),
    "damaged png": (GOOD["rgb png"].replace(b"IDAT", b"IDAT\x00", 1), "damaged or truncated"),
    "bomb of zeros": (made_png(20_000, 20_000, 2, 8, bytes(60_001 * 20_000 // 400)), "pixels"),
    "bomb of one bit": (made_png(20_000, 20_000, 0, 1, b"\0" * 2501 * 100), "pixels"),
    "head of 2 billion": (made_png(2**31 - 1, 2**31 - 1, 2, 8, b"\0"), "pixels|damaged|not a PNG"),
    "gif of 65535 x 65535": (
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
        "pixels",
    ),
    "no size": (made_png(0, 0, 2, 8, b""), "not a PNG|damaged"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.colours(tmp_path_factory.mktemp("m"))


@pytest.fixture(scope="module")
def server(folder):
    with tiny_models.serving(folder) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url, timeout=10) as found:
        yield found


def post(client, image):
    return client.post("/predict?top=3", content=image, headers={"content-type": "image/*"})


@pytest.mark.parametrize("name", GOOD)
def test_the_answer_is_that_of_the_declared_preprocessing(client, folder, name):
    operations = TypeAdapter(tuple[Operation, ...]).validate_python(tiny_models.IMAGE)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    expected = session.run(None, {"in:image": prepare_batch(operations, [GOOD[name]])})[0][0]
    answer = post(client, GOOD[name])
    assert answer.status_code == 200, answer.text
    scores = {score["id"]: score["score"] for score in answer.json()["data"][0]["top"]}
    assert [scores[i] for i in range(3)] == expected.tolist()


@pytest.mark.parametrize("name", BAD)
def test_the_reason_is_told(client, server, name):
    image, reason = BAD[name]
    before = most_memory(server)
    answer = post(client, image)
    assert answer.status_code == 400, answer.text
    said = answer.json()["message"]
    assert any(part in said for part in reason.split("|")), said
    assert most_memory(server) - before < 30_000  # kB: the head is read, the pixels are not


def most_memory(server):
    """kB that the process has ever had in memory."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_turned_pictures_are_upright(client):
    """What the camera turned (6: a quarter) and the picture turned back are the same."""
    colours = Image.fromarray(
        np.repeat(np.repeat([[[255, 0, 0], [0, 0, 255]]], 16, 0), 16, 1).astype("u1")
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = post(client, saved(colours.rotate(-90, expand=True), "PNG")).json()
    assert post(client, saved(colours, "PNG", exif=exif)).json() == upright


def test_one_bad_image_among_good_ones_is_told(client):
    files = [("image", GOOD["jpeg"]), ("image", b"<html>")]
    answer = client.post("/predict", files=files)
    assert answer.status_code == 400 and "not a PNG" in answer.json()["message"]


def test_images_past_the_deadline_are_not_decoded(client):
    """Each takes a while; the request's time is looked at before each."""
    large = saved(Image.new("RGB", (1200, 1000)), "PNG")
    files = [("image", large)] * 20
    answer = client.post("/predict", files=files, headers={"x-request-timeout": "0.02"})
    assert answer.status_code == 503 and "deadline" in answer.json()["message"]
    assert post(client, GOOD["1x1"]).status_code == 200
