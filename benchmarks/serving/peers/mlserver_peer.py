"""A custom runtime of MLServer: the Open Inference Protocol is its own, ONNX Runtime computes."""

import os

import onnxruntime  # noqa: TID253
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Mlp(MLModel):
    """784-256-10."""

    async def load(self) -> bool:
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """[1, 784] to [1, 10]."""
        image = NumpyCodec.decode_input(payload.inputs[0])
        digits = self.session.run(["digit"], {"image": image})[0]
        output = NumpyCodec.encode_output("digit", digits)
        return InferenceResponse(model_name=self.name, outputs=[output])
