"""Tries ways of storing the weights of a TF.js graph-model, without writing or starting TF.js.

JSON in and out, for `Workers`. `path` is the `model.json` of a float32 graph-model, `inputs` a folder that
`save_tensors` wrote. What is tried are the values that TF.js reads from the file: `decode(encode_one(...))`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from pipcook_deploy.answer_damage import answer_damage
from pipcook_deploy.converters.tfjs.graph import Array
from pipcook_deploy.converters.tfjs.trial_graph import TrialGraph
from pipcook_deploy.files import BROTLI_QUALITY
from pipcook_deploy.formats.tfjs_weights import Storage, Weight, decode, encode_one
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.tensors import load_tensors, save_tensors

BATCH = 256
CHOICES = (4, 8, 16, 32, 64, 128, 256)  # levels that a weight may be given
MOST_ELEMENTS = (
    2_000_000  # of all samples together: every weight is tried with every number of levels
)
FEWEST = 8  # samples
RANKED = 16  # levels that weights are ranked with where only an order is asked for


def weights(path: str) -> list[dict[str, Any]]:
    """Name, kind (the operation that reads it), shape and number of parameters of each weight."""
    return [
        {
            "name": weight.name,
            "kind": weight.kind,
            "shape": list(weight.value.shape),
            "parameters": weight.value.size,
        }
        for weight in TrialGraph(Path(path)).weights.values()
    ]


def trial(
    path: str,
    assignments: list[dict[str, dict[str, Any]]],
    inputs: str,
    outputs: str,
    samples: int | None = None,
    batch: int = BATCH,
) -> list[dict[str, Any]]:
    """Answer the inputs with each assignment: {weight: {"precision": .., "levels": ..}}, others float32.

    A row an assignment: the `folder` of its answers below `outputs`, and the `bytes` of all weights that can
    be assigned, as brotli.
    """
    graph, given = TrialGraph(Path(path)), load_tensors(Path(inputs), samples)
    rows = []
    for number, assignment in enumerate(assignments):
        graph.check(assignment)
        stored = {name: Storage(**assignment.get(name, {})) for name in graph.weights}
        held = {n: _stored(graph.weights[n].value, how) for n, how in stored.items()}
        folder = Path(outputs) / str(number)
        save_tensors(folder, graph.answers({n: v for n, (v, _) in held.items()}, given, batch))
        size = wire_size(b"".join(data for _, data in held.values()))
        rows.append({"folder": str(folder), "bytes": size})
    return rows


def weight_damage(
    path: str, inputs: str, samples: int, levels: list[int], batch: int = BATCH
) -> list[dict[str, Any]]:
    """The rows of `weights`, each with `stored`: one entry a number of levels, and first one for float32.

    An entry has `levels` (None: float32), `damage` (see `answer_damage`) with this weight alone stored so,
    and `bytes`, those of this weight as brotli.
    """
    graph, given = TrialGraph(Path(path)), load_tensors(Path(inputs), samples)
    truth = graph.answers({}, given, batch)
    rows = []
    for weight in graph.weights.values():
        plain = wire_size(weight.value.astype("<f4").tobytes())
        stored: list[dict[str, Any]] = [{"levels": None, "damage": 0.0, "bytes": plain}]
        for count in sorted(set(levels), reverse=True):
            value, data = _stored(weight.value, Storage("uint8", count))
            damage = _moved(graph, weight.name, value, given, truth, batch)
            stored.append({"levels": count, "damage": damage, "bytes": wire_size(data)})
        rows.append(
            {
                "name": weight.name,
                "kind": weight.kind,
                "shape": list(weight.value.shape),
                "parameters": weight.value.size,
                "stored": stored,
            }
        )
    return rows


def parts(path: str, inputs: str, samples: int) -> list[dict[str, Any]]:
    """`weight_damage` in the levels worth choosing from; of large inputs fewer samples than asked for."""
    graph_inputs = load_tensors(Path(inputs), 1)
    elements = sum(value.size for value in graph_inputs.values())
    affordable = max(FEWEST, MOST_ELEMENTS // max(elements, 1))
    return weight_damage(path, inputs, min(samples, affordable), [*CHOICES])


def ranked_damage(path: str, inputs: str, samples: int) -> dict[str, float]:
    """Damage of each weight alone on few levels: which to keep in float32."""
    rows = weight_damage(path, inputs, samples, [RANKED])
    return {row["name"]: row["stored"][-1]["damage"] for row in rows}


def wire_size(data: bytes) -> int:
    """Bytes as brotli, as servers compress on the fly."""
    import brotli

    return len(brotli.compress(data, quality=BROTLI_QUALITY))


def _moved(
    graph: TrialGraph, name: str, value: Array, inputs: Tensors, truth: Tensors, batch: int
) -> float:
    if np.array_equal(value, graph.weights[name].value):
        return 0.0
    return answer_damage(truth, graph.answers({name: value}, inputs, batch))


def _stored(value: Array, how: Storage) -> tuple[Array, bytes]:
    encoded = encode_one(Weight("weight", value), how)
    return decode(encoded.spec, encoded.data), encoded.data
