"""NaN, Infinity and -Infinity as the tokens that TF Serving writes: no legal JSON, and only for who asks.

A request asks with the header `x-json-nonfinite: tokens`, or `?nonfinite=tokens`. Without that they are refused
in requests, and null in answers.
"""

import json
import re
from typing import Any

import numpy as np

from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.http import Request

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # half a character, or the beginning of a whole one
HEADER, PARAMETER, TOKENS = "x-json-nonfinite", "nonfinite", "tokens"


def wanted(request: Request) -> bool:
    """Whether the request asks for the tokens; 400 if it asks for anything else."""
    asked = request.header(HEADER) or (request.query and "".join(request.values(PARAMETER)[-1:]))
    if asked not in ("", "null", TOKENS):
        raise HttpError(400, f"{HEADER} (or ?{PARAMETER}=) must be {TOKENS} or null")
    return asked == TOKENS


def loads(body: bytes) -> Any:
    """JSON, and the three tokens; 400 for anything else."""
    try:
        document = json.loads(body.decode())
        if SURROGATE.search(body):
            json.dumps(document, ensure_ascii=False).encode()  # no text is half a character
    except (ValueError, RecursionError) as error:
        raise HttpError(400, f"the body is not JSON: {error}") from None
    return document


def dumps(value: object) -> bytes:
    """JSON of lists, objects and arrays, with the three tokens."""
    return json.dumps(value, default=numpy_lists, separators=(",", ":")).encode()


def numpy_lists(value: object) -> Any:
    """Numbers with as many digits as tell them apart, as orjson writes them."""
    array = np.asarray(value)
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        array = array.astype("U32").astype(np.float64)
    return array.tolist()
