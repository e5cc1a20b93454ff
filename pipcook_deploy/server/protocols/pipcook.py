"""Pipcook 2's protocol is part of the task API (see `task`): here is what it asks of that.

GET /predict?input=a&input=b for texts, POST /predict with images in the field `image` of a form; answers
{"success": true, "data": [{"id", "category", "score"}]}, for detection [[{..., "box": [x, y, width, height]}]] in the
pixels of the picture. Unlike Pipcook's own server, errors have a 4xx status; the body keeps its shape.
"""

from pipcook_deploy.server.http import Answer, json_answer


def error(status: int, reason: str) -> Answer:
    """The error body of Pipcook."""
    return json_answer({"success": False, "message": reason}, status)
