"""How sparse each kernel becomes: from a pass's options to numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from pipcook_deploy.compression.keras_layers import Array, Care, Kernel
from pipcook_deploy.compression.masks import (
    Mask,
    layer_sparsities,
    magnitude_mask,
    polynomial,
    sparsity_of,
    two_of_four,
)
from pipcook_deploy.errors import CompressionError
from pipcook_deploy.text import did_you_mean

Pattern = Literal["unstructured", "2:4"]
RAMP = 0.5  # of a training: sparsity grows, then the kept weights settle
UPDATE_EVERY = 20  # steps between new masks while it grows
CAREFUL: dict[Care, float] = {"depthwise": 0.0, "first": 0.5, "last": 0.5}


@dataclass(frozen=True)
class Plan:
    """The sparsity of each kernel that is pruned, and why others are not."""

    sparsities: dict[str, float]
    notes: tuple[str, ...] = ()
    pattern: Pattern = "unstructured"

    def masks(
        self,
        kernels: Sequence[Kernel],
        share: float = 1.0,
        start: Mapping[str, float] | None = None,
    ) -> dict[str, Mask]:
        """What is kept, by the present weights; at `share` of the way from `start` (0) to the plan."""
        begin = start or {}
        values = {k.name: (k, k.get()) for k in kernels if k.name in self.sparsities}
        if self.pattern == "2:4":  # all of it or nothing, from the start
            return {name: two_of_four(v, input_axis(k)) for name, (k, v) in values.items()}
        return {
            name: magnitude_mask(value, self._between(begin.get(name, 0.0), name, share))
            for name, (_, value) in values.items()
        }

    def _between(self, start: float, name: str, share: float) -> float:
        return start + (max(self.sparsities[name], start) - start) * share


class Growing:
    """Masks whose sparsity grows from what is there now to a plan, over the first part of a training."""

    def __init__(self, kernels: Sequence[Kernel], todo: Plan) -> None:
        self._kernels, self._plan = kernels, todo
        self._start = {k.name: sparsity_of(k.get()) for k in kernels}

    def __call__(self, step: int, steps: int) -> dict[str, Mask] | None:
        """The masks from `step` of `steps` on; None where they stay as they are."""
        ramp = max(int(steps * RAMP), 1)
        if step > ramp or (step % UPDATE_EVERY and step != ramp):
            return None
        return self._plan.masks(self._kernels, polynomial(step, ramp, 0.0, 1.0), self._start)


def plan(
    kernels: Sequence[Kernel],
    sparsity: float | Mapping[str, float],
    *,
    scope: str = "global",
    pattern: Pattern = "unstructured",
    careful: Mapping[Care, float] = CAREFUL,
    skip: Sequence[str] = (),
) -> Plan:
    """A number is the sparsity of all kernels together that need no care; the others get their factor of it.

    A mapping names kernels by pattern and says exactly how sparse each is; what it does not name stays as it is.
    Raises `CompressionError` for a pattern that fits no kernel.
    """
    left = [k for k in kernels if not any(fnmatchcase(k.name, glob) for glob in skip)]
    _check_globs([k.name for k in kernels], skip)
    notes = [f"{k.name}: left alone, as `skip` says" for k in kernels if k not in left]
    if isinstance(sparsity, Mapping):
        _check_globs([k.name for k in kernels], sparsity)
        chosen = {k.name: _match(k.name, sparsity) for k in left}
    else:
        chosen = dict(_by_number(left, sparsity, scope, careful))
    if pattern == "2:4":
        if not isinstance(sparsity, Mapping):  # half of a kernel is dropped or nothing
            spared = {k.name for k in left if k.care and careful.get(k.care, 1.0) < 1}
            spared = spared if spared != {*chosen} else set()
            chosen = {name: 0.0 if name in spared else sparsity for name in chosen}
        small = [k.name for k in left if chosen[k.name] and k.shape[input_axis(k)] < 4]
        notes += [f"{name}: left alone, fewer than four input channels" for name in small]
        chosen = {name: 0.5 if s and name not in small else 0.0 for name, s in chosen.items()}
    if not isinstance(sparsity, Mapping):
        cared = [k for k in left if k.care and not chosen[k.name]]
        notes += [f"{k.name}: left alone, it is a {k.care} kernel" for k in cared]
    return Plan({name: s for name, s in chosen.items() if s > 0}, tuple(notes), pattern)


def input_axis(kernel: Kernel) -> int:
    """The axis that the layer's product sums over: input channels; rows for matrices.

    [.., in, out] for dense, recurrent and convolution kernels, [h, w, out, in] for transposed ones. Depthwise
    kernels sum over no channels: their taps come first.
    """
    if kernel.kind.endswith("Transpose"):
        return len(kernel.shape) - 1
    if kernel.kind == "EinsumDense":
        return 0
    if kernel.kind == "Embedding":
        return 1
    return max(len(kernel.shape) - 2, 0)


def _by_number(
    kernels: Sequence[Kernel], sparsity: float, scope: str, careful: Mapping[Care, float]
) -> list[tuple[str, float]]:
    plain: dict[str, Array] = {k.name: k.get() for k in kernels if k.care is None}
    if not plain:  # a model of nothing but ends: care would leave all of it alone
        plain, careful = {k.name: k.get() for k in kernels}, {}
    found = dict.fromkeys(plain, sparsity)
    if scope == "global" and sparsity > 0:
        found = layer_sparsities(plain, sparsity)
    rows = [(k.name, found[k.name]) for k in kernels if k.name in found]
    return rows + [
        (k.name, sparsity * careful.get(k.care, 1.0))
        for k in kernels
        if k.care is not None and k.name not in found
    ]


def _match(name: str, sparsity: Mapping[str, float]) -> float:
    """A kernel's own name counts before patterns, of which the first counts."""
    if name in sparsity:
        return sparsity[name]
    return next((value for glob, value in sparsity.items() if fnmatchcase(name, glob)), 0.0)


def _check_globs(names: Sequence[str], globs: Sequence[str] | Mapping[str, float]) -> None:
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise CompressionError(
                f"no kernel is called {glob!r}{did_you_mean(glob, names)}",
                f"the kernels are: {', '.join(names)}",
            )
