"""The page at /, in a real browser. `PAGE_SCREENSHOTS=folder` keeps what it looked like."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.server import tiny_models
from tests.server.browser import browsing

pytestmark = pytest.mark.browser
ROWS = (
    "[...document.querySelectorAll('#bars li')].map((row) => row.innerText.split('\\n').join(' '))"
)
LONG = "a label that is much longer than a line of this page can hold " * 3


@pytest.fixture
def page(chromium, tmp_path):
    with browsing(chromium, tmp_path / "profile") as tab:
        yield tab


@pytest.fixture
def colours(tmp_path):
    labels = ["red", "green <b>bold</b>", LONG]
    folder = tiny_models.colours(tmp_path, labels=labels, task="image-classification")
    with tiny_models.serving(folder) as server:
        yield server


def keep(page, name):
    folder = os.environ.get("PAGE_SCREENSHOTS")
    if folder:
        page.screenshot(Path(folder) / f"{name}.png")


def picture(tmp_path, colour=(255, 102, 51)):
    path = tmp_path / "picture.png"
    Image.new("RGB", (60, 40), colour).save(path)
    return path


def test_a_file_gets_labelled_bars(page, colours, tmp_path):
    page.open(colours.url)
    page.until("document.title === 'colours' && !document.getElementById('image-input').hidden")
    page.choose_file("#file", picture(tmp_path))
    page.until("document.querySelectorAll('#bars li').length === 3")
    rows = page.evaluate(ROWS)
    assert rows[:2] == ["red 100.0 %", "green <b>bold</b> 40.0 %"] and rows[2].endswith("20.0 %")
    assert " ms" in page.evaluate("document.getElementById('latency').innerText")
    widths = page.evaluate("[...document.querySelectorAll('.fill')].map((x) => x.style.width)")
    assert widths == ["100%", "40%", "20%"]
    page.evaluate("new Promise((done) => setTimeout(done, 400))")
    keep(page, "image")
    assert page.complaints == []


def test_a_bad_file_is_told_and_forgotten_after_a_good_one(page, colours, tmp_path):
    page.open(colours.url)
    page.until("!document.getElementById('image-input').hidden")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    page.choose_file("#file", bad)
    error = "document.getElementById('error')"
    assert "not a PNG" in page.until(f"!{error}.hidden && {error}.innerText")
    keep(page, "error")
    page.choose_file("#file", picture(tmp_path))
    page.until(f"{error}.hidden && document.querySelectorAll('#bars li').length === 3")


def test_an_image_can_be_dropped(page, colours, tmp_path):
    page.open(colours.url)
    page.until("!document.getElementById('image-input').hidden")
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), (0, 255, 0)).save(buffer, "PNG")
    page.evaluate(
        f"""(() => {{
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array({list(buffer.getvalue())})], "x.png"));
        document.getElementById("drop").dispatchEvent(
          new DragEvent("drop", {{ dataTransfer: transfer, bubbles: true, cancelable: true }}));
        }})()"""
    )
    page.until(f"{ROWS}[0]?.startsWith('green')")


def test_the_camera_is_used_by_keyboard_alone(page, colours):
    page.open(colours.url)
    page.until("!document.getElementById('image-input').hidden")
    focused = "document.activeElement.id"
    page.press("Tab")
    assert page.evaluate(focused) == "choose"
    page.press("Tab")
    assert page.evaluate(focused) == "camera"
    page.press(" ")
    page.until(f"{focused} === 'shoot' && document.getElementById('video').videoWidth > 0")
    page.press("Enter")
    page.until("document.querySelectorAll('#bars li').length === 3")
    assert page.evaluate(focused) == "camera"
    assert page.evaluate("document.getElementById('video').hidden")


def test_texts_in_the_dark(page, tmp_path):
    with tiny_models.serving(tiny_models.words(tmp_path)) as server:
        page.open(server.url)
        scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
        page.call("Emulation.setEmulatedMedia", features=scheme)
        page.until("!document.getElementById('text-input').hidden")
        page.press("Tab")
        page.call("Input.insertText", text="Good & bad? good")
        page.press("Tab")
        page.press("Enter")
        page.until("document.querySelectorAll('#bars li').length === 4")
        assert page.evaluate(ROWS)[0] == "good 2.000"
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert back == "rgb(18, 22, 29)"
        keep(page, "text-dark")
        assert page.complaints == []


def test_a_model_without_preprocessing_says_what_is_missing(page, tmp_path):
    folder = tiny_models.colours(tmp_path, preprocessing={}, task="image-classification")
    with tiny_models.serving(folder) as server:
        page.open(server.url)
        notice = "document.getElementById('nothing')"
        assert "/infer" in page.until(f"!{notice}.hidden && {notice}.innerText")


def test_a_server_that_is_gone_is_told(page, colours, tmp_path):
    page.open(colours.url)
    page.until("!document.getElementById('image-input').hidden")
    colours.process.terminate()
    colours.process.wait(10)
    page.choose_file("#file", picture(tmp_path))
    error = "document.getElementById('error')"
    assert "does not answer" in page.until(f"!{error}.hidden && {error}.innerText")
