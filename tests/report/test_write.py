"""The files of a report, and what the page says."""

import builtins
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from pipcook_deploy.cli.compression import print_compression
from pipcook_deploy.errors import BundleError, MissingDependencyError, OutputError
from pipcook_deploy.report.entries import IntervalEntry, Report
from pipcook_deploy.report.outcome import outcomes, sentence
from pipcook_deploy.report.write import load, page, render, write_report
from tests.report.made import interval, made_report

NASTY = 'a "b"; <script>alert(1)</script> \'&amp;$x^2$ \x1b[31m\u202e名'
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Outline(HTMLParser):
    """Checks that tags close in order, and keeps what a test asks for."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.tags, self.ids, self.headings = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for key, value in attributes if key == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for key, value in attributes if key == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and re.fullmatch("h[1-6]", self.open[-1]):
            self.headings.append((self.open[-1], data))

    def said(self):
        return " ".join(" ".join(self.text).split()).replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture(scope="module")
def report():
    return made_report()


@pytest.fixture(scope="module")
def html(report):
    return page(report)


@pytest.fixture(scope="module")
def outline(html):
    return Outline(html)


def small(**changes):
    """A report with nothing that is slow to draw."""
    return made_report(pictures=1, layers=2).model_copy(update=changes)


def test_both_files_are_written_and_the_page_can_be_made_again(tmp_path):
    report = small()
    write_report(report, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    assert load(tmp_path / "report.json") == report
    render(tmp_path / "report.json", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "report.html").read_bytes()


def test_a_page_of_this_size_stays_below_a_megabyte(html):
    assert len(html.encode()) < 1_000_000


def test_another_process_gives_the_same_bytes(tmp_path):
    write_report(small(), tmp_path)
    code = (
        "import sys; from pathlib import Path; from pipcook_deploy.report.write import render\n"
        "render(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    again = tmp_path / "again.html"
    environment = os.environ | {"PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1"}
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "report.json", again], check=True, env=environment
    )
    assert again.read_bytes() == (tmp_path / "report.html").read_bytes()


def test_the_verdict_is_one_sentence_for_each_format(report, outline):
    said = [sentence(outcome, report) for outcome in outcomes(report)]
    assert said[0] == (
        "TF.js: 313 kB → 29.2 kB on the wire (10.7x), accuracy 92.1 % → 91.9 % (−0.2 points, 95 % interval "
        "−0.5 to +0.1, on 5,000 images that the search never saw): kept"
    )
    assert said[1].startswith("ONNX: ")
    assert said[1].endswith("): refused, the budget is a loss of 0.5 points")
    assert "never saw" not in said[1]  # nothing went before the verdict
    assert all(one in outline.said() for one in said)
    assert report.why["onnx"] in outline.said()


def test_of_an_error_the_change_goes_the_other_way():
    drop = IntervalEntry(value=0.1, low=0.05, high=0.2)
    kept = (
        small()
        .candidates[-4]
        .model_copy(update={"score": interval(1.3, 0.1), "drop": drop, "proof": None})
    )
    changed = small(metric="mae", unit="px", higher_is_better=False, max_drop=0.2, candidates=(kept,),
                    winners={kept.format: kept.id}, why={})  # fmt: skip
    assert "mean absolute error 1.2 px → 1.3 px (+0.1 px, 95 % interval +0.05 to +0.2" in sentence(
        outcomes(changed)[0], changed
    )
    assert Outline(page(changed))


def test_a_step_on_the_way_is_a_candidate_and_no_outcome():
    report = small()
    step = report.candidates[0].model_copy(
        update={"id": "model-1", "format": "keras", "wire_size": None, "latency_ms": None}
    )
    more = report.model_copy(update={"candidates": (*report.candidates, step)})
    assert [o.format for o in outcomes(more)] == [o.format for o in outcomes(report)]
    html = page(more)
    assert "model-1" in Outline(html).said()
    assert ">Keras</text>" not in html  # no empty entry in a legend


def test_without_a_budget_nothing_is_refused_nor_drawn_as_outside(capsys):
    free = small(goal="none", max_drop=0.0)
    html = page(free)
    said = Outline(html).said()
    assert "No budget · 32 candidates" in said
    assert "budget: 0" not in said and "far worse" not in said
    assert "refused, the budget" not in said
    print_compression(free)
    assert "lost at most" not in capsys.readouterr().out


def test_every_section_is_there_with_its_numbers(report, outline):
    assert [text for tag, text in outline.headings if tag in ("h1", "h2")] == [
        "Compression of fashion-mnist 1.2.0", "Before and after", "What accuracy costs", "Class by class",
        "Answers that changed", "Speed", "Layer by layer", "What was tried", "Data",
    ]  # fmt: skip
    said = outline.said()
    for candidate in report.candidates:
        assert f"{candidate.id}:" in said or candidate.id in said
    for split in report.splits:
        assert split.sha256 in said
    for text in (*report.bad_samples, *report.notes, "41 right answers were lost", "unstable"):
        assert text in said
    images = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert len(images) == 24
    assert all(image["alt"] and image["src"].startswith("data:image/png") for image in images)


def test_the_page_is_accessible_and_loads_nothing(html, outline):
    tags = [tag for tag, _ in outline.tags]
    assert tags.count("table") == tags.count("caption") > 5
    charts = [attributes for tag, attributes in outline.tags if attributes.get("role") == "img"]
    assert tags.count("svg") == len(charts) == 44  # four, and a histogram of each layer
    assert all(chart["aria-label"] for chart in charts)
    assert len(set(outline.ids)) == len(outline.ids)
    assert all(a["scope"] for tag, a in outline.tags if tag == "th")
    assert "script" not in tags
    loaded = [
        v for _, a in outline.tags for k, v in a.items() if k in ("src", "href", "xlink:href")
    ]
    assert {value.partition(":")[0] for value in loaded if not value.startswith("#")} == {"data"}
    assert not re.search(r"url\((?!#)|@import", html)
    referred = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', html))
    assert referred <= set(outline.ids)


def nasty(value):
    """The report with every text of the user's replaced."""
    if isinstance(value, dict):
        return {key: part if key in FIXED_KEYS else nasty(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [nasty(part) for part in value]
    return NASTY if isinstance(value, str) else value


FIXED_KEYS = {
    "id",
    "winners",
    "format",
    "unit",
    "sha256",
    "picture",
    "verdict",
    "artifact",
    "metric",
}


def test_texts_of_the_user_are_no_markup():
    report = Report.model_validate(nasty(small().model_dump()))
    html = page(report)
    outline = Outline(html)
    assert "script" not in [tag for tag, _ in outline.tags]
    assert not any(key.startswith("on") for _, attributes in outline.tags for key in attributes)
    assert "<script>alert" not in html
    assert "\x1b" not in html and "\u202e" not in html
    assert outline.said().count("<script>alert(1)</script>") > 20
    axis = [text for text in outline.text if text.startswith('a "b"; <script>alert(1')]
    assert any(text.endswith("…") for text in axis)  # a label of a chart, cut and not taken for TeX


def test_a_report_of_next_to_nothing_has_a_page():
    bare = small(
        candidates=(), winners={}, why={"onnx": "nothing converts"}, classes=(), layers=(), flips=(),
        flip_counts={}, bench=(), notes=(), bad_samples=(),
    )  # fmt: skip
    outline = Outline(page(bare))
    assert "ONNX: refused, nothing could be made and measured" in outline.said()
    assert "nothing converts" in outline.said()
    assert "svg" not in [tag for tag, _ in outline.tags]


def test_numbers_that_json_has_not_survive(tmp_path):
    layer = small().layers[0].model_copy(update={"sensitivity": {"4 bits": float("inf")}})
    write_report(small(layers=(layer,)), tmp_path)
    json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert load(tmp_path / "report.json").layers[0].sensitivity == {"4 bits": float("inf")}


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_without_the_extra_the_data_is_written_and_the_hint_says_what_to_install(
    missing, tmp_path, monkeypatch
):
    real = builtins.__import__

    def absent(name, *args, **more):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingDependencyError, match=f"report.html needs {missing}") as caught:
        write_report(small(), tmp_path)
    assert caught.value.hint == "run: pip install 'pipcook-deploy[compress]'"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_what_is_no_report_is_told(tmp_path):
    with pytest.raises(BundleError, match="there is no report"):
        load(tmp_path / "report.json")
    (tmp_path / "report.json").write_text('{"name": 3}')
    with pytest.raises(BundleError, match="is not a report: name"):
        load(tmp_path / "report.json")
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(small(), tmp_path / "nowhere")


def test_matplotlib_leaves_nothing_at_home_nor_in_this_process(tmp_path):
    code = (
        "import os, sys; before = dict(os.environ)\n"
        "from pipcook_deploy.report.drawing import drawn\n"
        "svg = drawn('a', 2, 1, lambda axes: axes.plot([1, 2]))\n"
        "import matplotlib\n"
        "assert dict(os.environ) == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert matplotlib.rcParams['svg.hashsalt'] is None\n"
        "assert svg.startswith('<svg')"
    )
    names = ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    home, scratch = tmp_path / "home", tmp_path / "tmp"
    home.mkdir(), scratch.mkdir()
    environment |= {"HOME": str(home), "TMPDIR": str(scratch)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert list(home.iterdir()) == []
    assert list(scratch.iterdir()) == []


def test_a_source_that_was_taken_over_as_it_is_is_what_its_format_is_compared_with():
    report = made_report()
    taken = tuple(
        c.model_copy(update={"precision": "source"})
        if (c.format, c.model, c.precision) == ("onnx", "source", "float32")
        else c
        for c in report.candidates
    )
    before = {o.format: o.wire for o in outcomes(report)}
    after = {o.format: o.wire for o in outcomes(report.model_copy(update={"candidates": taken}))}
    assert after == before and before["onnx"][0] is not None
