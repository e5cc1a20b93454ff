"""What the OpenAPI document says of TF Serving's REST API."""

from typing import Any

from pipcook_deploy.server.openapi.describe import JSON, describe
from pipcook_deploy.server.openapi.schemas import TEXT, define, listed, record
from pipcook_deploy.server.protocols import tf_serving

TAG = "TensorFlow Serving"
SIGNATURE = {"signature_name": TEXT}
NUMBERS = {"type": ["number", "boolean", "null"]}

define(
    PredictRequest={
        "description": "Rows in `instances`, or whole columns in `inputs`: the value of the only input, or an object by "
        'input. {"b64": "..."} is bytes: an image where the model takes one.',
        "oneOf": [
            record({"instances": listed({}, minItems=1)}, SIGNATURE)
            | {"not": {"required": ["inputs"]}},
            record({"inputs": {}}, SIGNATURE) | {"not": {"required": ["instances"]}},
        ],
    },
    PredictAnswer={
        "anyOf": [record({"predictions": listed({})}), record({"outputs": {}})],
        "description": "In the form of the question.",
    },
    ExamplesRequest=record(
        {"examples": listed({"type": "object"}, minItems=1)},
        SIGNATURE | {"context": {"type": "object"}},
    ),
    Classes=record({"results": listed(listed({"type": "array", "prefixItems": [TEXT, NUMBERS]}))}),
    Regressions=record({"results": listed(NUMBERS)}),
    ModelStatus=record(
        {
            "model_version_status": listed(
                record({"version": TEXT, "state": TEXT, "status": {"type": "object"}})
            )
        }
    ),
    SavedModelMetadata=record({"model_spec": {"type": "object"}, "metadata": {"type": "object"}}),
    ModelNames=record({"models": listed(TEXT)}),
)


def _asks(handler: Any, summary: str, takes: str, gives: str, **examples: Any) -> None:
    describe(
        handler,
        summary,
        tag=TAG,
        description="Numbers are the model's own tensors. NaN and infinities become null.",
        takes={JSON: takes},
        gives={JSON: gives},
        examples=examples,
    )


_asks(
    tf_serving.predict,
    "Predict, by row or by column",
    "PredictRequest",
    "PredictAnswer",
    **{JSON: "instances"},
)
_asks(tf_serving.classify, "Labels and scores of examples", "ExamplesRequest", "Classes")
_asks(tf_serving.regress, "A number for each example", "ExamplesRequest", "Regressions")
describe(
    tf_serving.status,
    "The state of a model's versions",
    tag=TAG,
    gives={JSON: "ModelStatus"},
)
describe(tf_serving.metadata, "Signatures of a model", tag=TAG, gives={JSON: "SavedModelMetadata"})
describe(tf_serving.models, "Names of the models", tag=TAG, gives={JSON: "ModelNames"})
