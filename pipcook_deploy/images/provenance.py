"""Where an image comes from: an in-toto Statement v1 with SLSA provenance v1."""

import json
import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

BUILD_TYPE = "urn:pipcook-deploy:docker-image:1"

Resource = tuple[str, Mapping[str, str]]


def provenance(
    *,
    subjects: Sequence[Resource],
    materials: Sequence[Resource],
    parameters: Mapping[str, JsonValue],
    builder: str,
    version: str,
    epoch: int,
) -> str:
    """The statement, as JSON; same arguments, same text, in whatever order they come.

    Subjects and materials are named and have digests (`{"sha256": hex}`); materials may be URIs, whose digests
    may be unknown. `builder` is the URI of who built, `version` that of pipcook-deploy. `epoch` is the time that
    the image's files have: the build's own is not told, as no two builds would then say the same.
    Raises `ValueError` for what the specifications do not allow.
    """
    if not subjects:
        raise ValueError("a statement is about something: no subjects")
    if not _is_uri(builder):
        raise ValueError(f"the builder {builder!r} is not a URI")
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [_subject(*subject) for subject in _ordered(subjects)],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": dict(parameters),
                "internalParameters": {"sourceDateEpoch": epoch},
                "resolvedDependencies": [_material(*material) for material in _ordered(materials)],
            },
            "runDetails": {"builder": {"id": builder, "version": {"pipcook-deploy": version}}},
        },
    }
    text = json.dumps(statement, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace").decode() + "\n"


def _ordered(resources: Sequence[Resource]) -> list[Resource]:
    return sorted(resources, key=lambda resource: (resource[0], sorted(resource[1].items())))


def _subject(name: str, digest: Mapping[str, str]) -> dict[str, JsonValue]:
    if not digest:
        raise ValueError(f"the subject {name!r} has no digest")
    return {"name": name, "digest": _digest(name, digest)}


def _material(name: str, digest: Mapping[str, str]) -> dict[str, JsonValue]:
    uri = _is_uri(name)
    if not uri and not digest:
        raise ValueError(f"the material {name!r} is neither a URI nor has it a digest")
    described: dict[str, JsonValue] = {"uri" if uri else "name": name}
    return described | ({"digest": _digest(name, digest)} if digest else {})


def _digest(name: str, digest: Mapping[str, str]) -> dict[str, JsonValue]:
    for algorithm, value in digest.items():
        if not re.fullmatch(r"[0-9a-f]{40,128}", value):
            raise ValueError(f"{name!r}: {algorithm} is {value!r}, not lower-case hexadecimal")
    return dict(digest)


def _is_uri(text: str) -> bool:
    """`python:3.11-slim` looks like one by its grammar, and is none."""
    return re.fullmatch(r"(pkg:|urn:|[a-z][a-z0-9+.-]*://)[^\s<>\"]+", text) is not None
