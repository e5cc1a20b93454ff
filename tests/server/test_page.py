"""The pages at / and /docs, in a real browser. `PAGE_SCREENSHOTS=docs` draws the documentation's pictures anew."""

import io
import json
import os
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.server import pictures, task_models, tiny_models
from tests.server.browser import browsing

pytestmark = pytest.mark.browser
ROWS = "[...document.querySelectorAll('#bars li')].map((row) => row.querySelector('.words').innerText.split(/\\s*\\n\\s*/).join(' '))"
LONG = "a label that is much longer than a line of this page can hold " * 3
ERROR = "document.getElementById('error')"
FOCUSED = "(document.activeElement.id || document.activeElement.value)"
DESK, PHONE = (1100, 660), (390, 844)
ROOT = Path(__file__).parents[2]
SEVERAL = [sys.executable, str(Path(__file__).with_name("several.py"))]
ASKED = {
    "image": "#image-input",
    "text": "#text-input",
    "row": "#row-input",
    "tensors": "#tensor-input",
}


@pytest.fixture(scope="module")
def browser(chromium, tmp_path_factory):
    with browsing(chromium, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def page(browser):
    browser.complaints.clear()
    yield browser
    browser.close()


def one(make, **more):
    @pytest.fixture(scope="module")
    def server(tmp_path_factory):
        with tiny_models.serving(make(tmp_path_factory.mktemp("m"), **more)) as running:
            yield running

    return server


LABELS = ["red", "green <b>bold</b>", LONG]
colours = one(tiny_models.colours, labels=LABELS, task="image-classification")
fruit = one(task_models.fruit)
homes = one(task_models.homes)
words = one(tiny_models.words)


def open_page(page, server, asked, size=DESK, dark=False):
    page.open(server.url)
    page.look(*size, dark=dark)
    page.until(f"!document.querySelector('{ASKED[asked]}').hidden")


def keep(page, name):
    """A picture of what is there, times and all."""
    page.evaluate("new Promise((done) => setTimeout(done, 350))")  # bars have grown
    folder = os.environ.get("PAGE_SCREENSHOTS")
    if folder:
        page.evaluate("document.activeElement.blur()")
        page.screenshot(Path(folder) / f"{name}.png")


def picture(tmp_path, colour=(255, 102, 51)):
    path = tmp_path / "picture.png"
    Image.new("RGB", (60, 40), colour).save(path)
    return path


def times(page):
    return page.evaluate("[...document.querySelectorAll('#latency dt')].map((dt) => dt.innerText)")


def test_a_file_gets_labelled_bars(page, colours, tmp_path):
    open_page(page, colours, "image")
    assert page.evaluate("document.title") == "colours"
    page.choose_file("#file", picture(tmp_path))
    page.until("document.querySelectorAll('#bars li').length === 3")
    rows = page.evaluate(ROWS)
    assert rows[:2] == ["red 100.0 %", "green <b>bold</b> 40.0 %"] and rows[2].endswith("20.0 %")
    assert times(page) == ["Round trip", "Server", "Prepare", "Model"]
    widths = page.evaluate("[...document.querySelectorAll('.fill')].map((x) => x.style.width)")
    assert widths == ["100%", "40%", "20%"]
    command = page.evaluate("document.getElementById('command').textContent")
    assert command.startswith("curl -F image=@'picture.png' 'http://127.0.0.1:")
    assert page.complaints == []


def test_a_bad_file_is_told_and_forgotten_after_a_good_one(page, colours, tmp_path):
    open_page(page, colours, "image")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    page.choose_file("#file", bad)
    assert "not a PNG" in page.until(f"!{ERROR}.hidden && {ERROR}.innerText")
    page.choose_file("#file", picture(tmp_path))
    page.until(f"{ERROR}.hidden && document.querySelectorAll('#bars li').length === 3")


def test_an_image_can_be_dropped(page, colours):
    open_page(page, colours, "image")
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
    open_page(page, colours, "image")
    for expected in ("sample", "choose", "camera"):
        page.press("Tab")
        assert page.evaluate(FOCUSED) == expected
    page.press(" ")
    page.until(f"{FOCUSED} === 'shoot' && document.getElementById('video').videoWidth > 0")
    page.press("Enter")
    page.until("document.querySelectorAll('#bars li').length === 3")
    assert page.evaluate(FOCUSED) == "camera"
    assert page.evaluate("document.getElementById('video').hidden")


def test_a_picture_of_the_page(page, fruit, tmp_path):
    path = tmp_path / "apple.png"
    pictures.apple().save(path)
    open_page(page, fruit, "image")
    page.choose_file("#file", path)
    assert page.until(f"{ROWS}[0]").startswith("apple")
    keep(page, "page-image")


@pytest.mark.skipif("PAGE_SCREENSHOTS" not in os.environ, reason="only draws the README's picture")
def test_a_picture_of_what_make_demo_made(page):
    with tiny_models.started([*SEVERAL, str(ROOT / "dist" / "fashion-mnist")]) as server:
        open_page(page, server, "image", (1000, 620))
        shirt = ROOT / "examples" / "fashion-mnist" / "samples" / "Coat" / "0006.png"
        page.choose_file("#file", shirt)
        assert page.until(f"{ROWS}[0]").startswith("Coat")
        keep(page, "page")


def test_texts_in_the_dark_on_a_phone(page, words):
    open_page(page, words, "text", PHONE, dark=True)
    page.press("Tab")
    page.press("Tab")
    page.call("Input.insertText", text="Good & bad? 'good'")
    page.press("Tab")
    page.press("Enter")
    page.until("document.querySelectorAll('#bars li').length === 4")
    assert page.evaluate(ROWS)[0] == "good 2.000"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 21, 28)"
    assert "'\\''good'\\''" in page.evaluate("document.getElementById('command').textContent")
    keep(page, "page-phone")
    assert page.complaints == []


def test_a_table_has_a_field_for_each_column(page, homes):
    open_page(page, homes, "row", (1100, 540), dark=True)
    labels = "[...document.querySelectorAll('#columns label')].map((l) => l.innerText)"
    assert page.evaluate(labels) == ["area float32", "rooms int64", "built int64", "garden", "city"]
    page.press("Tab")
    for value in ("84.5", "3.5", "1998"):  # half a room
        page.press("Tab")
        page.call("Input.insertText", text=value)
    page.press("Tab")
    page.press(" ")
    page.press("Tab")
    page.call("Input.insertText", text="Łódź")
    page.press("Enter")
    told = "document.querySelector('.mistake')?.innerText"
    assert page.until(told) == "A whole number is needed."
    assert page.evaluate(FOCUSED) == "column-rooms"
    assert page.evaluate("document.activeElement.getAttribute('aria-describedby')") == (
        "column-rooms-mistake"
    )
    page.evaluate("document.activeElement.select()")
    page.call("Input.insertText", text="4")
    page.press("Enter")
    values = "[...document.querySelectorAll('#outputs .value')].map((v) => v.innerText)"
    page.until("document.querySelectorAll('#outputs .value').length === 2")
    assert page.evaluate(values) == ["466950", "Łódź"]
    assert page.evaluate(told) is None
    keep(page, "page-table")
    assert page.complaints == []


def test_tensors_have_a_template_that_is_answered(page, homes):
    open_page(page, homes, "row")
    page.press("Tab")
    page.press("ArrowRight")
    page.until("!document.querySelector('#tensor-input').hidden")
    page.press("Tab")
    assert page.evaluate(FOCUSED) == "tensors"
    assert json.loads(page.evaluate("document.getElementById('tensors').value"))["inputs"][0] == {
        "name": "area",
        "shape": [1, 1],
        "datatype": "FP32",
        "data": [[0]],
    }
    page.evaluate("document.getElementById('tensor-input').requestSubmit()")
    page.until("document.querySelectorAll('#outputs section').length === 2")
    assert page.evaluate("document.querySelector('#outputs h2').innerText") == "price FP32 [1, 1]"
    assert times(page) == ["Round trip"]
    page.evaluate("document.getElementById('tensors').value = '{'")
    page.evaluate("document.getElementById('tensor-input').requestSubmit()")
    assert page.evaluate("document.querySelector('.mistake').innerText").startswith(
        "This is not JSON"
    )
    page.evaluate("document.getElementById('reset').click()")
    assert len(page.evaluate("document.getElementById('tensors').value")) > 100


def test_found_objects_are_framed(page, tmp_path):
    path = tmp_path / "apple.png"
    pictures.apple().save(path)
    with tiny_models.serving(task_models.detector(tmp_path)) as server:
        open_page(page, server, "image")
        page.choose_file("#file", path)
        page.until("document.querySelectorAll('#boxes div').length === 2")
        style = "document.querySelector('#boxes div').style"
        assert page.evaluate(f"[{style}.left, {style}.top, {style}.width, {style}.height]") == [
            "50%",
            "50%",
            "50%",
            "50%",
        ]
        assert page.evaluate(ROWS) == ["dog 90.0 %", "cat 60.0 %"]
        assert page.complaints == []


def test_a_model_without_preprocessing_takes_tensors(page, tmp_path):
    folder = tiny_models.colours(tmp_path, preprocessing={}, task="image-classification")
    with tiny_models.serving(folder) as server:
        open_page(page, server, "tensors")
        assert "does not say" in page.evaluate("document.getElementById('nothing').innerText")
        assert page.evaluate("document.getElementById('modes').hidden")
        page.evaluate("document.getElementById('tensor-input').requestSubmit()")
        page.until("document.querySelectorAll('#outputs section').length === 1")


CHOOSE = """(text) => {
  const list = document.getElementById("model");
  list.selectedIndex = [...list.options].findIndex((option) => option.innerText === text);
  list.dispatchEvent(new Event("change"));
}"""


def test_models_and_versions_can_be_chosen(page, tmp_path, monkeypatch):
    monkeypatch.setenv("PIPCOOK_DEPLOY_ADMIN_TOKEN", "t" * 40)
    folders = [
        task_models.fruit(tmp_path / "a"),
        task_models.fruit(tmp_path / "b", version="2"),
        tiny_models.words(tmp_path),
    ]
    path = tmp_path / "apple.png"
    pictures.apple().save(path)
    answered = "document.getElementById('answered').innerText"
    with tiny_models.started([*SEVERAL, *map(str, folders)]) as server:
        load_also(server, "fruit", "1")
        page.open(server.url)
        page.until("document.querySelectorAll('option').length === 4")
        options = page.evaluate("[...document.querySelectorAll('option')].map((o) => o.innerText)")
        assert sorted(options) == [
            "fruit, current",
            "fruit, version 1",
            "fruit, version 2",
            "words",
        ]
        for chosen, version in (("fruit, current", 2), ("fruit, version 1", 1)):
            page.evaluate(f"({CHOOSE})('{chosen}')")
            page.choose_file("#file", path)
            assert page.until(answered) == f"Answered by fruit, version {version}"
        page.evaluate(f"({CHOOSE})('words')")
        page.until("!document.getElementById('text-input').hidden && document.title === 'words'")
        assert page.evaluate("document.querySelectorAll('#bars li').length") == 0


def load_also(server, name, version):
    """Beside the newest, which serves."""
    answer = httpx.post(
        f"{server.url}/admin/models/{name}/load",
        json={"version": version},
        headers={"authorization": "Bearer " + "t" * 40},
    )
    assert answer.status_code == 200, answer.text


def test_a_key_is_asked_for_and_kept(page, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("k" * 40 + "\n")
    with tiny_models.serving(tiny_models.words(tmp_path), "--api-key-file", str(keys)) as server:
        page.open(server.url)
        form = "document.getElementById('key-form')"
        page.until(f"!{form}.hidden")
        assert page.evaluate(f"{ERROR}.hidden && {FOCUSED} === 'key'")
        for key, then in (
            ("wrong key that is long enough", f"/wrong/.test({ERROR}.innerText)"),
            ("k" * 40, "!document.getElementById('text-input').hidden"),
        ):
            page.evaluate(f"document.getElementById('key').value = '{key}'; {form}.requestSubmit()")
            page.until(then)
        assert page.evaluate(f"{form}.hidden")
        page.evaluate(
            "document.getElementById('text').value = 'good'; document.getElementById('text-input').requestSubmit()"
        )
        page.until("document.querySelectorAll('#bars li').length === 4")
        command = page.evaluate("document.getElementById('command').textContent")
        assert command.startswith('curl -H "x-api-key: $KEY" ') and "k" * 40 not in command


def test_a_server_that_is_gone_is_told(page, tmp_path):
    with tiny_models.serving(tiny_models.words(tmp_path)) as server:
        open_page(page, server, "text")
        server.process.terminate()
        server.process.wait(10)
        page.evaluate("document.getElementById('text-input').requestSubmit()")
        assert "does not answer" in page.until(f"!{ERROR}.hidden && {ERROR}.innerText")


# Text whose letters stand out from what is behind them by less than WCAG AA asks for.
FAINT = """(() => {
  const part = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const rgba = (css) => css.match(/[\\d.]+/g).map(Number);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.checkVisibility() || e.closest("noscript, option")) continue;
    const [a, b] = [light(rgba(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push([walker.currentNode.data.trim(), ratio]);
  }
  return found;
})()"""
NAMELESS = """[...document.querySelectorAll("input, textarea, select, button")]
  .filter((e) => e.checkVisibility() && !e.labels?.length && !e.ariaLabel && !e.innerText.trim())
  .map((e) => e.id)"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everyone_can_read_it_on_any_screen(page, homes, fruit, tmp_path, dark):
    open_page(page, fruit, "image", PHONE, dark)
    path = tmp_path / "apple.png"
    pictures.apple().save(path)
    page.choose_file("#file", path)
    page.until("document.querySelectorAll('#bars li').length === 5")
    page.evaluate("document.getElementById('terminal').open = true")
    views = [FAINT, NAMELESS, "document.documentElement.scrollWidth - innerWidth"]
    assert [page.evaluate(view) for view in views] == [[], [], 0]
    open_page(page, homes, "row", PHONE, dark)
    page.evaluate("document.getElementById('row-input').requestSubmit()")
    page.until("!!document.querySelector('.mistake')")
    assert [page.evaluate(view) for view in views] == [[], [], 0]
    page.open(homes.url + "/docs")
    page.look(*PHONE, dark=dark)
    page.until("document.querySelectorAll('.operation').length > 20")
    page.evaluate("document.querySelectorAll('.operation').forEach((each) => (each.open = true))")
    page.until("document.querySelectorAll('.try').length > 20")
    assert [page.evaluate(view) for view in views] == [[], [], 0]
    assert page.complaints == []


def test_the_api_page_shows_and_tries_every_route(page, fruit):
    page.open(fruit.url + "/docs")
    page.look(1000, 900)
    page.until("document.querySelectorAll('.operation').length > 20")
    keep(page, "api")
    routes = page.evaluate(
        "fetch('openapi.json').then((answer) => answer.json()).then(({ paths }) => Object.values(paths).flatMap(Object.keys).length)"
    )
    assert page.evaluate("document.querySelectorAll('.operation').length") == routes
    answer = "document.querySelector('#{0} .try pre')?.innerText"
    for name in ("post_models_name_predict", "get_v2_models_name", "post_v2_models_name_infer"):
        page.evaluate(f"document.getElementById('{name}').open = true")
        page.until(f"!!document.querySelector('#{name} .try')")
        page.evaluate(f"document.querySelector('#{name} .try').requestSubmit()")
        assert '"' in page.until(answer.format(name))
    page.evaluate("document.querySelector('#post_models_name_predict input').value = 'nothing'")
    page.evaluate("document.querySelector('#post_models_name_predict .try').requestSubmit()")
    told = "document.querySelector('#post_models_name_predict .try .error')?.innerText"
    assert "no model 'nothing'" in page.until(told)
    assert all("404" in complaint["entry"]["text"] for complaint in page.complaints)
