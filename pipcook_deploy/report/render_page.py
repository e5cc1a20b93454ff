"""Makes the page of a report: a template, the report's data, and charts of it."""

import math
import re
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import pipcook_deploy.report.words as words
from pipcook_deploy.bench.rank import rank
from pipcook_deploy.report.charts import bench_bars, class_changes, histogram, trade_off
from pipcook_deploy.report.entries import CandidateEntry, ClassEntry, LayerEntry, Report
from pipcook_deploy.report.outcome import direction, outcomes, sentence, verdict
from pipcook_deploy.text import printable

MOST_ROWS = 200  # of a table; `report.json` has them all
MOST_HISTOGRAMS = 60
MOST_CLASSES = 100
HOTTEST = 60  # percent of colour behind the worst number, on which ink is still legible


def render_page(report: Report) -> str:
    """The HTML of a report, which loads nothing. Raises `ModuleNotFoundError` without jinja2 or matplotlib."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("pipcook_deploy.report") / "page"
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else _shown(value),
    )
    environment.filters.update(_filters(report))
    template = environment.from_string((folder / "report.html.j2").read_text("utf-8"))
    css = Markup((folder / "report.css").read_text("utf-8"))  # noqa: S704 - our own file
    drawings = {
        name: None if svg is None else Markup(svg)  # noqa: S704 - matplotlib has escaped what is in it
        for name, svg in _charts(report).items()
    }
    return template.render(css=css, charts=drawings, **_content(report)) + "\n"


def _content(report: Report) -> dict[str, Any]:
    layers = report.layers[:MOST_ROWS]
    return {
        "report": report,
        "verdicts": [
            {"text": sentence(o, report), "short": verdict(o, report), **vars(o), "wire": o.wire, "size": o.size}
            for o in outcomes(report)
        ],
        "candidates": sorted_candidates(report.candidates)[:MOST_ROWS],
        "candidate_count": len(report.candidates),
        "classes": sorted_classes(report.classes)[:MOST_CLASSES],
        "class_formats": _keys(row.after for row in report.classes),
        "flips": {
            name: [flip for flip in report.flips if flip.format == name]
            for name in dict.fromkeys([*report.flip_counts, *(flip.format for flip in report.flips)])
        },
        "layers": layers,
        "drawn_layers": _drawn_layers(report.layers),
        "layer_formats": _keys(row.precision for row in layers),
        "trials": _keys(row.sensitivity for row in layers),
        "heat": _heat(layers),
        "ranking": rank(report.bench),
        "bench": {(b.format, b.artifact, b.runtime, b.threads, b.batch, b.precision): b for b in report.bench},
    }  # fmt: skip


def sorted_candidates(candidates: Iterable[CandidateEntry]) -> list[CandidateEntry]:
    """By format in the order given, and by wire size; what has none comes last."""
    rows = list(candidates)
    order = list(dict.fromkeys(c.format for c in rows))
    return sorted(
        rows, key=lambda c: (order.index(c.format), c.wire_size is None, c.wire_size or 0)
    )


def sorted_classes(classes: Iterable[ClassEntry]) -> list[ClassEntry]:
    """Those that lost most come first."""
    return sorted(classes, key=lambda c: min([v - c.before for v in c.after.values()], default=0.0))


def _charts(report: Report) -> dict[str, str | None]:
    drawn = {f"layer {i}": histogram(layer, i) for i, layer in _drawn_layers(report.layers)}
    return drawn | {
        "wire": trade_off(report, "wire_size"),
        "latency": trade_off(report, "latency_ms"),
        "classes": class_changes(report, sorted_classes(report.classes)),
        "bench": bench_bars(report.bench),
    }


def _drawn_layers(layers: tuple[LayerEntry, ...]) -> list[tuple[int, LayerEntry]]:
    """Those with the most weights, in the model's order."""
    drawable = [(i, row) for i, row in enumerate(layers) if row.before and row.after]
    largest = sorted(drawable, key=lambda pair: -pair[1].parameters)[:MOST_HISTOGRAMS]
    return sorted(largest, key=lambda pair: pair[0])


def _heat(layers: tuple[LayerEntry, ...]) -> dict[float, int]:
    """Percent of colour for each damage: logarithmic over what is there, at most four powers of ten."""
    values = {v for row in layers for v in row.sensitivity.values()}
    hot = [v for v in values if math.isfinite(v) and v > 0]
    if not hot:
        return dict.fromkeys(values, 0)
    top = math.log10(max(hot))
    reach = max(1.0, min(4.0, top - math.log10(min(hot))))
    return {
        v: HOTTEST if not math.isfinite(v)
        else round(HOTTEST * max(0.0, 1 - (top - math.log10(v)) / reach)) if v > 0 else 0
        for v in values
    }  # fmt: skip


def _filters(report: Report) -> dict[str, Any]:
    unit = report.unit
    return {
        "format_name": words.format_name,
        "metric_name": words.metric_name,
        "bytes": words.size,
        "ms": words.milliseconds,
        "times": words.three_digits,
        "level": lambda value: words.level(value, unit),
        "change": lambda value: words.change(value, unit),
        "interval": lambda value: words.change_interval(value, unit),
        "amount": lambda value: words.amount(value, unit),
        "change_of": lambda drop: direction(drop, report.higher_is_better),
        "percent": words.percent,
        "points": lambda share: words.signed(share * 100),
        "small": lambda value: re.sub(r"e-0(?=\d)", "e-", f"{value:.2g}"),
    }


def _keys(rows: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _shown(value: Any) -> Any:
    """A text without control characters; a percent sign stays on the line of its number."""
    return (
        printable(value).replace(" %", "\N{NO-BREAK SPACE}%") if isinstance(value, str) else value
    )
