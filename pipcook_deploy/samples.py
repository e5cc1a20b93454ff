"""Golden samples: what every artifact is tried with, from the user's data or drawn from the spec."""

import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from pydantic import Field

from pipcook_deploy.errors import UsageError
from pipcook_deploy.options import Options
from pipcook_deploy.preprocess.operations import Operation
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec, TensorSpec
from pipcook_deploy.text import did_you_mean

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
DYNAMIC_AXIS = 32  # length given to an axis that the spec leaves open (the batch axis aside)


class SampleOptions(Options):
    """Where samples come from, and how many stay in the bundle."""

    path: Path | None = Field(
        default=None,
        description="Folder of images (by class, or flat) or .npz/.npy of tensors; none: random.",
    )
    count: int = Field(default=16, ge=1, le=1024, description="Golden samples kept in the bundle.")
    limit: int = Field(default=1000, ge=1, description="Samples used at most.")
    seed: int = Field(default=0, ge=0, description="Seed of random samples and of the choice.")


@dataclass(frozen=True)
class Samples:
    """`inputs` are the model's own tensors, batch axis first; the first `golden` stay in the bundle.

    `encoded` are the bytes that a caller would send (image files, texts) for the golden ones, as far as
    the spec declares how they become tensors; `labels` are positions in the spec's labels.
    """

    inputs: Tensors
    golden: int
    origin: str
    labels: list[int] | None = None
    encoded: list[tuple[str, bytes]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def make_samples(
    spec: ModelSpec, options: SampleOptions, ids: Mapping[str, int] | None = None
) -> Samples:
    """Samples for a model, deterministic for a seed.

    `ids` are the vocabulary sizes of inputs that an embedding reads: whole numbers below them are drawn,
    whatever type the input declares.

    Raises `UsageError` when the data does not fit the spec, naming the file.
    """
    if options.path is None:
        return _random(spec, options, ids or {})
    path = options.path
    if not path.exists():
        raise UsageError(f"[samples] path: {path} does not exist")
    if path.is_dir():
        return _from_images(spec, path, options)
    if path.suffix in (".npz", ".npy") and path.is_file():
        return _from_arrays(spec, path, options)
    raise UsageError(f"[samples] path: {path} is neither a folder of images nor .npz/.npy")


# ---- the user's data


def _from_images(spec: ModelSpec, folder: Path, options: SampleOptions) -> Samples:
    import numpy as np

    name = _image_input(spec)
    files = _choose(image_files(folder), options)
    if not files:
        raise UsageError(f"[samples] path: no images below {folder}")
    labels = _labels(spec, folder, files)
    try:
        contents = [path.read_bytes() for path in files]
    except OSError as error:
        raise UsageError(f"[samples] path: {error.filename}: {error.strerror}") from error
    tensors = [
        _prepared(spec.preprocessing[name], content, path)
        for path, content in zip(files, contents, strict=True)
    ]
    golden = min(options.count, len(files))
    encoded = [
        (f"{number:03d}{path.suffix.lower()}", content)
        for number, (path, content) in enumerate(zip(files[:golden], contents, strict=False))
    ]
    inputs = {name: _checked(spec, name, np.stack(tensors))}
    return Samples(inputs, golden, f"images: {folder.name}", labels, encoded)


def _checked(spec: ModelSpec, name: str, batch: Any) -> Any:
    tensor = next(tensor for tensor in spec.inputs if tensor.name == name)
    if batch.ndim != len(tensor.shape) or not tensor.matches(
        (tensor.shape[0] or 1, *batch.shape[1:])
    ):
        raise UsageError(
            f"model: preprocessing: gives {list(batch.shape[1:])} for one sample, the input {name!r} "
            f"takes {list(tensor.shape[1:])}"
        )
    return batch.astype(tensor.dtype)


def _prepared(operations: tuple[Operation, ...], content: bytes, path: Path) -> Any:
    from pipcook_deploy.preprocess.errors import PreprocessingError
    from pipcook_deploy.preprocess.execute import prepare

    try:
        return prepare(operations, content)
    except PreprocessingError as error:
        raise UsageError(f"[samples] path: {path}: {error.message}", error.hint) from error


def _image_input(spec: ModelSpec) -> str:
    for name, operations in spec.preprocessing.items():
        if operations and operations[0].op == "decode" and len(spec.inputs) == 1:
            return name
    raise UsageError(
        "[samples] path: a folder of images needs a model with one input whose preprocessing starts "
        "with decode",
        "add [[model.preprocessing]] tables to the recipe, or give the tensors as .npz",
    )


def image_files(folder: Path) -> list[Path]:
    """Pictures below a folder, sorted by their relative names."""
    found = (
        path
        for path in folder.rglob("*")
        # Not what file managers leave (`._a.png`), nor folders and pipes that are called so.
        if path.suffix.lower() in IMAGES and not path.name.startswith(".") and path.is_file()
    )
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _choose(files: list[Path], options: SampleOptions) -> list[Path]:
    import numpy as np

    order = np.random.default_rng(options.seed).permutation(len(files))
    return [files[number] for number in order[: options.limit]]


def _labels(spec: ModelSpec, folder: Path, files: list[Path]) -> list[int] | None:
    classes = [path.relative_to(folder).parts[:-1] for path in files]
    if not spec.labels or not all(classes):
        return None
    position = {as_folder(label): number for number, label in enumerate(spec.labels)}
    unknown = sorted({parts[0] for parts in classes if parts[0] not in position})
    if unknown:
        raise UsageError(
            f"[samples] path: {folder / unknown[0]}: is not one of the model's labels"
            + did_you_mean(unknown[0], position)
        )
    return [position[parts[0]] for parts in classes]


def as_folder(label: str) -> str:
    """A label as a folder name: what file systems forbid becomes "_"."""
    return "".join("_" if character in '/\\:*?"<>|' else character for character in label)


def _from_arrays(spec: ModelSpec, path: Path, options: SampleOptions) -> Samples:
    import numpy as np

    arrays: dict[str, Any]
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                arrays = {spec.inputs[0].name: loaded}
            else:
                arrays = {name: loaded[name] for name in loaded.files}
    except (OSError, EOFError, MemoryError, ValueError, BadZipFile, zlib.error) as error:
        raise UsageError(f"[samples] path: {path}: {error}") from error
    labels = arrays.pop("labels", None) if "labels" not in _names(spec) else None
    inputs = {tensor.name: _fit(tensor, arrays, path)[: options.limit] for tensor in spec.inputs}
    lengths = {len(value) for value in inputs.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise UsageError(f"[samples] path: {path}: arrays of {sorted(lengths)} samples")
    count = lengths.pop()
    if labels is not None and (
        labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) < count
    ):
        raise UsageError(f"[samples] path: {path}: 'labels' is not a whole number for each sample")
    chosen = None if labels is None else [int(label) for label in labels[:count]]
    return Samples(inputs, min(options.count, count), f"arrays: {path.name}", chosen)


def _names(spec: ModelSpec) -> list[str]:
    return [tensor.name for tensor in spec.inputs]


def _fit(tensor: TensorSpec, arrays: dict[str, Any], path: Path) -> Any:
    if tensor.name not in arrays:
        raise UsageError(
            f"[samples] path: {path}: no array called {tensor.name!r} (found: {', '.join(arrays)})"
        )
    value = arrays[tensor.name]
    if value.ndim != len(tensor.shape) or not all(
        want in (None, got) for want, got in zip(tensor.shape[1:], value.shape[1:], strict=True)
    ):
        raise UsageError(
            f"[samples] path: {path}: {tensor.name!r} is {list(value.shape)}, "
            f"the model takes {list(tensor.shape)}"
        )
    if tensor.dtype != "string" and value.dtype.kind not in "biuf":
        raise UsageError(
            f"[samples] path: {path}: {tensor.name!r} is {value.dtype}, the model takes {tensor.dtype}"
        )
    return value if tensor.dtype == "string" else value.astype(tensor.dtype)


# ---- drawn from the spec


def check_preprocessing(spec: ModelSpec) -> None:
    """Raises `UsageError` when an image of any size, preprocessed, does not fit its input.

    Without a resize the size is the caller's image's, and only the run can tell.
    """
    import numpy as np

    from pipcook_deploy.preprocess.execute import prepare_batch

    for tensor in spec.inputs:
        operations = spec.preprocessing.get(tensor.name, ())
        names = [operation.op for operation in operations]
        if names[:1] == ["decode"] and "resize" in names:
            image = _random_png(np.random.default_rng(0))
            _checked(spec, tensor.name, prepare_batch(operations, [image]))


def _random(spec: ModelSpec, options: SampleOptions, ids: Mapping[str, int]) -> Samples:
    import numpy as np

    rng = np.random.default_rng(options.seed)
    inputs, encoded = {}, []
    for tensor in spec.inputs:
        operations = spec.preprocessing.get(tensor.name, ())
        if operations and operations[0].op == "decode":
            from pipcook_deploy.preprocess.execute import prepare_batch

            images = [_random_png(rng) for _ in range(options.count)]
            inputs[tensor.name] = _checked(spec, tensor.name, prepare_batch(operations, images))
            if len(spec.inputs) == 1:
                encoded = [(f"{number:03d}.png", data) for number, data in enumerate(images)]
        else:
            inputs[tensor.name] = _random_tensor(tensor, rng, options.count, ids.get(tensor.name))
    return Samples(inputs, options.count, f"random, seed {options.seed}", None, encoded)


def _random_tensor(tensor: TensorSpec, rng: Any, count: int, ids: int | None) -> Any:
    import numpy as np

    shape = (count, *(DYNAMIC_AXIS if axis is None else axis for axis in tensor.shape[1:]))
    dtype = tensor.dtype
    if ids is not None:
        return rng.integers(0, ids, shape).astype(dtype)
    if dtype == "string":
        words = np.array(["the", "quick", "brown", "fox", "jumps", "", "über", "42"], dtype=object)
        return words[rng.integers(0, len(words), shape)]
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if dtype.startswith(("int", "uint")):
        # Small ids: what an integer input usually indexes is a vocabulary of unknown size.
        return rng.integers(0, 8, shape).astype(dtype)
    if len(shape) == 4:
        return rng.random(shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _random_png(rng: Any) -> bytes:
    """A smooth picture with some noise: closer to what models see than white noise is."""
    import numpy as np
    from PIL import Image

    height, width = (int(side) for side in rng.integers(48, 97, 2))
    coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth, dtype=np.int16) + rng.integers(-12, 13, (height, width, 3))
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
