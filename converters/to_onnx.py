"""The ONNX converter: SavedModel -> tf2onnx, in this process, under the spec's names; and int8 of both."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.converter import Converter
from pipcook_deploy.converters.onnx_names import all_nodes, clean, given_names, restore_names
from pipcook_deploy.converters.onnx_quantize.graph import opset
from pipcook_deploy.converters.onnx_quantize.load import LARGEST, load_float
from pipcook_deploy.converters.onnx_quantize.lower import LowerOptions, lower
from pipcook_deploy.converters.onnx_quantize.samples import read_calibration
from pipcook_deploy.errors import ConversionError
from pipcook_deploy.keep_source import keep
from pipcook_deploy.model import Model
from pipcook_deploy.saved_model_io import Serving, dtype_name, open_signature, static_shape
from pipcook_deploy.spec import Details, TensorSpec

NEWEST_BY_TF2ONNX = 18  # it writes nothing newer; later sets are reached by onnx.version_converter
FILE = "model.onnx"
DAMAGE = {"int8": "node_damage", "int8_weights": "weight_damage"}


class OnnxConverter(LowerOptions, Converter):
    """Writes one `model.onnx`; an ONNX source is copied, its external data too, unless it is to be smaller."""

    format: ClassVar[str] = "onnx"
    rewrites: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = ("onnx", "saved_model")

    opset: int = Field(
        default=18,
        ge=13,
        le=23,
        description="ONNX operator set to write; an ONNX source keeps its own.",
    )
    slim: bool = Field(
        default=True, description="Simplify the graph with onnxslim: fewer nodes, same answers."
    )

    calibration: Path | None = Field(
        default=None,
        description="Representative inputs for int8: .npz with one array per input, or .npy for one input.",
    )
    calibration_samples: int = Field(
        default=200, ge=1, description="Most samples of the calibration set that are used."
    )

    def uncompressed(self) -> "OnnxConverter":
        """float32, whose nodes `exclude` names."""
        changed = {"precision": "float32", "exclude": (), "calibration": None}
        return self.model_copy(update=changed)

    def candidates(self) -> tuple["OnnxConverter", ...]:
        """By size. int8 also with one scale a tensor: a tenth smaller, or useless, which is measured."""
        chosen = self.model_fields_set
        if "precision" in chosen:
            return (self,)
        changes: list[dict[str, Any]] = [{"precision": "int8_weights"}, {"precision": "int8"}]
        if "per_channel" not in chosen:
            changes.insert(0, {"precision": "int8", "per_channel": False})
        made = (self.model_copy(update=change) for change in (*changes, {"precision": "float16"}))
        return (*made, self)

    def slowness(self) -> int:
        """int8 is the fastest; integers that are turned into floats first are slower than those."""
        return 0 if self.precision == "int8" else 1

    def without(self, parts: Sequence[str]) -> "OnnxConverter | None":
        """With more nodes left in float."""
        if self.precision not in DAMAGE:
            return None
        return self.model_copy(update={"exclude": tuple(dict.fromkeys((*self.exclude, *parts)))})

    def damage_call(self) -> str | None:
        """Only what has integers suffers from them."""
        name = DAMAGE.get(self.precision)
        return name and f"pipcook_deploy.converters.onnx_quantize.damage:{name}"

    def damage_options(self) -> dict[str, Any]:
        """One scale for a whole kernel does another damage than one for each channel."""
        return {"per_channel": self.per_channel}

    def needs_tensorflow(self, source_format: str) -> bool:
        """Not for an ONNX source."""
        return source_format != "onnx"

    def convert(self, model: Model, into: Path) -> Artifact:
        """Write `model` below `into`.

        Raises `ConversionError` naming the operators that ONNX has not, or why there is no int8.
        """
        if model.format == "onnx":
            return _kept(model, into) if self.precision == "float32" else self._lowered(model, into)
        serving = open_signature(model)
        inputs, outputs = _bindings(serving.inputs), _bindings(serving.outputs)
        return self._written(self._float(serving), model, (inputs, outputs), into)

    def _lowered(self, model: Model, into: Path) -> Artifact:
        spec = model.spec
        inputs, outputs = (
            tuple(Binding(t.name, t.name, t.dtype, t.shape) for t in tensors)
            for tensors in (spec.inputs, spec.outputs)
        )
        return self._written(load_float(model.path), model, (inputs, outputs), into)

    def _float(self, serving: Serving) -> Any:
        proto = _convert(serving, min(self.opset, NEWEST_BY_TF2ONNX))
        if self.slim:
            proto = _slim(proto)
        if self.opset > NEWEST_BY_TF2ONNX:
            proto = _raise_opset(proto, self.opset)
        _repeat_outputs(proto, serving.function)
        restore_names(proto, serving)
        clean(proto)
        _check(proto)
        return proto

    def _written(
        self,
        proto: Any,
        model: Model,
        bindings: tuple[tuple[Binding, ...], tuple[Binding, ...]],
        into: Path,
    ) -> Artifact:
        import onnx

        details: Details = {"opset": opset(proto), "ir_version": proto.ir_version}
        if self.precision != "float32":
            samples = None
            if self.precision == "int8":
                specs = model.spec.inputs or tuple(
                    TensorSpec(name=b.name, dtype=b.dtype, shape=b.shape) for b in bindings[0]
                )
                samples = read_calibration(self.calibration, specs, self.calibration_samples)
            proto, details["quantization"] = lower(proto, self, samples)
            if self.precision == "int8" and not self.per_channel:
                details["precision"] = "int8, one scale a tensor"
        if proto.ByteSize() > LARGEST:
            raise ConversionError("onnx: models above 2 GB are not written")
        data = proto.SerializeToString(deterministic=True)
        onnx.checker.check_model(data)
        (into / FILE).write_bytes(data)
        return Artifact(
            "onnx", "onnx", into, FILE, *bindings, precision=self.precision, details=details
        )


def _kept(model: Model, into: Path) -> Artifact:
    facts = model.details
    files = facts.get("external_files")
    external = tuple(str(name) for name in files) if isinstance(files, list) else ()
    kept: Details = {key: facts[key] for key in ("opset", "ir_version") if key in facts}
    return keep(model, into, FILE, external=external, details=kept)


def _bindings(rows: tuple[tuple[str, Any], ...]) -> tuple[Binding, ...]:
    return tuple(Binding(k, k, dtype_name(s.dtype), static_shape(s.shape)) for k, s in rows)


def _convert(serving: Serving, opset: int) -> Any:
    """The model as an ONNX ModelProto; inputs and outputs are called by position until the end."""
    import tensorflow as tf
    from tf2onnx import tf_loader
    from tf2onnx.tfonnx import process_tf_graph

    function = serving.function
    inputs = serving.tensors()
    outputs = list(_first_outputs(function).values())
    tf_loader.tf_reset_default_graph()
    with _counted_nodes(), tf.device("/cpu:0"):
        graph_def, tables = tf_loader.from_trackable(
            serving.owner, function, [*inputs.values()], outputs, False
        )
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(graph_def, name="")
            renames = dict(zip(inputs.values(), given_names("input", len(inputs)), strict=True))
            renames |= {tensor: name for name, tensor in _first_outputs(function).items()}
            converted = process_tf_graph(
                graph,
                opset=opset,
                input_names=[*inputs.values()],
                output_names=outputs,
                initialized_tables=tables,
                tensors_to_rename=renames,
                custom_op_handlers={"Erfc": (_erfc, [])},
                continue_on_error=True,
            )
        return _optimized(converted)


@contextmanager
def _counted_nodes() -> Iterator[None]:
    """Let sets of tf2onnx' nodes follow a count instead of addresses: those change from run to run."""
    from tf2onnx.graph import Node

    numbers = count()

    def number(node: Any) -> int:
        if not hasattr(node, "_pipcook_number"):
            node._pipcook_number = next(numbers)
        return int(node._pipcook_number)

    Node.__hash__ = number
    try:
        yield
    finally:
        del Node.__hash__


def _optimized(graph: Any) -> Any:
    from tf2onnx import optimizer

    return optimizer.optimize_graph(graph, catch_errors=False).make_model("model")


def _first_outputs(function: Any) -> dict[str, str]:
    """Graph tensors of the outputs by given name; of several outputs that are one tensor the first."""
    names = given_names("output", len(function.outputs))
    tensors: dict[str, str] = {}
    for name, tensor in zip(names, function.outputs, strict=True):
        if tensor.name not in tensors.values():
            tensors[name] = tensor.name
    return tensors


def _repeat_outputs(proto: Any, function: Any) -> None:
    """Give the outputs that are one tensor with another output a node of their own."""
    from onnx import helper

    first = {tensor: name for name, tensor in _first_outputs(function).items()}
    rows = {value.name: value for value in proto.graph.output}
    names = given_names("output", len(function.outputs))
    for name, tensor in zip(names, function.outputs, strict=True):
        if name not in rows:
            proto.graph.node.append(helper.make_node("Identity", [first[tensor.name]], [name]))
            copy = proto.graph.output.add()
            copy.CopyFrom(rows[first[tensor.name]])
            copy.name = name


def _erfc(context: Any, node: Any, name: str, args: Any) -> Any:
    """Erfc is not in ONNX: 1 - Erf(x)."""
    import numpy as np
    from tf2onnx import utils

    source, outputs = node.input[0], node.output
    shape, dtype = context.get_shape(outputs[0]), context.get_dtype(outputs[0])
    context.remove_node(name)
    one = context.make_const(
        utils.make_name("one"), np.array(1.0, utils.map_onnx_to_numpy_type(dtype))
    )
    erf = context.make_node("Erf", [source], shapes=[shape], dtypes=[dtype])
    return context.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        name=name,
        outputs=outputs,
        shapes=[shape],
        dtypes=[dtype],
    )


def _slim(proto: Any) -> Any:
    import onnxslim

    slimmed = onnxslim.slim(proto)
    if slimmed is None:
        raise ConversionError(
            "onnxslim could not simplify the model", "run with: onnx.slim = false"
        )
    return slimmed


def _raise_opset(proto: Any, opset: int) -> Any:
    from onnx import version_converter

    try:
        return version_converter.convert_version(proto, opset)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ConversionError(
            f"the model cannot be raised to opset {opset}: {reason[:300]}",
            f"use onnx.opset = {NEWEST_BY_TF2ONNX} or less",
        ) from error


def _check(proto: Any) -> None:
    """Refuse operators that no ONNX operator set has: tf2onnx leaves what it cannot translate."""
    from onnx import defs

    known = {(schema.domain, schema.name) for schema in defs.get_all_schemas_with_history()}
    nodes = all_nodes(proto.graph)
    foreign = sorted({n.op_type for n in nodes if (_domain(n), n.op_type) not in known})
    if foreign:
        raise ConversionError(
            f"ONNX has no operator for: {', '.join(foreign)}",
            "keep this model as saved_model, or replace the layer that uses it",
        )


def _domain(node: Any) -> str:
    return "" if node.domain == "ai.onnx" else str(node.domain)
