"""NVIDIA Triton's C++ front with a Python model behind it, by PyTriton: requests are batched by Triton, as it does by default."""

import os
from typing import Any

import numpy as np
import onnxruntime  # noqa: TID253
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
)


@batch
def infer(image: Any) -> list[Any]:
    """[N, 784] to [N, 10]."""
    return [session.run(["digit"], {"image": image})[0]]


if __name__ == "__main__":
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(os.environ["PORT"]),
        allow_grpc=False,
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="mlp",
            infer_func=infer,
            inputs=[Tensor(name="image", dtype=np.float32, shape=(784,))],
            outputs=[Tensor(name="digit", dtype=np.float32, shape=(10,))],
            config=ModelConfig(max_batch_size=16),
            strict=False,
        )
        triton.serve()
