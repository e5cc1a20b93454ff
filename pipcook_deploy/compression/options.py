"""`[budget]`: how much may be lost, and what is to be gained for it."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipcook_deploy.options import Options
from pipcook_deploy.text import did_you_mean

Goal = Literal["size", "latency", "balanced"]


class BudgetOptions(Options):
    """What a search may spend. Without `[budget]` nothing is searched and nothing refused."""

    metric: str | None = Field(
        default=None,
        description="What is measured; by default what suits the task: accuracy, map, psnr or rmse.",
    )
    max_drop: float = Field(
        default=0.005,
        ge=0,
        description="Most that the metric may lose, in its own unit: 0.005 of accuracy is half a point.",
    )
    goal: Goal = Field(
        default="size",
        description="size: bytes on the wire (brotli); latency: of one answer in the format's own runtime; "
        "balanced: the product of both.",
    )
    time_limit: float = Field(
        default=900, gt=0, description="Seconds after which the best found so far is taken."
    )
    sparsities: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.5, 0.7, 0.8, 0.85, 0.9),
        description="Shares of zero weights that are tried, in order.",
    )
    epochs: float = Field(
        default=2,
        gt=0,
        description="Fine-tuning after each step of pruning, if [data] has train; of a small set more.",
    )
    learning_rate: float = Field(
        default=5e-3, gt=0, description="Of the fine-tuning: Adam, falling to 0 by a cosine."
    )
    batch: int = Field(default=128, ge=1, description="Samples of a training step.")
    explore: int = Field(
        default=4,
        ge=0,
        description="Candidates measured after the winner, to show what else there is.",
    )
    seed: int = Field(default=0, ge=0, description="Of shuffling and dropout in the training.")

    @field_validator("metric")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        from pipcook_deploy.metrics import METRICS

        if value is not None and value not in METRICS:
            near = did_you_mean(value, METRICS)
            raise ValueError(f"there is no such metric{near}; there are {', '.join(METRICS)}")
        return value

    @field_validator("sparsities")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("must rise from one to the next")
        return value
