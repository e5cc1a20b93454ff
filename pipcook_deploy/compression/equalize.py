"""The pass `equalize`: channels of even range, so that one scale for a whole kernel loses none of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from pipcook_deploy.compression.channel_links import Link, Stage, links, normed
from pipcook_deploy.compression.keras_layers import Array, kernels, leaves
from pipcook_deploy.compression.model_pass import ModelPass, PassResult
from pipcook_deploy.compression.prune import pruned_details
from pipcook_deploy.compression.save_keras import save_keras
from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import CompressionError, SourceError
from pipcook_deploy.keras_io import load_keras
from pipcook_deploy.model import Model
from pipcook_deploy.sources.keras_source import graph_of
from pipcook_deploy.spec import Details


class Equalize(ModelPass):
    """Moves scale between neighbouring kernels until their channels are alike; the function stays the same.

    Cross-layer equalization (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
    Correction", section 4.1) with factors that are powers of two: those change no digit of a float. Where a batch
    norm follows, the kernel's own channels are levelled too, for formats that keep the two apart.
    """

    name: ClassVar[str] = "equalize"

    rounds: int = Field(default=20, ge=1, description="Most rounds over all pairs of kernels.")

    def apply(self, model: Model, into: Path, train: Split | None = None) -> PassResult:
        """Equalize and save. `details["uneven"]` is the ratio of ranges before, `pairs` say what was done."""
        live = load_keras(model)
        try:
            graph = graph_of(model.path)
        except SourceError as error:
            raise CompressionError(
                f"{model.path}: cannot be equalized: {error.message}",
                "build it from layers (functional or Sequential)",
            ) from error
        by_path = dict(leaves(live))
        pairs, notes = links(graph, kernels(live), by_path)
        alone = normed(graph, kernels(live), by_path)
        before = [_unevenness(link) for link in pairs]
        own = [_spread(stage.out_ranges(folded=False)) for stage in alone]
        factors = _balance(pairs, self.rounds)
        for stage in alone:
            _level(stage)
        after = [_unevenness(link) for link in pairs]
        levelled = [_spread(stage.out_ranges(folded=False)) for stage in alone]
        saved = save_keras(live, model, into)
        rows = zip(pairs, before, after, factors, strict=True)
        details: Details = pruned_details(live) | {
            "engine": "own",
            "uneven": max([*before, *own], default=1.0),
            "uneven_after": max([*after, *levelled], default=1.0),
            "pairs": [_row(*row) for row in rows],
            "notes": [*notes],
        }
        return PassResult(saved, details)


def _balance(pairs: Sequence[Link], rounds: int) -> list[float]:
    """The largest factor that a channel of each pair was moved by."""
    total: list[Array] = [np.zeros(len(link.first.out_ranges())) for link in pairs]
    for _ in range(rounds):
        moved = False
        for number, link in enumerate(pairs):
            exponents = _exponents(link)
            if exponents.any():
                moved = True
                total[number] += exponents
                factors = np.exp2(exponents).astype(np.float32)
                link.first.divide_outputs(factors)
                link.second.multiply_inputs(factors)
        if not moved:
            break
    return [float(np.exp2(np.abs(moves).max())) if moves.size else 1.0 for moves in total]


def _exponents(link: Link) -> Array:
    """log2 of what to divide each channel by, so that both ranges become sqrt(r1 r2); 0 for dead channels."""
    first = link.first.out_ranges().astype(np.float64)
    second = link.second.in_ranges(len(first)).astype(np.float64)
    alive = (first > 0) & (second > 0)
    ratio = np.divide(first, second, out=np.ones_like(first), where=alive)
    found: Array = np.rint(np.log2(ratio) / 2)
    return found


def _level(stage: Stage) -> None:
    """Channels of a kernel as wide as the median one; the batch norm that follows takes the scale up.

    Where the norm's epsilon keeps a channel from getting so narrow, the others get as wide as that one.
    """
    ranges = stage.out_ranges(folded=False).astype(np.float64)
    alive = ranges > 0
    if not alive.any():
        return
    reachable = np.exp2(np.floor(np.log2(stage.most_before_norm())))
    wanted = max(float(np.median(ranges[alive])), float((ranges / reachable).max()))
    ratio = np.divide(ranges, wanted, out=np.ones_like(ranges), where=alive)
    factors = np.minimum(np.exp2(np.rint(np.log2(ratio))), reachable).astype(np.float32)
    if (factors != 1).any():
        stage.divide_before_norm(factors)


def _unevenness(link: Link) -> float:
    """How many times the largest channel is wider than a narrow one: the quarter below it is left out."""
    first = link.first.out_ranges()
    second = link.second.in_ranges(len(first))
    return max(_spread(first), _spread(second))


def _spread(ranges: Array) -> float:
    alive = ranges[ranges > 0]
    return float(alive.max() / np.quantile(alive, 0.25)) if alive.size else 1.0


def _row(link: Link, before: float, after: float, factor: float) -> Details:
    return {
        "first": link.first.kernel.name,
        "second": link.second.kernel.name,
        "uneven_before": before,
        "uneven_after": after,
        "largest_factor": factor,
    }
