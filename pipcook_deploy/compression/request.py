"""What a compression is asked to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipcook_deploy.bench.options import BenchOptions
from pipcook_deploy.compression.model_pass import ModelPass
from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.data.options import DataOptions


@dataclass(frozen=True)
class CompressionRequest:
    """The data, what may be lost, and passes that the user chose instead of the search's own.

    Without a budget the passes are applied, measured and reported, and nothing is refused. `given` holds data
    from Python by role ("evaluation", "train", "calibration"): an iterable or a tf.data.Dataset.
    """

    data: DataOptions
    budget: BudgetOptions | None = None
    passes: tuple[ModelPass, ...] = ()
    bench: BenchOptions = field(default_factory=BenchOptions)
    given: Mapping[str, Any] = field(default_factory=dict)
