"""The TFLite converter: float32, float16, and with integers for weights or for everything."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.converter import Converter
from pipcook_deploy.converters.tflite_calibrate import activation_ranges, load_calibration
from pipcook_deploy.converters.tflite_float16 import with_half_floats
from pipcook_deploy.converters.tflite_layers import excluded, read_layers
from pipcook_deploy.converters.tflite_quantize import Precision as Quantized
from pipcook_deploy.converters.tflite_quantize import Quantization, quantized
from pipcook_deploy.converters.tflite_trained import convert_trained, is_trained
from pipcook_deploy.converters.tflite_unroll import longest_recurrence, unrolled
from pipcook_deploy.errors import ConversionError, UnsupportedConversionError
from pipcook_deploy.keep_source import keep
from pipcook_deploy.keras_io import load_keras
from pipcook_deploy.model import Model
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.saved_model_io import (
    DEFAULT,
    Serving,
    dtype_name,
    opened_signature,
    static_shape,
)
from pipcook_deploy.spec import Details

FILE = "model.tflite"
SMALL = 1024  # parameters of an operator whose integers would save nothing worth their error


class TfliteConverter(Converter):
    """Writes one `model.tflite` with a signature under the spec's names.

    A TFLite source is copied, or made smaller if its file is of floats. Every other precision is made from
    the float32 file: `tflite_layers.layers` tells the names of its operators, `details["excluded"]` of an
    artifact those that stayed float.
    """

    format: ClassVar[str] = "tflite"
    accepts: ClassVar[tuple[str, ...]] = ("tflite", "keras", "keras_h5", "saved_model")
    rewrites: ClassVar[bool] = True

    precision: Literal["float32", "float16", "dynamic", "int8", "int16x8"] = Field(
        default="float32",
        description="float16: half the size; dynamic: int8 weights; int8: weights and activations; "
        "int16x8: int8 weights and int16 activations, slower and nearer to float32.",
    )
    io: Literal["float32", "int8", "uint8"] = Field(
        default="float32", description="Element type of inputs and outputs of an int8 model."
    )
    exclude: tuple[str, ...] = Field(
        default=(),
        description="Operators that stay float: globs over the names of their outputs or weights in the "
        "float32 file.",
    )
    per_channel: bool = Field(
        default=True,
        description="A scale for each output channel of a kernel; one for all of it is smaller, and ruins "
        "kernels whose channels differ in size.",
    )
    strip: bool = Field(
        default=True,
        description="Leave the names of inner tensors out of a file that is not float32: no runtime reads them.",
    )
    calibration: Path | None = Field(
        default=None,
        description="Representative inputs for int8 and int16x8: .npz with one array per input, .npy for "
        "one input, or a folder of tensors.",
    )
    unroll_limit: int = Field(
        default=16,
        ge=0,
        description="Most steps of an LSTM or GRU that is written out; longer ones stay loops, which are "
        "smaller but take one sample at a time. int8 and int16x8 write out any.",
    )
    calibration_samples: int = Field(
        default=200, ge=1, description="Most samples of the calibration set that are used."
    )

    def accepted_from(self, details: Details) -> tuple[str, ...]:
        """A SavedModel is shared with other formats; loops must be written anew from the layers."""
        if details.get("recurrent") is False:
            return ("tflite", "saved_model", "keras", "keras_h5")
        return self.accepts

    def needs_tensorflow(self, source_format: str) -> bool:
        """Not for a TFLite file."""
        return source_format != "tflite"

    def uncompressed(self) -> "TfliteConverter":
        """float32, whose operators `exclude` names."""
        changed = {"precision": "float32", "io": "float32", "exclude": (), "calibration": None}
        return self.model_copy(update=changed)

    def candidates(self) -> tuple["TfliteConverter", ...]:
        """By size. int8 also with one scale a tensor: a tenth smaller, or useless, which is measured."""
        chosen = self.model_fields_set
        if "precision" in chosen:
            return (self,)
        precisions = ("dynamic", "int8", "int16x8", "float16")
        changes: list[dict[str, Any]] = [{"precision": precision} for precision in precisions]
        if "per_channel" not in chosen:
            changes.insert(0, {"precision": "int8", "per_channel": False})
        made = (self.model_copy(update=change) for change in changes)
        return (*made, self)

    def slowness(self) -> int:
        """int8 is the fastest; int16 activations are computed without vector instructions."""
        return {"int8": 0, "int16x8": 2}.get(self.precision, 1)

    def without(self, parts: Sequence[str]) -> "TfliteConverter | None":
        """With more operators left in float."""
        if self.precision not in get_args(Quantized):
            return None
        return self.model_copy(update={"exclude": tuple(dict.fromkeys((*self.exclude, *parts)))})

    def damage_call(self) -> str | None:
        """Only what has integers suffers from them."""
        if self.precision not in get_args(Quantized):
            return None
        return f"pipcook_deploy.converters.tflite_damage:{self.precision}_damage"

    def damage_options(self) -> dict[str, Any]:
        """One scale for a whole kernel does another damage than one for each channel."""
        return {"per_channel": self.per_channel}

    def convert(self, model: Model, into: Path) -> Artifact:
        """Write `model` below `into`.

        Raises `ConversionError` without a calibration set for int8 and int16x8, and for operators that TFLite
        has not.
        """
        self._check()
        # A SavedModel may bring the ranges of its activations with it.
        needed = model.format != "saved_model" or self.calibration is not None
        samples = self._samples(model) if needed else None
        if model.format == "tflite":
            return self._from_tflite(model, samples, into)
        with tempfile.TemporaryDirectory(dir=into) as scratch:
            folder = self._saved_model(model, Path(scratch))
            signature = model.signature if model.format == "saved_model" else None
            native = Model(folder, "saved_model", model.spec, signature=signature)
            with opened_signature(native) as serving:
                if model.format == "saved_model" and is_trained(serving):
                    data, more = self._trained(serving, samples)
                else:
                    data, more = self._plain(
                        serving, samples or self._samples(model), Path(scratch)
                    )
        details: Details = {"signature": serving.name, "io": self.io}
        (into / FILE).write_bytes(data)
        return Artifact(
            "tflite",
            "tflite",
            into,
            FILE,
            _bindings(serving.inputs, serving.plain),
            _bindings(serving.outputs, {}),
            precision=self.precision,
            details=details | more,
        )

    def _plain(
        self, serving: Serving, samples: Tensors | None, scratch: Path
    ) -> tuple[bytes, Details]:
        """The file of a model that computes in floats, and what was done to it."""
        try:
            data = self._convert(serving)
        except _LoopError:
            data = self._convert(_without_loops(serving, scratch))
        return self._smaller(data, samples, serving.name)

    def _trained(self, serving: Serving, samples: Tensors | None) -> tuple[bytes, Details]:
        """The same for a model that was trained with the rounding of int8: it can be nothing else."""
        if self.precision != "int8" or self.io != "float32" or self.exclude or not self.per_channel:
            raise ConversionError(
                "tflite: the model was trained with the rounding of int8, and cannot be written otherwise",
                "set tflite.precision = 'int8', and neither io, exclude nor per_channel",
            )
        return convert_trained(serving, samples, self.calibration_samples), {"trained": True}

    def _samples(self, model: Model) -> Tensors | None:
        return load_calibration(self.calibration, model.spec) if self._static else None

    @property
    def _static(self) -> bool:
        return self.precision in ("int8", "int16x8")

    def _check(self) -> None:
        if self.precision != "int8" and self.io != "float32":
            raise ConversionError(f"tflite: io = {self.io!r} is for precision = 'int8' only")
        if self.exclude and self.precision in ("float32", "float16"):
            raise ConversionError(
                f"tflite: exclude is for quantized models, the precision is {self.precision!r}",
                "set tflite.precision to dynamic, int8 or int16x8",
            )

    def _from_tflite(self, model: Model, samples: Tensors | None, into: Path) -> Artifact:
        kept = keep(model, into, FILE, details={"signature": model.signature})
        if self.precision == "float32":
            return kept
        data, more = self._smaller(model.path.read_bytes(), samples, model.signature)
        kept.file.write_bytes(data)
        details: Details = {"signature": model.signature, "io": self.io}
        return replace(kept, precision=self.precision, details=details | more)

    def _smaller(
        self, data: bytes, samples: Tensors | None, signature: str | None
    ) -> tuple[bytes, Details]:
        """The file in the wanted precision, and what was done to it."""
        if self.precision == "float32":
            return data, {}
        if self.precision == "float16":
            return with_half_floats(data, names=not self.strip), {}
        how = Quantization(self.precision, self.io, self.per_channel, names=not self.strip)
        found = read_layers(data)
        wanted = excluded(found, self.exclude)
        small = {layer.place for layer in found if 0 < layer.parameters < SMALL}
        floats = wanted if how.static else wanted | small
        most = self.calibration_samples
        ranges = {} if samples is None else activation_ranges(data, samples, signature, most)
        made, left = quantized(data, how, floats, ranges)
        details: Details = {
            "excluded": [row.name for row in found if row.place in left - (floats - wanted)],
            "per_channel": self.per_channel,
        }
        if not self.per_channel:
            details["precision"] = f"{self.precision}, one scale a tensor"
        return made, details

    def _saved_model(self, model: Model, scratch: Path) -> Path:
        """A SavedModel that TFLite can take: recurrences written out, or with a batch of one."""
        if model.format == "saved_model":
            return model.path
        from pipcook_deploy.saved_model_export import export_keras

        keras_model = load_keras(model)
        steps = longest_recurrence(keras_model)
        batch = None
        if steps is not None and (steps <= self.unroll_limit or self._static):
            keras_model = unrolled(keras_model)
        elif steps is not None:
            batch = 1
        export_keras(model.with_spec(labels=()), keras_model, scratch, batch)
        return scratch

    def _convert(self, serving: Serving) -> bytes:
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(serving.folder), signature_keys=[serving.name]
        )
        try:
            return bytes(converter.convert())
        except (RuntimeError, ValueError) as error:
            raise _explained(error) from error
        except Exception as error:
            if type(error).__name__ != "ConverterError":
                raise
            if "TensorList" in str(error) or "tensor list" in str(error):
                raise _LoopError from error
            raise _explained(error) from error


def _bindings(rows: tuple[tuple[str, Any], ...], names: Mapping[str, str]) -> tuple[Binding, ...]:
    """TFLite signatures keep the parameter names; what a runtime sees is float, whatever is inside."""
    return tuple(
        Binding(k, names.get(k, k), dtype_name(s.dtype), static_shape(s.shape)) for k, s in rows
    )


class _LoopError(Exception):
    """TFLite cannot take the loops of a SavedModel."""


def _without_loops(serving: Serving, scratch: Path) -> Serving:
    from pipcook_deploy.converters.tflite_unroll import unrolled_saved_model

    folder = scratch / "without_loops"
    try:
        unrolled_saved_model(serving, folder)
    except UnsupportedConversionError as error:
        raise ConversionError(
            f"tflite: the SavedModel has loops (LSTM, GRU) that cannot be written out: {error.message}",
            "convert from the .keras or .h5 file, with a fixed number of steps",
        ) from error
    return replace(serving, folder=folder, name=DEFAULT)


def _explained(error: Exception) -> ConversionError:
    text = str(error)
    missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", text)))
    if missing:
        return ConversionError(
            f"tflite: TFLite has no operator for: {', '.join(missing)}",
            "keep this model as saved_model, or compute that before the model",
        )
    found = [line for line in text.splitlines() if "error:" in line or "Ops:" in line]
    lines = found or text.strip().splitlines() or [type(error).__name__]
    return ConversionError(f"tflite: {lines[0][:400]}")
