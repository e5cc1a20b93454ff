"""What a recipe says about timing."""

import os
from typing import Annotated

from pydantic import Field

from pipcook_deploy.options import Options

Batch = Annotated[int, Field(ge=1, le=4096)]


class BenchOptions(Options):
    """The table `[bench]`."""

    enabled: bool = Field(default=True, description="Time every artifact of a compression.")
    batch_sizes: tuple[Batch, ...] = Field(
        default=(1,), min_length=1, description="Samples answered at once; each is timed."
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="Threads of a runtime; all cores by default."
    )
    seconds: float = Field(
        default=1.0, gt=0, le=600, description="Seconds a measurement lasts; thrice if unstable."
    )
    warm_up: float = Field(default=0.3, ge=0, le=600, description="Seconds of calls before.")

    @property
    def used_threads(self) -> int:
        """Threads to time with: as many as were asked for, or as this process may use."""
        return self.threads or available_cores()


def available_cores() -> int:
    """Cores that this process may run on, at least one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
