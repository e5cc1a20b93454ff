"""Boxes in the pixels of the picture that was sent, where the model answers them for the picture that it saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

from pipcook_deploy.preprocess.operations import Operation


@dataclass(frozen=True)
class Seen:
    """The part of a picture that reaches the model, in the picture's own pixels."""

    top: float
    left: float
    height: float
    width: float

    def box(self, relative: Any) -> list[float]:
        """[x, y, width, height] in the picture's pixels, of [y0, x0, y1, x1] relative to this part."""
        y0, x0, y1, x1 = (float(value) for value in relative)
        return [
            self.left + x0 * self.width,
            self.top + y0 * self.height,
            (x1 - x0) * self.width,
            (y1 - y0) * self.height,
        ]


def seen(operations: Sequence[Operation], height: int, width: int) -> Seen:
    """What of a picture of this size is left by the resizes and crops."""
    part = Seen(0.0, 0.0, float(height), float(width))
    size = (height, width)
    for operation in operations:
        if operation.op == "resize":
            wanted = (operation.height, operation.width)
            if operation.fit == "cover":
                part = _centre(part, _covering(size, wanted), wanted)
            size = wanted
        elif operation.op == "center_crop":
            wanted = (operation.height, operation.width)
            part = _centre(part, size, wanted)
            size = wanted
    return part


def _covering(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """As `resize` with `fit = "cover"` makes it before it crops."""
    factor = max(wanted[0] / size[0], wanted[1] / size[1])
    return (
        max(wanted[0], floor(size[0] * factor + 0.5)),
        max(wanted[1], floor(size[1] * factor + 0.5)),
    )


def _centre(part: Seen, size: tuple[int, int], kept: tuple[int, int]) -> Seen:
    """The centre `kept` of `size` pixels that show `part`."""
    down, right = part.height / size[0], part.width / size[1]
    return Seen(
        part.top + (size[0] - kept[0]) // 2 * down,
        part.left + (size[1] - kept[1]) // 2 * right,
        kept[0] * down,
        kept[1] * right,
    )
