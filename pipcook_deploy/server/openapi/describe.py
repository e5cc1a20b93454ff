"""What a route takes and gives, said beside its row of the routing table.

    ROUTES: Routes = [("POST", "/invocations", invocations)]
    describe(invocations, "Predict as SageMaker asks for it", tag="SageMaker", takes={JSON: "Rows"}, gives={JSON: "Predictions"})

A schema is the name of one of `schemas.SCHEMAS`, or the schema itself (JSON Schema 2020-12). The errors that every route
shares, path parameters and examples of the loaded model are added by `document`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipcook_deploy.server.app import Handler

JSON = "application/json"
Schema = dict[str, Any] | str
BYTES: dict[str, Any] = {}  # any bytes: in OpenAPI 3.1 a body without JSON has no schema
TEXT: dict[str, Any] = {"type": "string"}


@dataclass(frozen=True)
class Parameter:
    """Of the query or of the head."""

    name: str
    schema: dict[str, Any]
    description: str
    place: str = "query"
    required: bool = False
    example: Any = None


@dataclass(frozen=True)
class Operation:
    """What is said of one handler. `takes` and `gives` are schemas by media type, `gives` of status `status`.

    `optional`: the body may be left out. `examples` are bodies by media type; those of `predict` and `infer`
    come from the loaded model. `others` are more statuses and what they mean.
    """

    summary: str
    tag: str
    description: str = ""
    takes: Mapping[str, Schema] = field(default_factory=dict)
    gives: Mapping[str, Schema] = field(default_factory=dict)
    status: int = 200
    optional: bool = False
    parameters: tuple[Parameter, ...] = ()
    examples: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[int, str] = field(default_factory=dict)


OPERATIONS: dict[Handler, Operation] = {}


def describe(handler: Handler, summary: str, *, tag: str, **more: Any) -> None:
    """Keep an `Operation` for a handler; `more` are its other fields."""
    OPERATIONS[handler] = Operation(summary, tag, **more)


def described(handler: Handler) -> Operation:
    """What is said of a handler, or of the one that it wraps; at least the first line of its docstring."""
    wrapped = getattr(handler, "__wrapped__", handler)
    found = OPERATIONS.get(handler) or OPERATIONS.get(wrapped)
    return found or Operation((handler.__doc__ or "").split("\n", 1)[0], "Other")
