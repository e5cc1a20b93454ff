"""Makes models and artifacts of a source; whatever was made is remembered, also for the next run."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipcook_deploy.compression.candidates import SOURCE, Build, Variant
from pipcook_deploy.compression.journal import Journal
from pipcook_deploy.compression.model_pass import ModelPass, PassResult
from pipcook_deploy.converter import Converter
from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import CompressionError, ConversionError
from pipcook_deploy.files import files_below
from pipcook_deploy.jobs.workers import WorkerError, Workers
from pipcook_deploy.model import Model
from pipcook_deploy.planner import Step, plan
from pipcook_deploy.sources.files import source_hash

if TYPE_CHECKING:
    from pipcook_deploy.data.prepared import PreparedData

KERAS = ("keras", "keras_h5")
JUDGING = "pipcook_deploy.compression.judging"


@dataclass
class Workshop:
    """The source, its data, and the processes that do the work."""

    source: Model
    data: "PreparedData"
    metric: str
    journal: Journal
    workers: Workers
    installed: Sequence[type[Converter]]

    # ---- models

    def source_variant(self) -> Variant:
        """The source as it is."""
        return Variant(SOURCE, SOURCE, self.source)

    def trainable(self) -> Model | None:
        """The source as a Keras model, which passes can change; None if it is none and becomes none."""
        if self.source.format in KERAS:
            return self.source
        wanted = _layer_writer(self.source, self.installed)
        return None if wanted is None else self.after(self.source_variant(), Step(wanted, None))

    def apply(
        self,
        model_pass: ModelPass,
        before: Variant,
        train: Split | None,
        key: str | None = None,
        label: str | None = None,
    ) -> Variant:
        """The variant that a pass makes of another. Raises `CompressionError`."""
        options = model_pass.model_dump(mode="json")
        done = {
            "name": model_pass.name,
            "options": options,
            "model": before.model.to_json(),
            "train": None if train is None else train.to_json(),
        }
        key = key or f"{before.key}>{model_pass.name}{short_name(options)}"
        result = self.made_by(f"{JUDGING}:apply_pass", done, key)
        return Variant(
            key,
            label or _joined(before.label, model_pass.name),
            replace(result.model, spec=self.source.spec),
            (*before.passes, model_pass.name),
            _number(result.details.get("sparsity")),
            result.details,
        )

    def made_by(self, function: str, arguments: dict[str, Any], key: str) -> PassResult:
        """What a worker function that changes a model made; it is told where by `into`."""

        def make() -> Any:
            into = self.journal.place(f"models/{short_name(key)}")
            return self.call(function, arguments | {"into": str(into)}, heavy=True)

        try:
            return PassResult.from_json(self.journal.remember(f"pass {key}", make))
        except WorkerError as error:
            raise CompressionError(f"{key}: {error}", error.tail()) from error

    def worked_out(self, function: str, arguments: dict[str, Any], key: str, *, heavy: bool) -> Any:
        """The JSON value of a worker function, computed once. Raises `CompressionError` if it dies."""
        try:
            return self.journal.remember(key, lambda: self.call(function, arguments, heavy=heavy))
        except WorkerError as error:
            raise CompressionError(
                f"{function.partition(':')[2]}: {error}", error.tail()
            ) from error

    # ---- artifacts

    def build(self, variant: Variant, converter: Converter) -> Build:
        """The artifact that a converter writes of a variant. Raises `ConversionError`."""
        key = f"{variant.key} {converter.format} {_text(converter)}"
        value = self.journal.remember(f"build {key}", lambda: self._build(variant, converter, key))
        if "failed" in value:
            raise ConversionError(value["failed"])
        return Build(
            key, variant, converter, value["artifact"], tuple(value["chain"]), value["files"]
        )

    def _build(self, variant: Variant, converter: Converter, key: str) -> dict[str, Any]:
        try:
            artifact, chain = self._artifact(variant, converter, key)
        except ConversionError as error:
            if isinstance(error.__cause__, WorkerError):  # killed, or out of memory: not for ever
                raise
            return {"failed": error.message}  # remembered too: the next run would fail alike
        arguments = {"folder": artifact["path"]}
        files = self.call("pipcook_deploy.steps:measure_files", arguments, heavy=False)
        return {"artifact": artifact, "chain": chain, "files": files}

    def _artifact(
        self, variant: Variant, converter: Converter, key: str
    ) -> tuple[dict[str, Any], list[str]]:
        plain = converter.uncompressed()
        if converter.rewrites and _text(plain) != _text(converter):
            base = self.build(variant, plain)
            artifact = self._convert(converter, _as_model(base, self.source), key)
            # It is the same graph: what its tensors are called was settled when it was first written.
            names = {part: base.artifact[part] for part in ("inputs", "outputs")}
            return artifact | names, [*base.chain]
        step = plan(variant.model.format, [converter], self.installed, variant.model.details)
        last = step[converter.format]
        before = variant.model if last.after is None else self.after(variant, last.after)
        chain = [part.converter.format for part in last.chain]
        start = [self.source.format, *_missing_link(self.source, variant), *variant.passes]
        return self._convert(converter, before, key), start + chain

    def after(self, variant: Variant, step: Step) -> Model:
        """The model that a chain of conversions ends with."""
        before = variant.model if step.after is None else self.after(variant, step.after)
        key = f"{variant.key} step {step.key}"
        artifact = self.journal.remember(key, lambda: self._convert(step.converter, before, key))
        path = Path(artifact["path"])
        entry = path if artifact["entry"] == "." else path / artifact["entry"]
        signature = artifact["details"].get("signature")
        return replace(before, path=entry, format=step.converter.writes(), signature=signature)

    def _convert(self, converter: Converter, model: Model, key: str) -> dict[str, Any]:
        options = converter.model_dump(mode="json")
        if options.get("calibration", "") is None:
            options["calibration"] = str(self.calibration())
            if "calibration_samples" not in converter.model_fields_set:
                options["calibration_samples"] = self.data.splits["calibration"].count
        arguments = {
            "converter": converter.format,
            "options": options,
            "model": model.to_json(),
            "into": str(self.journal.place(f"artifacts/{short_name(key)}")),
        }
        heavy = converter.needs_tensorflow(model.format)
        try:
            made: dict[str, Any] = self.call("pipcook_deploy.steps:convert", arguments, heavy=heavy)
        except WorkerError as error:
            raise ConversionError(f"{converter.format}: {error}", error.tail()) from error
        return made

    def calibration(self) -> Path:
        """The calibration split as the .npz that converters read."""
        path = self.journal.folder / "calibration.npz"

        def write() -> None:
            import numpy as np

            inputs = self.data.splits["calibration"].inputs()
            np.savez(path, **inputs)

        self.journal.remember(f"calibration {self.data.sha256}", write)
        return path

    def call(self, function: str, arguments: dict[str, Any], *, heavy: bool) -> Any:
        return self.workers.call(function, arguments, heavy=heavy)


def require_layers(source: Model, installed: Sequence[type[Converter]]) -> None:
    """Raises `CompressionError` for a source that passes cannot change."""
    if source.format in KERAS or _layer_writer(source, installed) is not None:
        return
    raise CompressionError(
        f"{source.format} models cannot be changed by passes: they have no layers to work on",
        "start from the Keras file, or leave [[compress]] out",
    )


def _layer_writer(source: Model, installed: Sequence[type[Converter]]) -> Converter | None:
    """What makes a Keras file of a source that has layers but is none."""
    wanted = [kind() for kind in installed if kind.format == "keras_h5"]
    return wanted[0] if wanted and source.format in wanted[0].accepted() else None


def _as_model(base: Build, source: Model) -> Model:
    artifact = base.made
    signature = artifact.details.get("signature")
    return replace(
        source,
        path=artifact.file,
        format=artifact.model_format,
        signature=signature if isinstance(signature, str) else None,
        details={},
    )


def _missing_link(source: Model, variant: Variant) -> list[str]:
    """The format that passes needed the source in, if it was another."""
    changed = variant.passes and not source.format.startswith("keras")
    return ["keras_h5"] if changed else []


def _joined(label: str, more: str) -> str:
    return more if label == SOURCE else f"{label}, {more}"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _text(converter: Converter) -> str:
    """All that a converter's result depends on: its options, and what is in the files that they name."""
    files = {name: _content(path) for name, path in converter if isinstance(path, Path)}
    return json.dumps(converter.model_dump(mode="json") | files, sort_keys=True)


def _content(path: Path) -> str:
    files = files_below(path) if path.is_dir() else [path] if path.exists() else []
    return source_hash(files, path if path.is_dir() else None)


def short_name(value: Any) -> str:
    """A name for a folder."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
