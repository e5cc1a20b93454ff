"""The answer of `infer`: JSON, or JSON with binary tensors after it."""

from typing import Any

import orjson

from pipcook_deploy.server.app import Context
from pipcook_deploy.server.http import Answer, json_answer
from pipcook_deploy.server.models.lane import elements
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.protocols.oip_head import Message
from pipcook_deploy.server.tensors.datatypes import spelled
from pipcook_deploy.server.tensors.raw import to_raw
from pipcook_deploy.server.tensors.strict_json import write_tensor

BINARY = "application/octet-stream"
IN_LOOP = 65_536  # elements of an answer that are worth no other thread


async def answered(
    context: Context, model: LoadedModel, message: Message, outputs: dict[str, Any]
) -> Answer:
    """The answer, written in another thread if it is large."""
    if elements(outputs) <= IN_LOOP:
        return answer_of(model, message, outputs)
    return await context.compute(lambda: answer_of(model, message, outputs))


def answer_of(model: LoadedModel, message: Message, outputs: dict[str, Any]) -> Answer:
    """The wanted outputs in the wanted order."""
    head: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if message.id is not None:
        head["id"] = message.id
    if message.outputs is model.all_outputs:
        head["outputs"] = [write_tensor(name, outputs[name]) for name in message.outputs]
        return json_answer(head)
    raw: list[bytes] = []
    rows = head["outputs"] = []
    for name, binary in message.outputs.items():
        value = outputs[name]
        if not binary:
            rows.append(write_tensor(name, value))
            continue
        raw.append(to_raw(value))
        rows.append(_announced(name, value, len(raw[-1])))
    if not raw:
        return json_answer(head)
    text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = {"inference_header_content_length": str(len(text))}
    return Answer(200, b"".join([text, *raw]), BINARY, headers)


def _announced(name: str, value: Any, size: int) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": spelled(value),
        "shape": list(value.shape),
        "parameters": {"binary_data_size": size},
    }
