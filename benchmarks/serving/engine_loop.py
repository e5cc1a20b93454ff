"""The engine called in a loop in one process: what the server is held against. Prints one JSON document.

    python -P engine_loop.py BUNDLE ENGINE THREADS SECONDS [JPEG]

ENGINE is onnxruntime or openvino, as the library makes it without tuning but for the threads. With a JPEG each turn
decodes and resizes it as the bundle's spec says, with the product's own preprocessing.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def onnxruntime_call(model: Path, threads: int) -> Callable[[Any], Any]:
    """ONNX Runtime: its threads spin, as they do by default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda value: session.run(None, {name: value})


def openvino_call(model: Path, threads: int) -> Callable[[Any], Any]:
    """OpenVINO, for latency: one inference at a time with all threads."""
    import openvino

    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(model), "CPU", config)
    request = compiled.create_infer_request()
    return lambda value: request.infer([value], share_inputs=True)


def turn(bundle_path: Path, engine: str, threads: int, jpeg: Path | None) -> Callable[[], Any]:
    """What is repeated."""
    from pipcook_deploy.bundle import Bundle
    from pipcook_deploy.preprocess.execute import Pipeline, stack

    bundle = Bundle.open(bundle_path)
    makers = {"onnxruntime": onnxruntime_call, "openvino": openvino_call}
    call = makers[engine](bundle.artifact("onnx").file, threads)
    tensor = bundle.spec.inputs[0]
    if jpeg is None:
        shape = tuple(1 if size is None else size for size in tensor.shape)
        value = np.random.default_rng(1).random(shape).astype(np.float32)
        return lambda: call(value)
    data = jpeg.read_bytes()
    pipeline = Pipeline(bundle.spec.preprocessing[tensor.name])
    return lambda: call(stack([pipeline(data)]))


def main(bundle: Path, engine: str, threads: int, seconds: float, jpeg: Path | None) -> None:
    """Warm, count."""
    once = turn(bundle, engine, threads, jpeg)
    for _ in range(5):
        once()
    count, start = 0, time.perf_counter()
    while (now := time.perf_counter()) < start + seconds:
        once()
        count += 1
    print(json.dumps({"count": count, "seconds": now - start}))


if __name__ == "__main__":
    path, name, number, limit, *picture = sys.argv[1:]
    main(Path(path), name, int(number), float(limit), Path(picture[0]) if picture else None)
