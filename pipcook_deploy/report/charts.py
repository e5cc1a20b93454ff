"""The charts of a report: each takes data and gives an `<svg>` element, or None where there is nothing to draw."""

from collections.abc import Sequence
from typing import Any, Literal

from pipcook_deploy.report.drawing import CARD, INK, LINE, MARKERS, SERIES, SOFT, drawn
from pipcook_deploy.report.entries import BenchEntry, CandidateEntry, ClassEntry, LayerEntry, Report
from pipcook_deploy.report.words import amount, format_name, metric_name, milliseconds, signed, size
from pipcook_deploy.text import printable

WIDTH, HEIGHT = 4.6, 3.5  # inches: two beside each other on a desk, one on a phone, both legible
MOST_CLASSES = 25
VIEW = 4.0  # budgets that the chart shows below the source; what is worse is drawn at its edge
Cost = Literal["wire_size", "latency_ms"]


def trade_off(report: Report, cost: Cost) -> str | None:
    """The metric's change against what an answer costs: bytes on the wire, or milliseconds."""
    shown = [c for c in report.candidates if _rated(c, cost)]
    if len(shown) < 2:
        return None
    return drawn(f"trade-{cost}", WIDTH, HEIGHT, lambda axes: _trade_off(axes, report, shown, cost))


def class_changes(report: Report, classes: Sequence[ClassEntry]) -> str | None:
    """How each class changed, in points."""
    rows = list(classes)[:MOST_CLASSES]
    if not rows:
        return None

    def draw(axes: Any) -> None:
        axes.axvline(0, color=SOFT, linewidth=0.8)
        for name, look in series(report).items():
            found = [
                (i, row.after[name] - row.before) for i, row in enumerate(rows) if name in row.after
            ]
            if found:
                places, changes = zip(*found, strict=True)
                points = [100 * change for change in changes]
                axes.plot(points, places, linestyle="", label=_short(format_name(name)), **look)
        axes.set_yticks(range(len(rows)), [_short(row.label) for row in rows])
        axes.invert_yaxis()
        axes.set_xlabel("change of right answers, points")
        _legend(axes)

    return drawn("classes", WIDTH, 1.1 + 0.22 * len(rows), draw)


def bench_bars(bench: Sequence[BenchEntry]) -> str | None:
    """The median time of each artifact in each runtime, and the 95th percentile."""
    if not bench:
        return None
    rows = sorted(bench, key=lambda b: (b.threads, b.batch, b.p50_ms, b.format, b.runtime))

    def draw(axes: Any) -> None:
        places = range(len(rows))
        for kind, colour in (("float32", SOFT), ("compressed", SERIES[0])):
            own = [i for i in places if rows[i].artifact == kind]
            times = [rows[i].p50_ms for i in own]
            axes.barh(own, times, height=0.62, color=colour, label=kind)
        for i, row in enumerate(rows):
            axes.plot([row.p50_ms, row.p95_ms], [i, i], color=INK, linewidth=0.9)
        batches = len({(row.threads, row.batch) for row in rows}) > 1
        axes.set_yticks(places, [_bench_label(row, batches) for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("ms: median (bar), p95 (line)")
        _legend(axes)

    return drawn("bench", 5.4, 1.1 + 0.24 * len(rows), draw)


def histogram(layer: LayerEntry, number: int) -> str | None:
    """A layer's weights before (filled) and after (line); counts are logarithmic."""
    before, after = layer.before, layer.after
    if before is None or after is None:
        return None

    def draw(axes: Any) -> None:
        axes.stairs(before.counts, before.edges, fill=True, color=LINE)
        axes.stairs(after.counts, after.edges, color=SERIES[0], linewidth=1.1)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(bottom=0)
        axes.set_yticks([])
        axes.set_yticks([], minor=True)
        low = min(before.edges[0], after.edges[0])
        high = max(before.edges[-1], after.edges[-1])
        axes.set_xticks([low, 0, high] if low < 0 < high else [low, high])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)

    return drawn(f"layer-{number}", 2.2, 1.05, draw)


def series(report: Report) -> dict[str, dict[str, Any]]:
    """Colour and marker of each format, the same in every chart."""
    names = list(dict.fromkeys(c.format for c in report.candidates))
    return {
        name: {
            "color": SERIES[i % len(SERIES)],
            "marker": MARKERS[i % len(MARKERS)],
            "markersize": 5.5,
        }
        for i, name in enumerate(names)
    }


# ---- accuracy against size and time


def _trade_off(axes: Any, report: Report, shown: list[CandidateEntry], cost: Cost) -> None:
    scale = 100.0 if report.unit == "%" else 1.0
    axes.margins(x=0.06)
    budget = report.max_drop * scale if report.goal != "none" else None
    worst = min(0.0, *(_change(c) * scale for c in shown))
    floor = -VIEW * budget if budget else worst or -1.0
    outside = sum(_change(c) * scale < floor for c in shown)
    for name, look in series(report).items():
        own = [c for c in shown if c.format == name]
        if not own:
            continue
        _points(axes, own, cost, scale, floor, _short(format_name(name)), look)
        if cost == "wire_size":
            _front(axes, own, scale, floor, look)
    winners = [c for c in shown if report.winners.get(c.format) == c.id]
    axes.plot(
        [getattr(c, cost) for c in winners],
        [max(_change(c) * scale, floor) for c in winners],
        linestyle="", marker="o", markersize=13, markerfacecolor="none", markeredgecolor=INK,
        markeredgewidth=1.3, label="winner",
    )  # fmt: skip
    axes.axhline(0, color=SOFT, linewidth=0.8)
    if budget is not None:
        axes.axhline(-budget, color=INK, linewidth=1, linestyle=(0, (5, 3)))
        axes.annotate(
            f"budget: {amount(report.max_drop, report.unit)} lost", (1, -budget),
            xycoords=("axes fraction", "data"), textcoords="offset points", xytext=(-2, 3), ha="right", fontsize=8,
        )  # fmt: skip
    top = max([0.0, *(_change(c) * scale for c in shown)])
    axes.set_ylim(floor * 1.08, top + 0.12 * (top - floor))
    if outside:
        axes.text(0.01, 0.015, f"▾ {outside} far worse", transform=axes.transAxes, fontsize=8)
    unit = "points" if report.unit == "%" else report.unit
    axes.set_ylabel(
        f"{_short(metric_name(report.metric))}, change" + (f" in {unit}" if unit else "")
    )
    axes.yaxis.set_major_formatter(lambda value, _: signed(round(value, 6)))
    _cost_axis(axes, cost, [getattr(c, cost) for c in shown])
    _legend(axes)


def _points(
    axes: Any,
    own: list[CandidateEntry],
    cost: Cost,
    scale: float,
    floor: float,
    label: str,
    look: dict[str, Any],
) -> None:
    """In the budget filled, outside hollow, and below the edge a triangle on it."""
    groups: list[tuple[list[CandidateEntry], dict[str, Any]]] = [
        ([c for c in own if _kept(c)], {"label": label}),
        ([c for c in own if not _kept(c) and _change(c) * scale >= floor], {"markerfacecolor": CARD}),
        ([c for c in own if not _kept(c) and _change(c) * scale < floor], {"marker": 7, "markerfacecolor": CARD}),
    ]  # fmt: skip
    for group, more in groups:
        axes.plot(
            [getattr(c, cost) for c in group],
            [max(_change(c) * scale, floor) for c in group],
            linestyle="",
            **(look | more),
        )


def _front(
    axes: Any, own: list[CandidateEntry], scale: float, floor: float, look: dict[str, Any]
) -> None:
    front = sorted((c for c in own if c.on_front), key=lambda c: c.wire_size or 0)
    visible = [c for c in front if _change(c) * scale >= floor]
    axes.step(
        [c.wire_size for c in visible], [_change(c) * scale for c in visible],
        where="post", color=look["color"], linewidth=1, alpha=0.7,
    )  # fmt: skip


def _cost_axis(axes: Any, cost: Cost, values: list[float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    if max(values) > 2.5 * min(values) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    if cost == "wire_size":
        axes.xaxis.set_major_formatter(
            lambda value, _: size(round(value)).replace(".00", "").replace(".0", "")
        )
        axes.set_xlabel("size on the wire (brotli)")
    else:
        axes.xaxis.set_major_formatter(
            lambda value, _: milliseconds(value).replace(".00", "").replace(".0", "")
        )
        axes.set_xlabel("median time of an answer")


def _rated(candidate: CandidateEntry, cost: Cost) -> bool:
    return (
        bool(getattr(candidate, cost))
        and candidate.drop is not None
        and candidate.verdict != "failed"
    )


def _kept(candidate: CandidateEntry) -> bool:
    return candidate.verdict != "out of budget"


def _change(candidate: CandidateEntry) -> float:
    """Up is better, whatever the metric's own direction."""
    return -candidate.drop.value if candidate.drop else 0.0


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.figure.legend(
            loc="outside upper left", ncols=4, fontsize=8, handletextpad=0.3, columnspacing=1.2
        )


def _short(text: str, most: int = 24) -> str:
    shown = printable(text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _bench_label(row: BenchEntry, batches: bool) -> str:
    more = f", {row.threads} threads, batch {row.batch}" if batches else ""
    return _short(f"{format_name(row.format)} {row.precision} · {row.runtime}{more}", 48)
