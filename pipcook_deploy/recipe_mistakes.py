"""Checks a table of a recipe, and says what is wrong with it in the recipe's own words."""

from typing import Any

from pydantic import ValidationError

from pipcook_deploy.options import Options
from pipcook_deploy.text import did_you_mean


def validated(kind: type[Options], data: Any, where: str, mistakes: list[str]) -> Any:
    """The options of a table, or None after adding every mistake, as `where: key: message`, to `mistakes`."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        problems = [problem for problem in error.errors() if not _other_form(data, problem["loc"])]
        mistakes += [_mistake(kind, where, problem) for problem in problems]
        return None


def _other_form(data: Any, location: tuple[int | str, ...]) -> bool:
    """Of a key that may be a list or a table: whether this is about the form that was not written."""
    if len(location) < 2 or not isinstance(data, dict):
        return False
    form, value = str(location[1]), data.get(str(location[0]))
    return (form.startswith("tuple[") and isinstance(value, dict)) or (
        form.startswith("dict[") and isinstance(value, list)
    )


def _mistake(kind: type[Options], where: str, problem: Any) -> str:
    # A part such as "tuple[...]" is the name of a type in the code, and no key of the recipe.
    parts = [str(part) for part in problem["loc"]]
    location = [part for part in parts if not part.startswith(("tuple[", "dict[", "function-"))]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        near = did_you_mean(location[-1], kind.model_fields) if len(location) == 1 else ""
        return f"{where}: {key}: is not an option{near}"
    if problem["type"] == "missing":
        return f"{where}: {key}: is missing"
    if problem["type"] == "union_tag_invalid":
        tags = problem["ctx"]["expected_tags"].replace("'", "").split(", ")
        tag = str(problem["ctx"]["tag"])
        near = did_you_mean(tag, tags)
        return f"{where}: {key}: op {tag!r} is not known{near}; there are {', '.join(tags)}"
    message = problem["msg"].removeprefix("Value error, ")
    if key and not isinstance(problem.get("input"), dict):
        message += f" (got {problem['input']!r})"
    return f"{where}: {key}: {message}" if key else f"{where}: {message}"
