"""Plugins whose fields are their options.

`OnnxConverter(opset=18)` is the Python API, `[convert.onnx] opset = 18` the recipe and
`--set onnx.opset=18` the command line: one definition, one validation.
"""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Base of everything a user configures: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)
