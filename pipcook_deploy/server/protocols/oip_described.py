"""What the OpenAPI document says of the Open Inference Protocol."""

from pipcook_deploy.server.openapi.describe import JSON, Parameter, describe
from pipcook_deploy.server.openapi.schemas import NUMBER, TEXT, define, listed, record, ref
from pipcook_deploy.server.protocols import oip
from pipcook_deploy.server.tensors.datatypes import DATATYPES

TAG = "Open Inference Protocol"
SHAPE = listed({"type": "integer", "minimum": 0})
PARAMETERS = {"type": "object"}

define(
    Live=record({"live": {"type": "boolean"}}),
    Ready=record({"ready": {"type": "boolean"}}, {"name": TEXT}),
    ServerMetadata=record({"name": TEXT, "version": TEXT, "extensions": listed(TEXT)}),
    TensorMetadata=record(
        {"name": TEXT, "datatype": TEXT, "shape": listed({"type": "integer", "minimum": -1})}
    ),
    ModelMetadata=record(
        {
            "name": TEXT,
            "versions": listed(TEXT),
            "platform": TEXT,
            "inputs": listed(ref("TensorMetadata")),
            "outputs": listed(ref("TensorMetadata")),
        }
    ),
    TensorIn=record(
        {"name": TEXT, "shape": SHAPE, "datatype": {"enum": sorted(set(DATATYPES.values()))}},
        {
            "data": {"type": "array", "description": "Row-major, flat or nested."},
            "parameters": PARAMETERS,
        },
    ),
    InferRequest=record(
        {"inputs": listed(ref("TensorIn"), minItems=1)},
        {
            "id": TEXT,
            "parameters": PARAMETERS | {"properties": {"timeout": NUMBER}},
            "outputs": listed(record({"name": TEXT}, {"parameters": PARAMETERS})),
        },
    ),
    TensorOut=record({"name": TEXT, "datatype": TEXT, "shape": SHAPE}, {"data": {"type": "array"}}),
    InferAnswer=record(
        {"model_name": TEXT, "outputs": listed(ref("TensorOut"))},
        {"model_version": TEXT, "id": TEXT},
    ),
)

describe(
    oip.server,
    "Name, version and extensions of the server",
    tag=TAG,
    gives={JSON: "ServerMetadata"},
)
describe(oip.live, "Whether the process answers", tag=TAG, gives={JSON: "Live"})
describe(
    oip.ready,
    "Whether requests are welcome: 503 while it ends",
    tag=TAG,
    gives={JSON: "Ready"},
)
describe(oip.model, "Inputs and outputs of a model", tag=TAG, gives={JSON: "ModelMetadata"})
describe(oip.model_ready, "Whether a model answers", tag=TAG, gives={JSON: "Ready"})
describe(
    oip.infer,
    "Ask a model: tensors in, tensors out",
    tag=TAG,
    description="The tensors are the model's own: no preprocessing. With the binary tensor extension the body is JSON "
    "and then the raw tensors, little-endian and row-major.",
    takes={JSON: "InferRequest", "application/octet-stream": {}},
    gives={JSON: "InferAnswer", "application/octet-stream": {}},
    examples={JSON: "infer"},
    parameters=(
        Parameter(
            "Inference-Header-Content-Length",
            {"type": "integer", "minimum": 0},
            "Bytes of the JSON, where raw tensors follow it.",
            place="header",
        ),
    ),
)
