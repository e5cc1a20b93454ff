"""The requests of the benchmark: heads and bodies, and what their answers say."""

import http.client
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

SEED = 1
PATIENCE = 30
BINARY_HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Request:
    """A POST that is sent again and again."""

    path: str
    headers: dict[str, str]
    body: bytes

    def raw(self, port: int) -> bytes:
        """All bytes of it, as HTTP/1.1 sends them."""
        headers = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(self.body))}
        lines = [f"{name}: {value}" for name, value in (headers | self.headers).items()]
        head = "\r\n".join([f"POST {self.path} HTTP/1.1", *lines])
        return head.encode() + b"\r\n\r\n" + self.body

    def send(self, port: int) -> "Answer":
        """Once. Raises `OSError` or `http.client.HTTPException` if there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("POST", self.path, self.body, self.headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()


@dataclass(frozen=True)
class Answer:
    """A response that was read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def numbers(self) -> Any:
        """The first output tensor, flat. Raises `ValueError` if there is none."""
        lengths = [v for k, v in self.headers.items() if k.lower() == BINARY_HEADER.lower()]
        if lengths:
            return np.frombuffer(self.body[int(lengths[0]) :], np.float32)
        content = json.loads(self.body)
        if isinstance(content, dict) and "outputs" in content:
            content = content["outputs"][0]["data"]
        return np.asarray(content, np.float32).ravel()


def tensor(shape: tuple[int, ...]) -> Any:
    """float32, uniform, of six decimals: what fits in a JSON number that people send."""
    return np.random.default_rng(SEED).random(shape).round(6).astype(np.float32)


def oip_json(model: str, name: str, value: Any) -> Request:
    """Open Inference Protocol v2 with JSON numbers."""
    data = [round(float(number), 6) for number in value.ravel()]
    row = {"name": name, "shape": list(value.shape), "datatype": "FP32", "data": data}
    body = json.dumps({"inputs": [row]}).encode()
    return Request(_infer(model), {"Content-Type": "application/json"}, body)


def oip_binary(model: str, name: str, value: Any, output: str) -> Request:
    """The same with the binary tensor extension, both ways."""
    row = {
        "name": name, "shape": list(value.shape), "datatype": "FP32",
        "parameters": {"binary_data_size": value.nbytes},
    }  # fmt: skip
    wanted = {"name": output, "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [row], "outputs": [wanted]}).encode()
    headers = {"Content-Type": "application/octet-stream", BINARY_HEADER: str(len(head))}
    return Request(_infer(model), headers, head + value.tobytes())


def array_json(path: str, name: str, value: Any) -> Request:
    """{"name": [[...]]}, for peers whose own form that is."""
    rows = [[round(float(number), 6) for number in row] for row in value]
    body = json.dumps({name: rows}).encode()
    return Request(path, {"Content-Type": "application/json"}, body)


def picture(data: bytes) -> Request:
    """An image as a form sends it."""
    mark = "picture-boundary"
    head = (
        f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="picture.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = head.encode() + data + f"\r\n--{mark}--\r\n".encode()
    return Request("/predict", {"Content-Type": f"multipart/form-data; boundary={mark}"}, body)


def jpeg(width: int = 640, height: int = 480) -> bytes:
    """A picture with as much detail as a photograph: smooth shapes and some noise, quality 90."""
    import io

    from PIL import Image

    rng = np.random.default_rng(SEED)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + rng.normal(0, 6, smooth.shape)
    out = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def _infer(model: str) -> str:
    return f"/v2/models/{model}/infer"
