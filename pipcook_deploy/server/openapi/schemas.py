"""The shapes of requests and answers (JSON Schema 2020-12), by name, and what the groups of routes are for."""

from typing import Any

Schema = dict[str, Any]

TAGS = {
    "Predict": "An image, a text or a table's row in; labels, boxes or numbers out. The model's declared preprocessing is applied.",
    "Open Inference Protocol": "Tensors in and out, as KServe, Triton and others speak it (v2). No preprocessing.",
    "TensorFlow Serving": "As TensorFlow Serving's REST API.",
    "Clouds": "What cloud platforms ask of a container.",
    "Health": "Whether it lives, and what it does.",
    "Admin": "Loading, replacing and taking away models.",
    "Page": "The page for people, and this document.",
}

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
ANY: Schema = {}


def ref(name: str) -> Schema:
    """A schema by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object with these members."""
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
    }


def listed(item: Schema, **limits: Any) -> Schema:
    """A list of such items."""
    return {"type": "array", "items": item, **limits}


def _one(name: str, schema: Schema) -> Schema:
    return record({name: schema}) | {"title": name, "additionalProperties": False}


_SCORE = record(
    {"id": {"type": "integer"}, "category": TEXT, "score": {"type": ["number", "null"]}}
)
_IMAGE: Schema = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "A PNG, JPEG, WebP, GIF or BMP file in base64, or a data: URL. Other URLs are refused.",
}
_ROW: Schema = {
    "description": "An object with a value for each input, a list of them in the inputs' order, or the value of the only input.",
}

SCHEMAS: dict[str, Schema] = {
    "Failure": record({"success": {"const": False}, "message": TEXT})
    | {"examples": [{"success": False, "message": "the image is damaged or truncated"}]},
    "Error": record({"error": TEXT})
    | {"examples": [{"error": "there is no model 'x'; there is 'y'"}]},
    "Sample": {
        "description": "One value, or several of the same kind.",
        "oneOf": [
            _one("image", _IMAGE),
            _one("images", listed(_IMAGE, minItems=1)),
            _one("text", TEXT),
            _one("texts", listed(TEXT, minItems=1)),
            _one("row", _ROW),
            _one("rows", listed(_ROW, minItems=1)),
        ],
    },
    "Images": record(
        {"image": listed({"type": "string", "contentMediaType": "image/*"}, minItems=1)}
    ),
    "Label": _SCORE
    | {
        "description": "A class: its place in the first output, its label, its score as the model gives it."
    },
    "Classification": _SCORE
    | {
        "properties": _SCORE["properties"] | {"top": listed(ref("Label"))},
        "description": "The best class; with ?top= also the best of all.",
    },
    "Detection": record(
        {
            **_SCORE["properties"],
            "box": listed(NUMBER, minItems=4, maxItems=4)
            | {"description": "x, y, width and height in the pixels of the picture that was sent."},
        }
    ),
    "Outputs": record({"outputs": {"type": "object"}})
    | {
        "description": 'For models without labels: outputs by name, as nested lists; a picture of bytes as {"png": base64}.',
        "examples": [{"outputs": {"price": [12.5]}}],
    },
    "Answers": record(
        {
            "success": {"const": True},
            "data": listed(
                {
                    "anyOf": [
                        ref("Classification"),
                        listed(ref("Detection")),
                        ref("Outputs"),
                    ]
                }
            ),
        }
    )
    | {
        "description": "An item for each value that was sent.",
        "examples": [{"success": True, "data": [{"id": 3, "category": "cat", "score": 0.97}]}],
    },
    "Health": record({"status": {"enum": ["ok", "draining"]}}),
}


def define(**schemas: Schema) -> None:
    """Add the schemas of a protocol by name."""
    SCHEMAS.update(schemas)
