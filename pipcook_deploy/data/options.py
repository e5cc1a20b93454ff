"""`[data]`: where samples are, and how they are divided."""

from pathlib import Path

from pydantic import Field

from pipcook_deploy.options import Options


class DataOptions(Options):
    """The user's data. A path is a folder of pictures by class, a Pipcook dataset folder (train/, test/,
    validation/), COCO or Pascal VOC annotations, .npz, .npy, .csv or idx (also .gz)."""

    evaluation: Path | None = Field(
        default=None, description="Labelled samples that the model never learned from."
    )
    evaluation_labels: Path | None = Field(
        default=None, description="A second file with the labels, for .npy and idx."
    )
    train: Path | None = Field(default=None, description="Labelled samples for fine-tuning.")
    train_labels: Path | None = Field(default=None, description="Labels of `train`, as above.")
    calibration: Path | None = Field(
        default=None,
        description="Samples that quantization calibrates with, labelled or not; without it some of "
        "`train`, or else of `evaluation`.",
    )
    label: str = Field(
        default="label",
        min_length=1,
        description="Column of a .csv or array of an .npz with labels.",
    )
    columns: tuple[str, ...] = Field(
        default=(),
        description="Columns of a .csv that the model reads; by default all but the label.",
    )
    calibration_samples: int = Field(default=200, ge=1, description="Samples to calibrate with.")
    selection: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Share of the evaluation set that a search sees; the rest gives the verdict.",
    )
    limit: int | None = Field(default=None, ge=2, description="Most evaluation samples.")
    train_limit: int | None = Field(default=None, ge=1, description="Most training samples.")
    bad_limit: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="Share of samples that may be unreadable and left out.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of every choice among samples.")
