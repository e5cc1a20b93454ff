"""What the OpenAPI document says of the routes that cloud platforms and MLflow ask for, and of /metrics."""

from pipcook_deploy.server.observe import prometheus
from pipcook_deploy.server.openapi.describe import BYTES, JSON, TEXT, describe
from pipcook_deploy.server.openapi.schemas import ANY, define, listed, record
from pipcook_deploy.server.protocols import clouds, mlflow
from pipcook_deploy.server.protocols.mlflow_input import FORMS, LINES

TAG = "Clouds"
_PARAMETERS = {"type": "object", "properties": {"top": {"type": "integer"}}}

define(
    Invocation={
        "description": "One of MLflow's forms, or a request of the Open Inference Protocol. With `params.top` labels are "
        "answered instead of outputs.",
        "type": "object",
        "oneOf": [{"required": [form]} for form in FORMS],
        "properties": {"params": _PARAMETERS},
    },
    InvocationError=record({"error_code": {"type": "string"}, "message": {"type": "string"}}),
    Invoked={"anyOf": [record({"predictions": ANY}), {"$ref": "#/components/schemas/InferAnswer"}]},
    Instances=record({"instances": listed(ANY, minItems=1)}, {"parameters": _PARAMETERS}),
    Predictions=record({"predictions": listed(ANY)}),
)
_TAKES = {
    JSON: "Invocation",
    "text/csv": TEXT,
    LINES[0]: TEXT,
    "application/x-npy": BYTES,
    "image/*": BYTES,
}
_GIVES = {JSON: "Invoked", "text/csv": TEXT, LINES[0]: TEXT}

describe(
    mlflow.invocations,
    "Predict as SageMaker, Azure ML and MLflow ask for it",
    tag=TAG,
    takes=_TAKES,
    gives=_GIVES,
    examples={JSON: "instances"},
    others={406: "None of the accepted types can be written."},
)
describe(mlflow.ping, "Whether it is healthy: 503 while it ends", tag=TAG)
describe(mlflow.version, "The version of this package", tag=TAG, gives={"text/plain": TEXT})
describe(
    clouds.invoke,
    "An event of Function Compute: a prediction",
    tag=TAG,
    takes={JSON: "Invocation", "application/octet-stream": BYTES, "image/*": BYTES},
    gives=_GIVES,
    examples={JSON: "instances"},
    others={406: "None of the accepted types can be written."},
)
describe(clouds.initialize, "Function Compute's initializer", tag=TAG)
describe(
    clouds.predict,
    "Predict as Vertex AI asks for it",
    tag=TAG,
    takes={JSON: "Instances"},
    gives={JSON: "Predictions"},
    examples={JSON: "instances"},
)
describe(clouds.health, "Vertex AI's health route: 503 while it ends", tag=TAG)
describe(
    prometheus.metrics,
    "Counters and times, as Prometheus reads them",
    tag="Health",
    gives={"text/plain": TEXT, "application/openmetrics-text": TEXT},
)
