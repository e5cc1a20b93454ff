"""LitServe with ZeroMQ between its two processes, as it recommends for more than 100 requests a second."""

import os
from typing import Any

import litserve
import numpy as np
import onnxruntime  # noqa: TID253


class Mlp(litserve.LitAPI):
    """One worker; no batching: a batch of one takes 20 microseconds, waiting for others takes longer."""

    def setup(self, device: str) -> None:
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request):  # an annotation would make it a query parameter
        """[1, 784]"""
        tensor = request["inputs"][0]
        return np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])

    def predict(self, x: Any) -> Any:
        """[1, 10]"""
        return self.session.run(["digit"], {"image": x})[0]

    def encode_response(self, output: Any) -> Any:
        """As the Open Inference Protocol writes it."""
        data = output.ravel().tolist()
        tensor = {"name": "digit", "datatype": "FP32", "shape": list(output.shape), "data": data}
        return {"model_name": "mlp", "outputs": [tensor]}


if __name__ == "__main__":
    api = Mlp(api_path="/v2/models/mlp/infer")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
