"""How much each kernel matters: what the answers lose when it alone is pruned or quantized."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipcook_deploy.answer_damage import answer_damage
from pipcook_deploy.compression.allocation import allocate
from pipcook_deploy.compression.batches import Samples, in_order, samples_of
from pipcook_deploy.compression.channel_links import normed
from pipcook_deploy.compression.fake_quantize import quantize_folded
from pipcook_deploy.compression.keras_chain import norm_scale
from pipcook_deploy.compression.keras_layers import Array, Kernel, kernels, leaves
from pipcook_deploy.compression.masks import histogram, magnitude_mask, sparsity_of
from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import SourceError
from pipcook_deploy.keras_io import call_keras, load_keras
from pipcook_deploy.model import Model
from pipcook_deploy.sources.keras_source import graph_of

__all__ = ["allocate", "measure"]

MOST_MULTIPLICATIONS = 4e12  # over all measurements: minutes on two cores
FEWEST_SAMPLES = 8
BATCH = 64

Answers = dict[str, Array]


def measure(
    model: dict[str, Any],
    split: dict[str, Any],
    knobs: dict[str, list[float]],
    samples: int = 256,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """A row for each kernel: the fields of `LayerEntry`, `care`, and `damage` as [[knob, damage], ...] a knob.

    `knobs` are the sparsities ("prune") and the numbers of bits ("bits") to try. Damage is that of `answer_damage`
    against the model itself, on at most `samples` samples; on fewer where a pass is expensive.
    """
    source = Model.from_json(model)
    live = load_keras(source)
    found = kernels(live)
    tries = sum(len(values) for values in knobs.values()) * len(found) + 1
    chosen = samples_of(live, Split.from_json(split), source)
    most = int(MOST_MULTIPLICATIONS / (tries * max(_multiplications(found), 1)))
    count = min(samples, chosen.count, max(most, FEWEST_SAMPLES))
    answer = _answerer(live, chosen, count, seed)
    wanted = answer()
    scales = _norm_scales(source.path, live)
    return [_row(kernel, scales.get(kernel.name), knobs, answer, wanted) for kernel in found]


def _row(
    kernel: Kernel,
    scale: Array | None,
    knobs: Mapping[str, Sequence[float]],
    answer: Callable[[], Answers],
    wanted: Answers,
) -> dict[str, Any]:
    value = kernel.get()
    damage: dict[str, list[list[float]]] = {}

    def tried(knob: str, amount: float, changed: Array) -> None:
        kernel.set(changed)
        damage.setdefault(knob, []).append([amount, max(answer_damage(wanted, answer()), 0.0)])

    for share in knobs.get("prune", ()):
        tried("prune", share, value * magnitude_mask(value, share))
    for bits in knobs.get("bits", ()):
        tried("bits", bits, quantize_folded(kernel, value, int(bits), scale))
    kernel.set(value)
    return {
        "name": kernel.name,
        "kind": kernel.kind,
        "care": kernel.care,
        "shape": [*kernel.shape],
        "parameters": kernel.size,
        "sparsity": sparsity_of(value),
        "before": histogram(value),
        "damage": damage,
        "sensitivity": {
            _label(knob, amount): loss for knob, rows in damage.items() for amount, loss in rows
        },
    }


def _label(knob: str, amount: float) -> str:
    return f"prune {100 * amount:.0f} %" if knob == "prune" else f"{amount:g} bits"


def _answerer(live: Any, samples: Samples, count: int, seed: int) -> Callable[[], Answers]:
    """Answers the same samples, chosen by the seed, again and again; compiled once."""
    import tensorflow as tf

    chosen = np.sort(np.random.default_rng(seed).choice(samples.count, count, replace=False))
    size = samples.batch(BATCH)
    chosen = chosen[: count // size * size] if samples.fixed_batch else chosen
    batches = [samples.rows(chosen[index]) for index in in_order(len(chosen), size)]

    def call(*inputs: Any) -> list[Any]:
        return call_keras(live, [*inputs])

    compiled = tf.function(call, reduce_retracing=True)

    def answer() -> Answers:
        rows = [[np.asarray(value) for value in compiled(*batch)] for batch in batches]
        return {str(n): np.concatenate(parts) for n, parts in enumerate(zip(*rows, strict=True))}

    return answer


def _norm_scales(path: Path, live: Any) -> dict[str, Array]:
    """By kernel: the factors of the batch norm that converters fold into it.

    A model whose file has no graph, because its class is its own, has none to fold.
    """
    try:
        graph = graph_of(path)
    except SourceError:
        return {}
    stages = normed(graph, kernels(live), dict(leaves(live)))
    return {stage.kernel.name: norm_scale(stage.norm) for stage in stages}


def _multiplications(found: Sequence[Kernel]) -> float:
    """Of one sample, roughly: each weight is used once a place of its layer's output."""
    total = 0.0
    for kernel in found:
        shape = getattr(kernel.layer.output, "shape", ()) if _called_once(kernel.layer) else ()
        places = np.prod([float(size) for size in [*shape][1:-1] if size is not None])
        total += kernel.size * float(places)
    return total


def _called_once(layer: Any) -> bool:
    return len(getattr(layer, "_inbound_nodes", ())) == 1
