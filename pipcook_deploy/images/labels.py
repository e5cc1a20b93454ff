"""What an image says of itself: OCI's annotations as labels."""

from datetime import UTC, datetime

from pipcook_deploy.bundle import Bundle

OCI = "org.opencontainers.image"
OWN = "io.github.pipcook-deploy"
LONGEST = 1000


def labels(bundle: Bundle, *, engine: str, content: str, base: str, epoch: int) -> dict[str, str]:
    """Title, version, licence, source; `content` is the digest of the bundle in the image."""
    spec, source = bundle.spec, bundle.manifest.source
    found = {
        f"{OCI}.title": spec.name,
        f"{OCI}.version": spec.version,
        f"{OCI}.description": spec.description or f"A prediction server for {spec.name}",
        f"{OCI}.licenses": spec.license or "",
        f"{OCI}.revision": source.sha256,
        f"{OCI}.created": datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z"),
        f"{OCI}.base.name": base,
        f"{OWN}.engine": engine,
        f"{OWN}.bundle": content,
        f"{OWN}.source-format": source.format,
    }
    return {key: text[:LONGEST] for key, text in found.items() if text}
