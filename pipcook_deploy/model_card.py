"""MODEL_CARD.md: what the bundle holds, for people."""

from pipcook_deploy.manifest import ArtifactEntry, Manifest
from pipcook_deploy.spec import TensorSpec
from pipcook_deploy.text import human_bytes, printable

MOST_LABELS = 100  # of 5,000 nobody reads more


def render_card(manifest: Manifest) -> str:
    """The card as Markdown; pure."""
    spec = manifest.spec
    parts = [
        f"# {plain(spec.name)} {plain(spec.version)}",
        plain(spec.description) if spec.description else "",
        _facts(manifest),
        "## Interface\n\n" + _interface(manifest),
        "## Preprocessing\n\n" + _preprocessing(manifest),
        "## Artifacts\n\n" + _artifacts(manifest),
        _compression(manifest),
        _notes(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(manifest: Manifest) -> str:
    spec, source = manifest.spec, manifest.source
    rows = [
        f"- Task: {spec.task}",
        f"- Licence: {plain(spec.license) if spec.license else 'not stated'}",
        f"- Source: {plain(source.name)} ({source.format}), sha256 `{source.sha256}`",
    ]
    rows += [f"- {plain(name)}: {value:g}" for name, value in sorted(spec.metrics.items())]
    if spec.labels:
        more = ", ... (all of them: manifest.json)" if len(spec.labels) > MOST_LABELS else ""
        said = ", ".join(map(plain, spec.labels[:MOST_LABELS]))
        rows.append(f"- Labels ({len(spec.labels)}): {said}{more}")
    return "\n".join(rows)


def _interface(manifest: Manifest) -> str:
    def row(kind: str, tensor: TensorSpec) -> str:
        shape = ", ".join("?" if axis is None else str(axis) for axis in tensor.shape)
        return f"| {kind} | `{plain(tensor.name)}` | {tensor.dtype} | [{shape}] |"

    rows = [row("input", tensor) for tensor in manifest.spec.inputs]
    rows += [row("output", tensor) for tensor in manifest.spec.outputs]
    return "| | name | type | shape |\n|---|---|---|---|\n" + "\n".join(rows)


def _preprocessing(manifest: Manifest) -> str:
    if not manifest.spec.preprocessing:
        return "None declared: callers send the tensors themselves."
    rows = []
    for name, operations in manifest.spec.preprocessing.items():
        rows.append(f"`{plain(name)}`:\n")
        for number, operation in enumerate(operations, 1):
            fields = operation.model_dump(exclude={"op", "vocabulary"})
            options = ", ".join(f"{key}={value}" for key, value in fields.items())
            rows.append(f"{number}. {operation.op}" + (f" ({options})" if options else ""))
    return "\n".join(rows)


def _artifacts(manifest: Manifest) -> str:
    samples = manifest.samples
    rows = ["| format | precision | size | brotli | largest difference | accuracy | proven in |"]
    rows.append("|---|---|---|---|---|---|---|")
    rows += [_artifact_row(entry) for entry in manifest.artifacts]
    text = f"Compared with the source in {samples.source_runtime} on {samples.evaluated} samples"
    accuracy = samples.source_accuracy
    rated = f"; the source's accuracy on them is {accuracy:.2%}" if accuracy is not None else ""
    own = ""
    if any(entry.compression for entry in manifest.artifacts):
        own = " A compressed artifact's difference is from its own answers, in the runtime that judged it."
    return "\n".join(rows) + f"\n\n{text} ({plain(samples.origin)}){rated}.{own}"


def _artifact_row(entry: ArtifactEntry) -> str:
    accuracy = "" if entry.accuracy is None else f"{entry.accuracy:.2%}"
    proven = ", ".join(row.runtime for row in entry.verification if row.status == "passed")
    return (
        f"| {entry.format} | {entry.precision} | {human_bytes(entry.size)} "
        f"| {human_bytes(entry.wire_size)} | {entry.largest_difference:.1e} | {accuracy} | {proven} |"
    )


def _compression(manifest: Manifest) -> str:
    rows = [row for entry in manifest.artifacts if (row := _compression_row(entry))]
    if not rows:
        return ""
    head = "| format | model | precision | brotli before | brotli | metric | source | artifact | lost (95 % interval) |"
    line = "|---|---|---|---|---|---|---|---|---|"
    judged = next(e.compression.blessed_by for e in manifest.artifacts if e.compression)
    text = ""
    if judged is not None:
        allowed = "" if judged.max_drop is None else f"; at most {judged.max_drop:g} may be lost"
        text = (
            f"\n\nJudged on {judged.samples:,} samples that no choice was made with "
            f"(sha256 `{judged.data_sha256[:16]}…`){allowed}. All that was tried: `report/report.html`."
        )
    return "## Compression\n\n" + "\n".join([head, line, *rows]) + text


def _compression_row(entry: ArtifactEntry) -> str | None:
    found = entry.compression
    if found is None:
        return None
    blessed = found.blessed_by
    judged = " | | | |"
    if blessed is not None:
        drop = blessed.drop
        judged = (
            f" {plain(blessed.metric)} | {blessed.source.value:.4f} | {blessed.value.value:.4f} "
            f"| {drop.value:.4f} ({drop.low:.4f} to {drop.high:.4f}) |"
        )
    return (
        f"| {entry.format} | {plain(found.model)} | {entry.precision} "
        f"| {human_bytes(found.float_wire_size)} | {human_bytes(entry.wire_size)} |{judged}"
    )


def _notes(manifest: Manifest) -> str:
    notes = manifest.spec.notes
    return "## Notes\n\n" + "\n".join(f"- {plain(note)}" for note in notes) if notes else ""


def plain(text: str) -> str:
    """Text that stays one line and carries no Markdown or HTML of its own."""
    line = printable(" ".join(text.split()))
    for character in "\\`*_[]<>|#":
        line = line.replace(character, "\\" + character)
    return line
