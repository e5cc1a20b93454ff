"""BentoML as its documents show a model that takes an array: one worker, an async method, no access log."""

from typing import Annotated

import bentoml
import numpy as np
import onnxruntime  # noqa: TID253
from bentoml.validators import DType, Shape


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Mlp:
    """784-256-10."""

    def __init__(self) -> None:
        import os

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )

    @bentoml.api
    async def infer(
        self, image: Annotated[np.ndarray, DType("float32"), Shape((1, 784))]
    ) -> np.ndarray:
        """[1, 10]; called in the event loop: a thread would cost more than the model."""
        return self.session.run(["digit"], {"image": image})[0]
