"""The model of an image: its bundle as a component with a model card."""

import json
from pathlib import Path
from typing import Any

from components import Bill, Component, SbomError, file_component, files_below, property_of
from licences import of_text

REF = "model"


def read_manifest(bundle: Path) -> dict[str, Any]:
    """`manifest.json`; what wrote it has checked it, so only its outline is looked at."""
    path = bundle / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SbomError(f"{path}: cannot be read: {error}") from error
    parts = manifest if isinstance(manifest, dict) else {}
    kinds = {"spec": dict, "source": dict, "artifacts": list}
    if any(not isinstance(parts.get(key), kind) for key, kind in kinds.items()):
        raise SbomError(f"{path}: is not the manifest of a bundle")
    return parts


def add_model(bill: Bill, bundle: Path, manifest: dict[str, Any]) -> None:
    """Add it; raises `SbomError` if its files are not those of the manifest."""
    try:
        bill.add(_component(bundle, manifest), [])
    except (KeyError, TypeError, AttributeError) as error:
        raise SbomError(
            f"{bundle / 'manifest.json'}: is not understood: {type(error).__name__}: {error}"
        ) from error


def _component(bundle: Path, manifest: dict[str, Any]) -> Component:
    spec, source = manifest["spec"], manifest["source"]
    component: Component = {
        "type": "machine-learning-model",
        "bom-ref": REF,
        "name": str(spec["name"]),
        "version": version_of(manifest),
        "description": spec.get("description"),
        "licenses": of_text(spec.get("license") or ""),
        "components": _files(bundle, manifest),
        "modelCard": _card(spec),
        "properties": [
            property_of(f"source:{key}", source[key]) for key in ("format", "name", "sha256")
        ],
    }
    return {key: value for key, value in component.items() if value}


def version_of(manifest: dict[str, Any]) -> str:
    """No more of it than CycloneDX takes."""
    return str(manifest["spec"].get("version") or "")[:1024]


def _files(bundle: Path, manifest: dict[str, Any]) -> list[Component]:
    files = [
        file_component(path, str(path.relative_to(bundle)), REF)
        for path in files_below(bundle / "artifacts")
    ]
    there = {file["name"]: file["hashes"][0]["content"] for file in files}
    promised = {
        f"artifacts/{artifact['format']}/{file['path']}": file["sha256"]
        for artifact in manifest["artifacts"]
        for file in artifact["files"]
    }
    for name in sorted(set(there) | set(promised)):
        if there.get(name) != promised.get(name):
            what = "not of this content" if name in there and name in promised else "not there"
            where = "the manifest" if name in there else "the bundle"
            raise SbomError(f"{bundle}: {name!r} is {what} in {where}")
    return sorted(files, key=lambda file: str(file["bom-ref"]))


def _card(spec: dict[str, Any]) -> dict[str, Any]:
    metrics = sorted((spec.get("metrics") or {}).items())
    card: dict[str, Any] = {
        "modelParameters": {
            "task": spec["task"],
            "inputs": [_tensor(tensor) for tensor in spec["inputs"]],
            "outputs": [_tensor(tensor) for tensor in spec["outputs"]],
        }
    }
    if metrics:
        rows = [{"type": name, "value": str(value)} for name, value in metrics]
        card["quantitativeAnalysis"] = {"performanceMetrics": rows}
    return card


def _tensor(tensor: dict[str, Any]) -> dict[str, str]:
    """CycloneDX has one text for a tensor."""
    axes = ", ".join("?" if size is None else str(size) for size in tensor["shape"])
    return {"format": f"{tensor['name']}: {tensor['dtype']}[{axes}]"}
