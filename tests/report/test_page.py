"""The page in a real browser. `PAGE_SCREENSHOTS=folder` keeps what it looked like."""

import os
from pathlib import Path

import pytest

from pipcook_deploy.report.write import write_report
from tests.report.made import made_report
from tests.server.browser import browsing

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(made_report(), folder)
    with browsing(chromium, folder / "profile") as tab:
        tab.open((folder / "report.html").as_uri())
        yield tab


def shape(page, width, *, dark=False, media="screen"):
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
    page.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
    )  # fmt: skip
    if keep := os.environ.get("PAGE_SCREENSHOTS"):
        page.screenshot(Path(keep) / f"report-{width}-{'dark' if dark else 'light'}-{media}.png")


def test_it_renders_without_a_complaint(page):
    shape(page, 1280)
    assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    drawn = "[...document.querySelectorAll('svg')].map((s) => s.getBoundingClientRect().height)"
    assert all(height > 40 for height in page.evaluate(drawn))
    assert page.complaints == []


@pytest.mark.parametrize("width", [390, 1280])
def test_only_tables_scroll_sideways(page, width):
    shape(page, width)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


RATIO = """((selector) => {
  const light = (colours) => {
    const paint = document.createElement('canvas').getContext('2d');
    for (const colour of colours) { paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const colours = [];
    for (let at = node; at; at = at.parentElement) colours.unshift(getComputedStyle(at).backgroundColor);
    return colours;
  };
  return Math.min(...[...document.querySelectorAll(selector)].map((node) => {
    const style = getComputedStyle(node);
    const back = behind(node);
    const pair = [light([...back, node instanceof SVGElement ? style.fill : style.color]), light(back)];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  }));
})"""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(
    "selector",
    ["h2", ".soft", "caption", "td small", ".good", ".bad", "nav a", "svg text", ".heat"],
)
def test_text_stands_out_by_day_and_by_night(page, dark, selector):
    shape(page, 1280, dark=dark)
    assert page.evaluate(f"{RATIO}({selector!r})") >= 4.5  # WCAG AA


def test_paper_is_black_on_white_whatever_the_screen(page):
    shape(page, 800, dark=True, media="print")
    style = (
        "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
    )
    assert page.evaluate(style) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    wide = "[...document.querySelectorAll('.scroll')].filter((n) => n.scrollWidth > n.clientWidth + 1).length"
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=703,
        height=1000,
        deviceScaleFactor=1,
        mobile=False,
    )
    assert page.evaluate(wide) == 0  # 186 mm: A4 between its margins
    assert page.call("Page.printToPDF")["data"]
