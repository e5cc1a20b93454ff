"""Finds the chain of converters that leads from a source to each wanted format."""

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipcook_deploy.converter import Converter
from pipcook_deploy.errors import UnsupportedConversionError
from pipcook_deploy.spec import Details
from pipcook_deploy.steps import runtime_for


@dataclass(frozen=True)
class Step:
    """One conversion: `converter` applied to the result of `after` (None: to the source itself)."""

    converter: Converter
    after: "Step | None"

    @property
    def key(self) -> str:
        """Equal for equal work, so that chains share their common steps."""
        options = json.dumps(self.converter.model_dump(mode="json"), sort_keys=True)
        before = self.after.key if self.after else ""
        return f"{before}>{self.converter.format}{options}"

    @property
    def chain(self) -> tuple["Step", ...]:
        """This step and all before it, in order."""
        return (*(self.after.chain if self.after else ()), self)


def plan(
    source_format: str,
    wanted: Sequence[Converter],
    installed: Iterable[type[Converter]],
    details: Details | None = None,
) -> dict[str, Step]:
    """The last step of the shortest chain to each wanted converter, by its format.

    `details` are the source's (`Model.details`): a converter may read another format first for them.

    Wanted converters serve as intermediate steps with the options the user gave them.
    Raises `UnsupportedConversionError`, naming every format that cannot be reached.
    """
    by_format = {kind.format: kind() for kind in installed if _has_defaults(kind)}
    by_format |= {converter.format: converter for converter in wanted}
    steps, errors = {}, []
    for converter in wanted:
        step = _chain_to(converter, source_format, by_format, details or {})
        if step is None:
            errors.append(_explain(converter, source_format))
        else:
            steps[converter.format] = step
    if errors:
        raise UnsupportedConversionError("\n".join(errors), "run: pipcook-deploy plugins")
    return steps


def describe_plan(source_format: str, steps: Mapping[str, Step]) -> list[str]:
    """One line a wanted format: `tfjs_layers -> keras_h5 -> saved_model -> onnx`."""
    return [
        " -> ".join([source_format, *(part.converter.format for part in step.chain)])
        for step in steps.values()
    ]


def needs_tensorflow(source_format: str, steps: Mapping[str, Step]) -> bool:
    """Whether a run of these chains takes TensorFlow: to convert, or to have the answers of source or artifacts."""
    formats = {source_format, *(step.converter.writes() for step in steps.values())}
    if any(runtime_for(name).heavy for name in formats):
        return True
    parts = [part for step in steps.values() for part in step.chain]
    return any(
        part.converter.needs_tensorflow(
            part.after.converter.writes() if part.after else source_format
        )
        for part in parts
    )


def _has_defaults(kind: type[Converter]) -> bool:
    return all(not field.is_required() for field in kind.model_fields.values())


def _chain_to(
    converter: Converter,
    source_format: str,
    by_format: Mapping[str, Converter],
    details: Details,
) -> Step | None:
    others = [other for name, other in by_format.items() if name != converter.format]
    reachable = _reach(source_format, others)
    for wanted in converter.accepted_from(details):
        if wanted in reachable:
            return Step(converter, reachable[wanted])
    return None


def _reach(source_format: str, converters: Sequence[Converter]) -> dict[str, Step | None]:
    """Every format that can be had, with the last step of the shortest way to it."""
    reached: dict[str, Step | None] = {source_format: None}
    queue = deque([source_format])
    while queue:
        here = queue.popleft()
        for converter in converters:
            there = converter.writes()
            if here in converter.accepted() and there not in reached:
                reached[there] = Step(converter, reached[here])
                queue.append(there)
    return reached


def _explain(converter: Converter, source_format: str) -> str:
    accepted = ", ".join(converter.accepted())
    return (
        f"{converter.format}: no chain of converters leads from {source_format} to it "
        f"(it is written from {accepted})"
    )
