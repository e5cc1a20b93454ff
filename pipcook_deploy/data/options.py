"""`[data]`: what a compression calibrates, learns and is judged with."""

from pathlib import Path

from pydantic import Field

from pipcook_deploy.options import Options


class DataOptions(Options):
    """Where the data is and how it is divided."""

    evaluation: Path | None = Field(default=None, description="Labelled samples to judge with.")
    evaluation_labels: Path | None = Field(default=None, description="Their labels, if in another file.")
    train: Path | None = Field(default=None, description="Samples to train again with.")
    train_labels: Path | None = None
    calibration: Path | None = Field(default=None, description="Samples for ranges of activations.")
    label: str = Field(default="label", description="Column or array of what is right.")
    calibration_samples: int = Field(default=200, ge=1)
    selection: float = Field(
        default=0.5, gt=0, lt=1, description="Share of the evaluation set that a search may see."
    )
    limit: int | None = Field(default=None, ge=1)
    train_limit: int | None = Field(default=None, ge=1)
    bad_limit: float = Field(default=0.01, ge=0, le=1)
    seed: int = Field(default=0, ge=0)
