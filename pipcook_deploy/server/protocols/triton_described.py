"""What the OpenAPI document says of Triton's extensions: the model repository, configurations, statistics."""

from pipcook_deploy.server.openapi.describe import JSON, describe
from pipcook_deploy.server.openapi.schemas import TEXT, define, listed, record
from pipcook_deploy.server.protocols import triton_repository, triton_statistics

TAG = "Open Inference Protocol"
NO_MODELS = {
    401: "The admin token is missing or wrong.",
    403: "Administration is off.",
    409: "The server serves one bundle, not a model repository.",
}

define(
    RepositoryIndex=listed(
        record(
            {
                "name": TEXT,
                "version": TEXT,
                "state": {"enum": ["READY", "UNAVAILABLE"]},
                "reason": TEXT,
            }
        )
    ),
    Statistics=record(
        {
            "model_stats": listed(
                record(
                    {
                        "name": TEXT,
                        "version": TEXT,
                        "inference_count": {"type": "integer"},
                        "execution_count": {"type": "integer"},
                        "inference_stats": {"type": "object"},
                    }
                )
            )
        }
    ),
    ModelConfiguration=record(
        {"name": TEXT, "platform": TEXT, "backend": TEXT, "input": listed({}), "output": listed({})}
    ),
)

describe(
    triton_repository.handle_index,
    "Every version of every model",
    tag=TAG,
    takes={JSON: {"type": "object", "properties": {"ready": {"type": "boolean"}}}},
    optional=True,
    gives={JSON: "RepositoryIndex"},
    examples={JSON: {"ready": True}},
)
for handler, summary in (
    (triton_repository.handle_load, "Load a model, or look for a newer version of it"),
    (triton_repository.handle_unload, "Let go of a model"),
):
    describe(
        handler,
        summary,
        tag="Admin",
        takes={JSON: {"type": "object"}},
        optional=True,
        gives={JSON: {"type": "object"}},
        others=NO_MODELS,
    )
describe(
    triton_repository.handle_config,
    "A model's configuration",
    tag=TAG,
    gives={JSON: "ModelConfiguration"},
)
describe(
    triton_statistics.stats, "Counts and times of requests", tag=TAG, gives={JSON: "Statistics"}
)
