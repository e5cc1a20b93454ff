"""Which nodes of an ONNX model suffer from integers: each alone in int8, all others in float."""

from pathlib import Path
from typing import Any

from pipcook_deploy.answer_damage import answer_damage
from pipcook_deploy.converters.onnx_quantize.calibrate import Calibration, find_ranges, opened
from pipcook_deploy.converters.onnx_quantize.graph import Edges
from pipcook_deploy.converters.onnx_quantize.load import infer_shapes, load_float
from pipcook_deploy.converters.onnx_quantize.plan import candidates, make_plan
from pipcook_deploy.converters.onnx_quantize.prepare import prepare
from pipcook_deploy.converters.onnx_quantize.qdq import Int8Options, quantize
from pipcook_deploy.converters.onnx_quantize.weights_only import store_weights
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.runtimes.batches import BATCH, batched
from pipcook_deploy.tensors import load_tensors


def node_damage(path: str, inputs: str, samples: int, per_channel: bool = True) -> dict[str, float]:
    """Damage of each node that int8 can have (see `answer_damage`), by the names that `exclude` takes.

    `path` is a float32 file, `inputs` a folder that `save_tensors` wrote, of which the first `samples` are
    answered. Ranges are found once, with the same samples.
    """
    proto = prepare(load_float(Path(path)))
    given = load_tensors(Path(inputs), samples)
    edges = Edges(proto)
    nodes = candidates(edges)
    ranges = find_ranges(proto, make_plan(edges).owner, given, Calibration())
    truth = _answers(proto, given)
    damage = {}
    for node in nodes:
        others = tuple(other.name for other in nodes if other is not node)
        plan = make_plan(edges, others)
        alone = quantize(proto, plan, _known(proto, plan, ranges, given), Int8Options(per_channel))
        damage[str(node.name)] = answer_damage(truth, _answers(alone, given))
    return damage | _stored(proto, given, truth, per_channel, set(damage))


def weight_damage(
    path: str, inputs: str, samples: int, per_channel: bool = True
) -> dict[str, float]:
    """`node_damage` of weights stored as int8, with activations in float."""
    proto = infer_shapes(load_float(Path(path)))
    given = load_tensors(Path(inputs), samples)
    return _stored(proto, given, _answers(proto, given), per_channel, set())


def _stored(
    proto: Any, given: Tensors, truth: Tensors, per_channel: bool, known: set[str]
) -> dict[str, float]:
    """Damage of the nodes beside `known` of which int8 has the weights alone."""
    names = store_weights(proto, tuple(known), per_channel=per_channel)[1]
    damage = {}
    for name in names:
        others = {*known, *names} - {name}
        alone = store_weights(proto, tuple(others), per_channel=per_channel)[0]
        damage[name] = answer_damage(truth, _answers(alone, given))
    return damage


def _known(proto: Any, plan: Any, ranges: Any, given: Tensors) -> Any:
    """The ranges, with those of tensors that only this plan holds in u8."""
    missing = set(plan.owner.values()) - set(ranges.limits)
    if missing:
        more = find_ranges(proto, sorted(missing), given, Calibration())
        ranges.limits.update(more.limits)
        ranges.means.update(more.means)
    return ranges


def _answers(proto: Any, inputs: Tensors) -> Tensors:
    names = [value.name for value in proto.graph.output]
    call = opened(proto)
    dims = [value.type.tensor_type.shape.dim for value in proto.graph.input]
    fixed = [d[0].dim_value for d in dims if d and d[0].HasField("dim_value")]
    return batched(
        lambda rows: dict(zip(names, call(names, rows), strict=True)),
        inputs,
        fixed[0] if fixed else BATCH,
        exact=bool(fixed),
    )
