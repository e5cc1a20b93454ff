"""The parts of an artifact (weights, nodes, operators): which suffer, and what each could be stored in."""

from collections.abc import Sequence
from typing import Any

from pipcook_deploy.compression.candidates import Build, Variant
from pipcook_deploy.compression.lab import Lab
from pipcook_deploy.converter import Converter
from pipcook_deploy.errors import DeployError

SAMPLES = 128  # of the calibration split, that parts are tried with


def worst_parts(lab: Lab, build: Build) -> list[str]:
    """The parts of a build by the harm that its precision does to each alone, the worst first."""
    converter = build.converter
    function = converter.damage_call()
    if function is None:
        return []
    plain = lab.build(build.variant, converter.uncompressed())
    options = converter.damage_options()
    found: dict[str, float] = lab.worked_out(
        function,
        _on_calibration(lab, plain) | options,
        f"damage {function} {options} {plain.key}",
        heavy=converter.needs_tensorflow(converter.writes()),  # the artifact itself is tried
    )
    return sorted(found, key=lambda name: (-found[name], name))


def mixtures(lab: Lab, converter: Converter, variant: Variant) -> Sequence[Converter]:
    """Candidates with a precision for each part, where a converter knows how to choose it."""
    function = converter.parts_call()
    if function is None:
        return ()
    try:
        plain = lab.build(variant, converter.uncompressed())
        arguments = _on_calibration(lab, plain)
        found = lab.worked_out(function, arguments, f"parts {plain.key}", heavy=True)
    except DeployError:  # the float32 artifact is among the candidates, and says why it failed
        return ()
    return converter.mixed(found)


def more_parts(left_out: int, parts: int) -> int:
    """How many parts to leave in float32 after so many were too few.

    Twice as many; where that were all, all but a quarter of the rest, and at last all but one: of 8 parts 1, 2, 4, 7.
    The same number when there is nothing left to try.
    """
    doubled = max(1, 2 * left_out)
    if doubled < parts:
        return doubled
    return max(left_out, parts - max(1, (parts - left_out) // 4))


def _on_calibration(lab: Lab, plain: Build) -> dict[str, Any]:
    """What a worker is told that tries the parts of a float32 artifact."""
    return {
        "path": str(plain.made.file),
        "inputs": str(lab.data.splits["calibration"].folder / "inputs"),
        "samples": SAMPLES,
    }
