"""What is printed of an image: its layers, how its boot test went, where it was pushed."""

from typing import TYPE_CHECKING

from pipcook_deploy.cli.console import say, table
from pipcook_deploy.text import human_bytes

if TYPE_CHECKING:
    from pipcook_deploy.images.record import BootEntry, ImageRecord


def print_image(record: "ImageRecord") -> None:
    """A table of the layers, a table of the contracts, and a line for the rest."""
    _print_layers(record)
    if record.boot is None:
        say("not booted: it will not be pushed")
    else:
        _print_boot(record.boot)
    if record.scan is not None:
        rows = ", ".join(f"{count} {level}" for level, count in record.scan.findings.items())
        say(f"{record.scan.scanner}: {rows or 'nothing found'}")
    for push in record.pushes:
        signed = ", signed" if push.signed else ""
        say(f"pushed {push.reference} as {push.digest}{signed}")
    say(f"image {record.id}: {', '.join(record.tags)}")


def _print_layers(record: "ImageRecord") -> None:
    rows = table("layer", "size", "compressed", "digest")
    for layer in record.layers:
        rows.add_row(
            layer.what, human_bytes(layer.size), _bytes(layer.compressed), layer.diff_id[:19]
        )
    rows.add_row("together", human_bytes(record.size), _bytes(record.compressed), "")
    say(rows)


def _print_boot(boot: "BootEntry") -> None:
    rows = table("asked as", "started as", "samples", "largest difference")
    for row in boot.contracts:
        difference = "" if row.largest_difference is None else f"{row.largest_difference:.1e}"
        count = str(row.samples) if row.skipped is None else f"none: {row.skipped}"
        rows.add_row(row.contract, row.start, count, difference)
    say(rows)
    drain = boot.drain
    say(
        f"booted in {boot.engine} with {human_bytes(boot.memory)}: first right answer after "
        f"{boot.seconds_to_first_answer:.2f} s; ended under load in {drain.seconds:.2f} s, "
        f"{drain.answered} requests answered ({drain.after_sigterm} after SIGTERM), {drain.lost} lost"
    )


def _bytes(count: int | None) -> str:
    return "" if count is None else human_bytes(count)
