"""Writes what an image is made of, as CycloneDX 1.6: run in the stage that makes its layers.

    python3 sbom.py --root /image/system --root /image/packages --root /image/server \
      --model /image/model/model --lock requirements.txt --name NAME --out sbom.json

Only the standard library is needed. Same input, same bytes: its one time is SOURCE_DATE_EPOCH. Whatever cannot be
described (a distribution without a name, a file that the manifest does not know) ends it with status 1
and one line: a bill that leaves something out is worse than none.
"""

import argparse
import json
import os
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components import Bill, Component, SbomError
from distributions import Lock, add_distributions, read_lock
from model_component import add_model, read_manifest, version_of
from system_packages import add_system

IMAGE = "image"
EPOCH = 315532800  # 1980: the first day that a zip file can tell
SERIES = uuid.uuid5(uuid.NAMESPACE_URL, "urn:pipcook-deploy:sbom:1")


def sbom(
    roots: Sequence[Path], bundle: Path, *, lock: Lock, name: str | None = None, epoch: int = EPOCH
) -> str:
    """The document. `name` is the image's; the model's if None."""
    manifest = read_manifest(bundle)
    bill = Bill()
    add_system(bill, roots)
    add_distributions(bill, roots, lock)
    add_model(bill, bundle, manifest)
    image = {
        "type": "container",
        "bom-ref": IMAGE,
        "name": name or str(manifest["spec"].get("name")),
        "version": version_of(manifest),
    }
    return _text(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": None,
            "version": 1,
            "metadata": {
                "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "lifecycles": [{"phase": "build"}],
                "tools": {"components": [_tool(bill)]},
                "component": image,
            },
            "components": [bill.components[ref] for ref in sorted(bill.components)],
            "dependencies": _dependencies(bill),
        }
    )


def _tool(bill: Bill) -> Component:
    """This program, in the version that is in the image."""
    tool: Component = {"type": "application", "name": "pipcook-deploy"}
    for ref, component in sorted(bill.components.items()):
        if ref.startswith("pkg:pypi/pipcook-deploy@"):
            tool["version"] = component["version"]
    return tool


def _dependencies(bill: Bill) -> list[dict[str, Any]]:
    graph = bill.depends | {IMAGE: set(bill.components)}
    return [
        {"ref": ref} | ({"dependsOn": sorted(graph[ref])} if graph[ref] else {})
        for ref in sorted(graph)
    ]


def _text(document: dict[str, Any]) -> str:
    """With its number, which is made of all the rest. What is no text (half a surrogate pair) becomes `?`."""

    def written(document: dict[str, Any]) -> str:
        text = json.dumps(document, indent=1, ensure_ascii=False)
        return text.encode("utf-8", "replace").decode() + "\n"

    number = uuid.uuid5(SERIES, written(document))
    return written(document | {"serialNumber": number.urn})


def _epoch(text: str | None) -> int:
    try:
        epoch = int(text) if text else EPOCH
        datetime.fromtimestamp(epoch, UTC)
    except (ValueError, OverflowError, OSError):
        raise SbomError(f"SOURCE_DATE_EPOCH={text!r}: is no number of seconds") from None
    return epoch


def _run(arguments: argparse.Namespace) -> None:
    for root in arguments.root:
        if not root.is_dir():
            raise SbomError(f"{root}: is not a folder")
    lock = read_lock(arguments.lock.read_text("utf-8")) if arguments.lock else {}
    text = sbom(
        arguments.root,
        arguments.model,
        lock=lock,
        name=arguments.name,
        epoch=_epoch(os.environ.get("SOURCE_DATE_EPOCH")),
    )
    whole = arguments.out.with_name(arguments.out.name + ".part")
    whole.write_text(text, "utf-8")
    whole.replace(arguments.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write what an image is made of (CycloneDX 1.6).")
    parser.add_argument("--root", type=Path, action="append", required=True, help="a layer")
    parser.add_argument("--model", type=Path, required=True, help="the bundle")
    parser.add_argument("--lock", type=Path, help="requirements with hashes")
    parser.add_argument("--name", help="of the image; the model's if not given")
    parser.add_argument("--out", type=Path, required=True)
    try:
        _run(parser.parse_args(argv))
    except (SbomError, OSError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split()).encode("ascii", "backslashreplace").decode()
        sys.stderr.write(f"sbom.py: {line}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
