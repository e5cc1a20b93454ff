"""What the OpenAPI document says of administration."""

from typing import Any

from pipcook_deploy.server.openapi.describe import JSON, describe
from pipcook_deploy.server.openapi.schemas import TEXT, define, listed, record
from pipcook_deploy.server.protocols import admin

TAG = "Admin"
REFUSED = {
    401: "The admin token is missing or wrong.",
    403: "Administration is off.",
    409: "The models of this server cannot be changed.",
}

define(
    Loaded=record({"models": listed(record({"name": TEXT, "version": TEXT}))}),
    OneVersion=record({}, {"version": TEXT}),
    Labelled=record({"version": TEXT}),
    Weights=record({"weights": {"type": "object", "additionalProperties": {"type": "number"}}}),
)


def _changes(handler: Any, summary: str, takes: str = "", example: Any = None) -> None:
    describe(
        handler,
        summary,
        tag=TAG,
        takes={JSON: takes} if takes else {},
        optional=takes == "OneVersion",
        gives={JSON: "Loaded"},
        examples={} if example is None else {JSON: example},
        others=REFUSED,
    )


_changes(admin.models, "Every version, and what it is used for")
_changes(admin.load, "Load a version, or the newest", "OneVersion", {"version": "2"})
_changes(admin.unload, "Let go of a version, or of all", "OneVersion", {"version": "1"})
_changes(admin.label, "Give a version a label", "Labelled", {"version": "2"})
_changes(admin.no_label, "Take a label away")
_changes(admin.split, "Share requests among versions", "Weights", {"weights": {"1": 90, "2": 10}})
_changes(admin.no_split, "Let one version answer all")
_changes(admin.rollback, "Back to the version that served before")
