"""Hand-written for speed: FastAPI's routing, raw bodies, orjson both ways, no validation, no thread pool."""

import os

import numpy as np
import onnxruntime  # noqa: TID253
import orjson
from fastapi import FastAPI, Request, Response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
)
app = FastAPI(openapi_url=None)


@app.post("/v2/models/mlp/infer")
async def infer(request: Request) -> Response:
    """The Open Inference Protocol's JSON, as far as this model needs it."""
    tensor = orjson.loads(await request.body())["inputs"][0]
    image = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
    digits = session.run(["digit"], {"image": image})[0]
    output = {"name": "digit", "datatype": "FP32", "shape": digits.shape, "data": digits.ravel()}
    body = orjson.dumps(
        {"model_name": "mlp", "outputs": [output]}, option=orjson.OPT_SERIALIZE_NUMPY
    )
    return Response(body, media_type="application/json")
