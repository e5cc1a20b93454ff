"""Valid requests of every protocol, and damage done to them that knows their grammar.

`made(seed, number, model)` gives the same bytes every time.
"""

import base64
import copy
import io
import json
import random
import struct
from dataclasses import dataclass, field, replace

WORDS = [
    b"", b"-", b"null", b"1e999", b"[", b"}", b'"', b"\xff", b"\r\n", b"--b", b"999999999999", b"\x00", b"%",
    b"NaN", b"\\u0000", b"\xed\xa0\x80", b"../", b";", b",,", b"\xf0\x9f\x98\x80", b"{" * 300, b"[" * 2000,
]  # fmt: skip
VALUES = [
    None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, 1e-320, 2**31, 2**53 + 1, 2**63, 2**64, 10**40, "", "a",
    "é\u0000\ud83d\ude00", "x" * 5000, "NaN", "b64", [], {}, [[]], [None], [[1, 2], [3]], {"b64": "AA=="},
    {"b64": "*"}, {"b64": 1}, [1, "a", None], [0] * 3000, ["FP32"], {"": ""}, [[[[[[[[1]]]]]]]],
    "image/png", "data:image/png;base64,AA", "http://127.0.0.1:1/x", "/etc/passwd",
]  # fmt: skip
KEYS = [
    "inputs", "outputs", "instances", "examples", "name", "datatype", "shape", "data", "parameters", "id",
    "binary_data_size", "binary_data", "binary_data_output", "signature_name", "b64", "dataframe_split",
    "columns", "index", "dataframe_records", "context", "timeout", "params", "image", "input", "top", "",
]  # fmt: skip
NUMBERS = [
    "0",
    "-1",
    "1",
    "99999999999",
    "18446744073709551616",
    "007",
    "+1",
    "1e3",
    "0x1",
    "²",
    "",
    " ",
    "1,1",
]
HEADERS = [
    ("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "gzip"), ("Content-Encoding", "gzip"),
    ("Expect", "100-continue"), ("Upgrade", "websocket"), ("Connection", "keep-alive"), ("Range", "bytes=0-1"),
    ("Accept", "application/openmetrics-text; version=x"), ("Accept", "*/*;q=x"), ("X-Request-Timeout", "0.0001"),
    ("X-Request-Timeout", "nan"), ("X-Request-Timeout", "-1"), ("traceparent", "00-1-2-3"), ("X-Request-Id", "\x01"),
    ("Origin", "null"), ("Host", "evil.example"), ("Authorization", "Bearer"), ("Cookie", "a=b"),
    ("Inference-Header-Content-Length", "5"), ("Content-Type", "application/octet-stream"),
    ("X-Amzn-SageMaker-Custom-Attributes", "c" * 2000), ("Content-Type", "multipart/form-data; boundary="),
    ("Content-Type", "text/csv"), ("Content-Type", "application/json; charset=utf-16"), ("A", "b" * 9000),
]  # fmt: skip
ADMIN = "fuzz-0123456789abcdef"
METHODS = [
    "GET",
    "HEAD",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "CONNECT",
    "X",
    "get",
    "PRI",
]
PLACES = [
    "%2f",
    "%00",
    "%ff",
    "..",
    "//",
    "%",
    "versions",
    "labels",
    "a" * 300,
    ":predict",
    "é",
    "?",
    "#",
    "1",
    "",
]


@dataclass(frozen=True)
class Request:
    """One request before it is written. `kind` says which grammar its body has."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    kind: str = ""
    chunks: int = 0  # 0: with a length
    line_end: bytes = b"\r\n"
    message: object = field(default=None, compare=False)  # what the JSON says

    def written(self):
        headers = [("Host", "x"), *self.headers, ("Connection", "close")]
        body = self.body
        if self.chunks:
            headers.append(("Transfer-Encoding", "chunked"))
            size = max(1, len(body) // self.chunks)
            parts = [body[start : start + size] for start in range(0, len(body), size)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])
        elif body or self.method == "POST":
            headers.append(("Content-Length", str(len(body))))
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers), "", ""]
        end = self.line_end.decode()
        return end.join(lines).encode("utf-8", "surrogatepass") + body


def of_json(path, message, media="application/json"):
    body = json.dumps(message).encode()
    return Request("POST", path, (("Content-Type", media),), body, "json", message=message)


def image(form, size=(5, 4), mode="RGB"):
    from PIL import Image

    stream = io.BytesIO()
    Image.new(mode, size, 77).save(stream, form)
    return stream.getvalue()


def form(path, content, name="image", file="x.png"):
    body = (
        f'--bnd\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n'
        "Content-Type: image/png\r\n\r\n"
    ).encode() + content + b"\r\n--bnd--\r\n"  # fmt: skip
    return Request(
        "POST", path, (("Content-Type", "multipart/form-data; boundary=bnd"),), body, "form"
    )


def binary(path, row, data):
    """A request of the Open Inference Protocol with binary tensors in and out."""
    row = {key: value for key, value in row.items() if key != "data"}
    row["parameters"] = {"binary_data_size": len(data)}
    text = json.dumps({"inputs": [row], "parameters": {"binary_data_output": True}}).encode()
    headers = (
        ("Inference-Header-Content-Length", str(len(text))),
        ("Content-Type", "application/octet-stream"),
    )
    return Request("POST", path, headers, text + data, "binary")


def seeds(model):
    """Valid requests for one of the tiny models."""
    name, rows, instances, row = MODELS[model]
    base, other = f"/v2/models/{name}", f"/v1/models/{name}"
    first = rows[0]["name"]
    example = instances[0] if model == "echo" else {first: instances[0]}
    columns = list(example) if model == "echo" else [str(place) for place in range(len(row))]
    split = {"columns": columns, "index": [0], "data": [row]}
    by_name = {key: [value] for key, value in example.items()}
    oip = {"inputs": rows, "id": "x", "outputs": [], "parameters": {"timeout": 5_000_000}}
    admin = (("Content-Type", "application/json"), ("Authorization", f"Bearer {ADMIN}"))
    load = of_json(f"/v2/repository/models/{name}/load", {"parameters": {}})
    found = [
        of_json(f"{base}/infer", oip),
        of_json(f"{base}/versions/1/infer", {"inputs": rows}),
        of_json(f"{other}:predict", {"instances": instances, "signature_name": "serving_default"}),
        of_json(f"{other}/versions/1:predict", {"inputs": by_name}),
        of_json(f"{other}:classify", {"context": {}, "examples": [example]}),
        of_json(f"{other}:regress", {"examples": [example]}),
        of_json("/invocations", {"instances": instances}),
        of_json("/invocations", {"inputs": by_name}),
        of_json("/invocations", {"dataframe_split": split}),
        of_json("/invocations", {"dataframe_records": [dict(zip(columns, row, strict=True))]}),
        of_json("/invoke", {"instances": instances}),
        of_json("/score", {"input_data": split}),
        of_json("/predict", {"text": "good bad"}),
        of_json("/predict", {"row": row}),
        of_json("/predict", {"rows": [row, row]}),
        of_json("/v2/repository/index", {"ready": True}),
        replace(load, headers=admin),
        *(replace(request, headers=admin) for request in administration(name)),
        Request("POST", "/invocations", (("Content-Type", "text/csv"),), _csv(columns, row), "text"),
        Request("POST", "/initialize", (), b""),
        *(
            Request("GET", path)
            for path in (
                "/", "/page.json", "/openapi.json", "/docs", "/healthz", "/ping", "/metrics", "/v2",
                "/v2/health/ready", base, f"{base}/ready", f"{base}/stats", f"{base}/config", "/v1/models",
                other, f"{other}/metadata", f"{other}/versions/1",
                "/predict?input=good%20bad&top=2", "/predict?input=[1,2.5]&input=[3,4]",
            )
        ),
    ]  # fmt: skip
    if len(rows) == 1:
        data = (
            struct.pack(f"<{len(rows[0]['data'])}f", *rows[0]["data"])
            if model != "words"
            else b"\x00" * 16
        )
        found.append(binary(f"{base}/infer", rows[0], data))
    if model == "colours":
        found += pictures()
    return found


def administration(name):
    """Changes that leave version 1 loaded."""
    base = f"/admin/models/{name}"
    return [
        Request("GET", "/admin/models"),
        of_json(f"{base}/load", {"version": "1"}),
        replace(of_json(f"{base}/labels/stable", {"version": "1"}), method="PUT"),
        Request("DELETE", f"{base}/labels/stable"),
        replace(of_json(f"{base}/split", {"weights": {"1": 90, "stable": 10}}), method="PUT"),
        Request("DELETE", f"{base}/split"),
        of_json(f"{base}/rollback", {}),
    ]


def pictures():
    formats = {name: image(name) for name in ("PNG", "JPEG", "GIF", "BMP", "WEBP")}
    text = base64.b64encode(formats["PNG"]).decode()
    return [
        *(form("/predict?top=2", content) for content in formats.values()),
        *(
            Request("POST", path, (("Content-Type", f"image/{name.lower()}"),), content, "raw")
            for path in ("/predict", "/invocations")
            for name, content in formats.items()
        ),
        of_json("/predict", {"image": text}),
        of_json("/predict", {"images": [text, f"data:image/png;base64,{text}"]}),
        of_json("/v1/models/colours:predict", {"instances": [{"b64": text}]}),
    ]


def _csv(columns, row):
    lines = [",".join(columns), ",".join(json.dumps(value) for value in row), ""]
    return "\n".join(lines).encode()


def _row(name, datatype, shape, data):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


ECHO = {
    "float32": "FP32", "uint8": "UINT8", "int8": "INT8", "uint16": "UINT16", "int16": "INT16", "int32": "INT32",
    "int64": "INT64", "string": "BYTES", "bool": "BOOL", "float64": "FP64", "uint32": "UINT32", "uint64": "UINT64",
}  # fmt: skip
SAMPLE = {"string": ["a", "é"], "bool": [True, False]}
MODELS = {  # name, rows of the Open Inference Protocol, instances of TF Serving, one sample as a flat row
    "colours": (
        "colours",
        [_row("image", "FP32", [1, 4, 4, 3], [0.5] * 48)],
        [[[[0.5] * 3] * 4] * 4],
        [0.5] * 48,
    ),
    "words": ("words", [_row("ids", "INT32", [1, 4], [1, 2, 3, 0])], [[1, 2, 3, 0]], [1, 2, 3, 0]),
    "logarithm": (
        "logarithm", [_row("x", "FP32", [1, 2], [1.0, 2.0])], [[1.0, 2.0], [3.0, 0.0]], [1.0, 2.0],
    ),
    "echo": (
        "echo",
        [_row(d, kind, [1, 2], SAMPLE.get(d, [1, 0])) for d, kind in ECHO.items()],
        [{d: SAMPLE.get(d, [1, 0]) for d in ECHO}],
        [SAMPLE.get(d, [1, 0]) for d in ECHO],
    ),
}  # fmt: skip


def made(seed, number, model):
    """The bytes of one case; the first ones are the valid requests themselves."""
    valid = seeds(model)
    if number < len(valid):
        return valid[number].written()
    dice = random.Random(f"{seed}-{number}-{model}")
    request = dice.choice(valid)
    if request.kind == "json" or dice.random() < 0.7:
        request = damaged_body(dice, request)
    if dice.random() < 0.35:
        request = damaged_head(dice, request)
    data = request.written()
    if dice.random() < 0.15:
        data = damaged(dice, data)
    if dice.random() < 0.1:  # a second one behind it, or its end cut off
        data = data * 2 if dice.random() < 0.5 else data[: dice.randrange(1, len(data) + 1)]
    return data


def damaged_body(dice, request):
    """One of the same kind with something wrong in its body."""
    body = request.body
    if request.kind == "json" and dice.random() < 0.8:
        message = copy.deepcopy(request.message)
        for _ in range(dice.randint(1, 3)):
            message = damaged_json(dice, message)
        body = json.dumps(message, ensure_ascii=dice.random() < 0.5).encode(
            "utf-8", "surrogatepass"
        )
        if dice.random() < 0.2:
            body = damaged(dice, body)
    elif body:
        body = damaged(dice, body)
    return replace(request, body=body)


def damaged_json(dice, value):
    """`value` with another value, key or size somewhere in it."""
    if not isinstance(value, list | dict) or not value or dice.random() < 0.15:
        return copy.deepcopy(dice.choice(VALUES))
    if isinstance(value, list):
        place, how = dice.randrange(len(value)), dice.random()
        if how < 0.15:
            return value[:place]
        if how < 0.3:
            return [*value, *value[place:]]
        value[place] = damaged_json(dice, value[place])
        return value
    key, how = dice.choice(list(value)), dice.random()
    if how < 0.12:
        del value[key]
    elif how < 0.25:
        value[dice.choice(KEYS)] = value[key]
    elif how < 0.35:
        value[dice.choice(KEYS)] = copy.deepcopy(dice.choice(VALUES))
    else:
        value[key] = damaged_json(dice, value[key])
    return value


def damaged_head(dice, request):
    """Another method, path, header or length."""
    how = dice.randrange(7)
    if how == 0:
        return replace(request, method=dice.choice(METHODS))
    if how == 1:
        parts = request.path.split("/")
        parts[dice.randrange(len(parts))] = dice.choice(PLACES)
        return replace(request, path="/".join(parts) or "/")
    if how == 2:
        query = dice.choice(
            ["?top=", "?top=²", "?top=-1", "?input=%ff", "?" + "a&" * 2000, "?input=1&input=2"]
        )
        return replace(request, path=request.path + query)
    if how == 3:
        return replace(request, chunks=dice.randint(1, 5))
    if how == 4:
        return replace(
            request, headers=(*request.headers, ("Content-Length", dice.choice(NUMBERS)))
        )
    if how == 5 and request.headers:
        name, _ = dice.choice(request.headers)
        changed = (name, dice.choice([*NUMBERS, *(value for _, value in HEADERS)]))
        others = tuple(row for row in request.headers if row[0] != name)
        return replace(request, headers=(*others, changed))
    return replace(
        request, headers=(*request.headers, *dice.choices(HEADERS, k=dice.randint(1, 3)))
    )


def damaged(dice, data):
    """Some bytes replaced, removed, doubled or flipped."""
    data = bytearray(data)
    for _ in range(dice.randint(1, 5)):
        start = dice.randrange(len(data) + 1)
        end = start + dice.choice([0, 1, 2, 6, 50])
        how = dice.random()
        if how < 0.5:
            data[start:end] = dice.choice(WORDS)
        elif how < 0.7:
            data[start:end] = data[start:end] * 3
        elif start < len(data):
            data[start] ^= 1 << dice.randrange(8)
    return bytes(data)
