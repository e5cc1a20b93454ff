"""What commands print: tables for people, one JSON document for machines."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipcook_deploy import plugins
from pipcook_deploy.cli.console import say, shown, table
from pipcook_deploy.errors import BundleError, DeployError
from pipcook_deploy.text import human_bytes, printable

if TYPE_CHECKING:
    from pipcook_deploy.bundle import Bundle
    from pipcook_deploy.check_recipe import RecipeCheck
    from pipcook_deploy.inspect_model import Inspection
    from pipcook_deploy.manifest import ArtifactEntry, VerificationEntry
    from pipcook_deploy.target import Package


KINDS = {
    "converters": "converter",
    "passes": "pass",
    "targets": "target",
    "runtimes": "runtime",
    "tables": "table",
}
SHOWN_TABLES = ("samples", "data", "budget", "bench")  # of a recipe; `init` writes the others


def report_error(error: DeployError, *, as_json: bool) -> None:
    """The error on standard error; with --json also as a document on standard output."""
    if as_json:
        kind = type(error).__name__
        _dump(
            {
                "error": {
                    "kind": kind,
                    "message": error.message,
                    "hint": error.hint,
                    "exit_code": error.exit_code,
                }
            }
        )
    print(printable(f"error: {error}"), file=sys.stderr)  # noqa: T201


def report_bundle(bundle: "Bundle", packages: Sequence["Package"], *, as_json: bool) -> None:
    """Size, wire size, parity and accuracy of every artifact."""
    manifest = bundle.manifest
    if as_json:
        _dump(
            {
                "bundle": str(bundle.path),
                "name": manifest.spec.name,
                "version": manifest.spec.version,
                "artifacts": [_artifact_json(entry) for entry in manifest.artifacts],
                "source_accuracy": manifest.samples.source_accuracy,
                "packages": [_package_json(package) for package in packages],
            }
        )
        return
    columns = ("artifact", "made by", "precision", "size", "brotli", "largest difference")
    rated = manifest.samples.source_accuracy is not None
    rows = table(*columns, *(["accuracy"] if rated else []), "proven in")
    for entry in manifest.artifacts:
        accuracy = [_percent(entry.accuracy)] if rated else []
        rows.add_row(
            entry.format,
            " -> ".join(entry.chain),
            entry.precision,
            human_bytes(entry.size),
            human_bytes(entry.wire_size),
            f"{entry.largest_difference:.1e}",
            *accuracy,
            ", ".join(row.runtime for row in entry.verification if row.status == "passed"),
        )
    say(rows)
    _say_compression(bundle)
    samples = manifest.samples
    line = f"compared with the source in {samples.source_runtime} on {samples.evaluated} samples"
    line += f" ({samples.origin})"
    if any(entry.compression for entry in manifest.artifacts):
        line += ", compressed artifacts with their own answers"
    say(f"{line}{_source_accuracy(samples.source_accuracy)}")
    for entry in manifest.artifacts:
        for row in entry.verification:
            if row.status == "unsupported":
                say(f"note: {entry.format} does not run in {row.runtime}: {row.reason}")
    for note in manifest.spec.notes:
        say(f"note: {note}")
    say(f"bundle: {shown(bundle.path)}")
    report_packages(packages, as_json=False)


def report_compression(path: Path, out: Path | None, *, as_json: bool) -> None:
    """The report of a bundle: as a table, as it is (JSON), or as a page at `out`."""
    from pipcook_deploy.bundle import REPORT, Bundle
    from pipcook_deploy.report.write import render

    bundle = Bundle.open(path)
    source = bundle.path / REPORT / "report.json"
    if not bundle.manifest.report:
        raise BundleError(
            f"{path}: was not compressed: there is no report",
            "add [data] and [budget] to its recipe, and run that again",
        )
    if out is not None:
        render(source, out)
        say(f"wrote {out}")
    elif as_json:
        _dump(json.loads(source.read_text()))
    else:
        _say_compression(bundle)


def _say_compression(bundle: "Bundle") -> None:
    from pipcook_deploy.bundle import REPORT

    if not bundle.manifest.report:
        return
    from pipcook_deploy.cli.compression import print_compression
    from pipcook_deploy.report.write import load

    folder = bundle.path / REPORT
    print_compression(load(folder / "report.json"))
    say(f"report: {shown(folder / 'report.html')}")


def report_packages(packages: Sequence["Package"], *, as_json: bool) -> None:
    """Where each package is and what starts it."""
    if as_json:
        _dump({"packages": [_package_json(package) for package in packages]})
        return
    for package in packages:
        if package.image is not None:
            from pipcook_deploy.cli.images import print_image

            print_image(package.image)
        for note in package.notes:
            say(f"note: {note}")
        say(f"package {package.target}: {shown(package.path)}\nrun: {shlex.join(package.command)}")


def report_verification(
    bundle: Path, results: Mapping[str, Sequence["VerificationEntry"]], *, as_json: bool
) -> None:
    """What was run and how far the answers were from the source's."""
    if as_json:
        verified = {
            name: [row.model_dump(mode="json") for row in part] for name, part in results.items()
        }
        _dump({"bundle": str(bundle), "verified": verified})
        return
    rows = table("artifact", "runtime", "status", "samples", "largest difference", "")
    for name, rows_of in results.items():
        for row in rows_of:
            largest = max((output.max_abs or 0.0 for output in row.outputs), default=0.0)
            rows.add_row(
                name, row.runtime, row.status, str(row.samples), f"{largest:.1e}", row.reason or ""
            )
    say(rows)
    say(f"{bundle}: every file is as it was made")


def report_inspection(inspection: "Inspection", *, as_json: bool) -> None:
    """The interface, the layers and the totals of a model."""
    data = inspection.to_json()
    if as_json:
        _dump(data)
        return
    from pipcook_deploy.cli.inspection import print_inspection

    print_inspection(inspection)


def report_check(recipe: Path, found: "RecipeCheck", *, as_json: bool) -> None:
    """The chains a recipe would run, and what is missing on this machine."""
    if as_json:
        _dump({"recipe": str(recipe), "chains": found.chains, "missing": found.missing})
        return
    for line in found.chains:
        say(line)
    for line in found.missing:
        say(f"missing: {line}")
    say(f"{recipe}: no mistakes" + ("" if not found.missing else ", but something is missing"))


def report_plugins(*, as_json: bool) -> None:
    """Every plugin and its options, and those of the recipe's own tables."""
    from pipcook_deploy.recipe import TABLES

    found: dict[str, dict[str, Any]] = {
        "converters": {},
        "passes": {},
        "targets": {},
        "runtimes": {},
        "tables": {},
    }
    for name in plugins.names(plugins.CONVERTERS):
        kind = plugins.converter(name)
        found["converters"][name] = {"accepts": list(kind.accepts), "options": _options(kind)}
    for name in plugins.names(plugins.TARGETS):
        found["targets"][name] = {"options": _options(plugins.target(name))}
    for name in plugins.names(plugins.PASSES):
        made = plugins.model_pass(name)
        found["passes"][name] = {"accepts": list(made.accepts), "options": _options(made)}
    for runtime in plugins.runtimes():
        found["runtimes"][runtime.name] = {"formats": list(runtime.formats)}
    for name in SHOWN_TABLES:
        found["tables"][name] = {"options": _options(TABLES[name])}
    if as_json:
        _dump(found)
        return
    rows = table("plugin", "kind", "reads", "options")
    for group, members in found.items():
        for name, row in members.items():
            reads = ", ".join(row.get("accepts", row.get("formats", [])))
            options = "\n".join(f"{key} = {text}" for key, text in row.get("options", {}).items())
            rows.add_row(name, KINDS[group], reads, options)
    say(rows)


def _options(kind: Any) -> dict[str, str]:
    return {
        name: f"{json.dumps(field.get_default(call_default_factory=True), default=str)}"
        + (f"  ({field.description})" if field.description else "")
        for name, field in kind.model_fields.items()
    }


def _artifact_json(entry: "ArtifactEntry") -> dict[str, Any]:
    return {
        "format": entry.format,
        "precision": entry.precision,
        "chain": list(entry.chain),
        "size": entry.size,
        "gzip": sum(file.gzip for file in entry.files),
        "brotli": entry.wire_size,
        "largest_difference": entry.largest_difference,
        "accuracy": entry.accuracy,
        "verification": [row.model_dump(mode="json") for row in entry.verification],
    }


def _package_json(package: "Package") -> dict[str, Any]:
    found: dict[str, Any] = {
        "target": package.target,
        "path": str(package.path),
        "command": list(package.command),
        "notes": list(package.notes),
    }
    if package.image is not None:
        found["image"] = package.image.model_dump(mode="json")
    return found


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _source_accuracy(accuracy: float | None) -> str:
    return "" if accuracy is None else f"; the source's accuracy on them is {accuracy:.2%}"


def _dump(data: Any) -> None:
    print(json.dumps(data, indent=1, ensure_ascii=False))  # noqa: T201
