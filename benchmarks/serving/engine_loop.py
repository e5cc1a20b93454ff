"""The engine called in a loop in one process: what the server is held against. Prints one JSON document.

    python -P engine_loop.py BUNDLE ENGINE STREAMS THREADS SECONDS [JPEG]

ENGINE is onnxruntime or openvino in float32, as the library makes it without tuning but for the threads. STREAMS loops
run at the same time, each inference on THREADS threads. With a JPEG each turn decodes and resizes it as the bundle's
spec says, with the product's own preprocessing.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np


def onnxruntime_calls(model: Path, streams: int, threads: int) -> list[Callable[[Any], Any]]:
    """One session, as the library wants it; its threads spin, as they do by default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [lambda value: session.run(None, {name: value})] * streams


def openvino_calls(model: Path, streams: int, threads: int) -> list[Callable[[Any], Any]]:
    """One compiled model; a request for each stream. By itself it computes in bfloat16 where the CPU can."""
    import openvino

    config = {
        "INFERENCE_NUM_THREADS": streams * threads,
        "NUM_STREAMS": streams,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(str(model), "CPU", config)

    def call(request: Any) -> Callable[[Any], Any]:
        return lambda value: request.infer([value], share_inputs=True)

    return [call(compiled.create_infer_request()) for _ in range(streams)]


def turns(
    bundle_path: Path, engine: str, streams: int, threads: int, jpeg: Path | None
) -> list[Callable[[], Any]]:
    """What is repeated, by each loop."""
    from pipcook_deploy.bundle import Bundle
    from pipcook_deploy.preprocess.execute import Pipeline

    bundle = Bundle.open(bundle_path)
    makers = {"onnxruntime": onnxruntime_calls, "openvino": openvino_calls}
    calls = makers[engine](bundle.artifact("onnx").file, streams, threads)
    tensor = bundle.spec.inputs[0]
    if jpeg is None:
        shape = tuple(1 if size is None else size for size in tensor.shape)
        value = np.random.default_rng(1).random(shape).astype(np.float32)
        return [partial(call, value) for call in calls]
    data = jpeg.read_bytes()
    pipeline = Pipeline(bundle.spec.preprocessing[tensor.name])
    return [partial(prepared, call, pipeline, data) for call in calls]


def prepared(call: Callable[[Any], Any], pipeline: Callable[[bytes], Any], data: bytes) -> Any:
    """One picture, from its bytes."""
    from pipcook_deploy.preprocess.execute import stack

    return call(stack([pipeline(data)]))


def count(once: Callable[[], Any], end: float, counts: list[int]) -> None:
    """Turns until `end`."""
    done = 0
    while time.perf_counter() < end:
        once()
        done += 1
    counts.append(done)


def main(
    bundle: Path, engine: str, streams: int, threads: int, seconds: float, jpeg: Path | None
) -> None:
    """Warm, count."""
    loops = turns(bundle, engine, streams, threads, jpeg)
    for once in loops * 5:
        once()
    start = time.perf_counter()
    counts: list[int] = []
    others = [
        threading.Thread(target=count, args=(once, start + seconds, counts)) for once in loops[1:]
    ]
    for thread in others:
        thread.start()
    count(loops[0], start + seconds, counts)
    for thread in others:
        thread.join()
    print(json.dumps({"count": sum(counts), "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    path, name, number, each, limit, *picture = sys.argv[1:]
    main(
        Path(path), name, int(number), int(each), float(limit),
        Path(picture[0]) if picture else None,
    )  # fmt: skip
