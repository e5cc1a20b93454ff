"""The TFLite converter: float32, float16, dynamic-range and full int8."""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.converter import Converter
from pipcook_deploy.converters.tflite_unroll import longest_recurrence, unrolled
from pipcook_deploy.errors import ConversionError, UnsupportedConversionError
from pipcook_deploy.keep_source import keep
from pipcook_deploy.keras_io import load_keras
from pipcook_deploy.model import Model
from pipcook_deploy.saved_model_io import (
    DEFAULT,
    Serving,
    dtype_name,
    opened_signature,
    static_shape,
)
from pipcook_deploy.spec import Details

FILE = "model.tflite"


class TfliteConverter(Converter):
    """Writes one `model.tflite` with a signature under the spec's names; a TFLite source is copied."""

    format: ClassVar[str] = "tflite"
    accepts: ClassVar[tuple[str, ...]] = ("tflite", "keras", "keras_h5", "saved_model")

    precision: Literal["float32", "float16", "dynamic", "int8"] = Field(
        default="float32",
        description="float16: half the size; dynamic: int8 weights; int8: weights and activations.",
    )
    io: Literal["float32", "int8", "uint8"] = Field(
        default="float32", description="Element type of inputs and outputs of an int8 model."
    )
    calibration: Path | None = Field(
        default=None,
        description="Representative inputs for int8: .npz with one array per input, or .npy for one input.",
    )
    unroll_limit: int = Field(
        default=16,
        ge=0,
        description="Most steps of an LSTM or GRU that is written out; longer ones stay loops, which are "
        "smaller but take one sample at a time. int8 writes out any.",
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
        """Not for a copy."""
        return source_format != "tflite"

    def convert(self, model: Model, into: Path) -> Artifact:
        """Write `model` below `into`.

        Raises `ConversionError` without a calibration set for int8, and for operators that TFLite has not.
        """
        if model.format == "tflite":
            return self._kept(model, into)
        samples = self._calibration(model) if self.precision == "int8" else None
        if self.precision != "int8" and self.io != "float32":
            raise ConversionError(f"tflite: io = {self.io!r} is for precision = 'int8' only")
        with tempfile.TemporaryDirectory(dir=into) as scratch:
            folder = self._saved_model(model, Path(scratch))
            signature = model.signature if model.format == "saved_model" else None
            native = Model(folder, "saved_model", model.spec, signature=signature)
            with opened_signature(native) as serving:
                try:
                    data = self._convert(serving, samples)
                except _LoopError:
                    data = self._convert(_without_loops(serving, Path(scratch)), samples)
        (into / FILE).write_bytes(data)
        return Artifact(
            "tflite",
            "tflite",
            into,
            FILE,
            _bindings(serving.inputs, serving.plain),
            _bindings(serving.outputs, {}),
            precision=self.precision,
            details={"signature": serving.name, "io": self.io},
        )

    def _kept(self, model: Model, into: Path) -> Artifact:
        if self.precision != "float32":
            raise ConversionError(
                f"tflite: a TFLite source is copied; it cannot be written in {self.precision}",
                "start from the Keras file or the SavedModel that it was made from",
            )
        return keep(model, into, FILE, details={"signature": model.signature})

    def _saved_model(self, model: Model, scratch: Path) -> Path:
        """A SavedModel that TFLite can take: recurrences written out, or with a batch of one."""
        if model.format == "saved_model":
            return model.path
        from pipcook_deploy.saved_model_export import export_keras

        keras_model = load_keras(model)
        steps = longest_recurrence(keras_model)
        batch = None
        if steps is not None and (steps <= self.unroll_limit or self.precision == "int8"):
            keras_model = unrolled(keras_model)
        elif steps is not None:
            batch = 1
        export_keras(model.with_spec(labels=()), keras_model, scratch, batch)
        return scratch

    def _convert(self, serving: Serving, samples: dict[str, Any] | None) -> bytes:
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(serving.folder), signature_keys=[serving.name]
        )
        if self.precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if self.precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if samples is not None:
            converter.representative_dataset = self._feed(serving, samples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            kinds = {"float32": tf.float32, "int8": tf.int8, "uint8": tf.uint8}
            converter.inference_input_type = kinds[self.io]
            converter.inference_output_type = kinds[self.io]
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

    def _feed(
        self, serving: Serving, samples: dict[str, Any]
    ) -> Callable[[], Iterator[tuple[str, dict[str, Any]]]]:
        count = min(len(next(iter(samples.values()))), self.calibration_samples)

        def generate() -> Iterator[tuple[str, dict[str, Any]]]:
            for row in range(count):
                rows = {name: value[row : row + 1] for name, value in samples.items()}
                yield serving.name, {serving.plain[name]: v for name, v in rows.items()}

        return generate

    def _calibration(self, model: Model) -> dict[str, Any]:
        import numpy as np

        if self.calibration is None:
            raise ConversionError(
                "tflite: int8 needs a calibration set",
                "set tflite.calibration to an .npz with an array for each input",
            )
        try:
            loaded = np.load(self.calibration, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ConversionError(
                f"{self.calibration}: is not a calibration set: {error}"
            ) from error
        specs = {t.name: t for t in model.spec.inputs}
        if isinstance(loaded, np.ndarray):
            if len(specs) != 1:
                raise ConversionError(
                    f"{self.calibration}: is one array, the model has {len(specs)} inputs",
                    f"give an .npz with {', '.join(specs)}",
                )
            samples = {next(iter(specs)): loaded}
        else:
            samples = {name: loaded[name] for name in loaded.files}
        return {
            name: _fitting(samples, name, spec, self.calibration) for name, spec in specs.items()
        }


def _fitting(samples: dict[str, Any], name: str, spec: Any, path: Path) -> Any:
    if name not in samples:
        raise ConversionError(f"{path}: has no array called {name!r} (found: {', '.join(samples)})")
    value = samples[name].astype(spec.dtype)
    if len(value) == 0 or not spec.matches((spec.shape[0] or len(value), *value.shape[1:])):
        raise ConversionError(
            f"{path}: {name}: has shape {list(value.shape)}, the model wants {list(spec.shape)}"
        )
    return value


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
