"""Ray Serve: one replica, bodies read by orjson rather than by Starlette's slower JSON."""

import os

import numpy as np
import onnxruntime  # noqa: TID253
import orjson
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Mlp:
    """784-256-10."""

    def __init__(self, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    async def __call__(self, request: Request) -> Response:
        """The Open Inference Protocol's JSON, as far as this model needs it."""
        tensor = orjson.loads(await request.body())["inputs"][0]
        image = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
        digits = self.session.run(["digit"], {"image": image})[0]
        output = {"name": "digit", "datatype": "FP32", "shape": digits.shape}
        body = orjson.dumps(
            {"model_name": "mlp", "outputs": [output | {"data": digits.ravel()}]},
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        return Response(body, media_type="application/json")


if __name__ == "__main__":
    import signal

    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Mlp.bind(os.environ["MODEL"]), route_prefix="/")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
