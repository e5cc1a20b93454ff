"""What a converter wrote."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipcook_deploy.spec import Details


@dataclass(frozen=True)
class Binding:
    """A tensor of the artifact and the tensor of the spec that it is.

    `name` is the spec's name, `tensor` what the format's runtime calls it. Outputs come back in any
    order and under other names after conversion, so nothing is ever paired by position or shape.
    """

    name: str
    tensor: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Artifact:
    """A model in one format: the folder `path`, in which `entry` is what a runtime opens.

    `precision` ("float32", "float16", "uint16", "uint8", "dynamic", "int8", ...) chooses the tolerance that
    it is verified with.
    """

    format: str  # the converter's name: "tfjs"
    model_format: str  # as `Model.format` spells it: "tfjs_graph"
    path: Path
    entry: str
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    precision: str = "float32"
    details: Details = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """What a runtime opens."""
        return self.path / self.entry

    def to_json(self) -> dict[str, Any]:
        """As plain data; `path` as a string."""
        return asdict(self) | {"path": str(self.path)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Artifact":
        """The inverse of `to_json`."""

        def bindings(rows: list[dict[str, Any]]) -> tuple[Binding, ...]:
            return tuple(Binding(**(row | {"shape": tuple(row["shape"])})) for row in rows)

        return cls(
            **(
                data
                | {
                    "path": Path(data["path"]),
                    "inputs": bindings(data["inputs"]),
                    "outputs": bindings(data["outputs"]),
                }
            )
        )
