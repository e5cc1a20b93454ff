"""Images of the example and of MobileNetV2: how large they are, how long they take to build and to answer.

    python benchmarks/images.py [--json FILE] [--starts N]

Needs a Docker engine (DOCKER_HOST) that has the base image. `cold` is a build without any cache, from the package
index to the image; `warm` is one where another model is all that is new. A start is timed from `docker run` to the
first right answer, in a container that is locked down as the boot test does it; the median of N.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from int8 import MAKE
from measure import PROGRAM, ROOT, needed, timed, write_json

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.compare import compare_outputs
from pipcook_deploy.errors import DeployError
from pipcook_deploy.images.asking import Server
from pipcook_deploy.images.boot import Golden
from pipcook_deploy.images.contracts import COMMON
from pipcook_deploy.images.docker_engine import DockerEngine
from pipcook_deploy.images.engine import Build, Image, RunOptions
from pipcook_deploy.images.record import ImageRecord
from pipcook_deploy.package import package_one
from pipcook_deploy.text import human_bytes

BARS = {  # bytes uncompressed, bytes compressed
    "fashion-mnist, onnxruntime": (250e6, 100e6),
    "mobilenet_v2, openvino": (450e6, None),
}
START_BAR, WARM_BAR, COLD_BAR = 2.0, 60.0, 240.0  # seconds


@dataclass
class Row:
    """One image."""

    name: str
    record: ImageRecord
    cold: float
    warm: float
    starts: list[float]

    @property
    def start(self) -> float:
        """Median seconds from `docker run` to the first right answer."""
        return statistics.median(self.starts)

    def problems(self) -> list[str]:
        """Bars that are not met."""
        size, compressed = BARS.get(self.name, (float("inf"), None))
        found = [(self.record.size, size, "size"), (self.warm, WARM_BAR, "warm build")]
        found += [(self.cold, COLD_BAR, "cold build"), (self.start, START_BAR, "start")]
        if compressed and self.record.compressed:
            found.append((self.record.compressed, compressed, "compressed"))
        return [
            f"{self.name}: {what} {value:.4g} > {bar:.4g}"
            for value, bar, what in found
            if value > bar
        ]


def main() -> int:
    """Measure and print; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    try:
        engine = DockerEngine.connect()
    except DeployError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    with tempfile.TemporaryDirectory() as scratch:
        rows = [
            _measured(
                "fashion-mnist, onnxruntime",
                _fashion(),
                "onnxruntime",
                engine,
                scratch,
                options.starts,
            ),
            _measured(
                "fashion-mnist, litert", _fashion(), "litert", engine, scratch, options.starts
            ),
            _measured(
                "mobilenet_v2, openvino",
                _mobilenet(Path(scratch)),
                "openvino",
                engine,
                scratch,
                options.starts,
            ),
        ]
    _print(rows)
    problems = [problem for row in rows for problem in row.problems()]
    for problem in problems:
        print(f"NOT MET: {problem}")
    if options.json:
        write_json(options.json, {row.name: _json(row) for row in rows})
    return 1 if problems else 0


def _fashion() -> Path:
    bundle = ROOT / "dist" / "fashion-mnist"
    if not (bundle / "manifest.json").exists():
        recipe = ROOT / "examples" / "fashion-mnist" / "deploy.toml"
        needed(timed([PROGRAM, "run", recipe]), "the bundle of the example")
    return bundle


def _mobilenet(scratch: Path) -> Path:
    source, bundle = scratch / "saved_model", scratch / "mobilenet_v2"
    needed(timed([sys.executable, "-c", MAKE, "MobileNetV2", source]), "MobileNetV2")
    needed(timed([PROGRAM, "convert", source, "--to", "onnx", "--out", bundle]), "its bundle")
    return bundle


def _measured(
    name: str, path: Path, kind: str, engine: DockerEngine, scratch: str, starts: int
) -> Row:
    bundle, out = Bundle.open(path), Path(scratch) / f"{path.name}-{kind}"
    options: dict[str, Any] = {"engine": kind, "tag": f"pipcook-deploy-bench:{path.name}-{kind}"}
    package_one(bundle, "docker", options | {"build": False}, out)
    cold = _timed(
        lambda: engine.build(
            Build(out, "pipcook-deploy-bench:cold", 315_532_800, cache=False), _silent
        )
    )
    # As with a new model: only the last steps are made again.
    before = package_one(bundle, "docker", options | {"port": 8081}, out).image
    warm = time.perf_counter()
    record = package_one(bundle, "docker", options, out).image
    assert before is not None and record is not None and record.boot is not None
    warm = time.perf_counter() - warm
    image = engine.image(record.tags[0])
    assert image is not None
    golden = Golden.of(bundle, "tflite" if kind == "litert" else "onnx")
    run = RunOptions(8080, record.boot.memory)
    row = Row(name, record, cold, warm, [_start(engine, image, golden, run) for _ in range(starts)])
    for tag in {*before.tags, *record.tags, "pipcook-deploy-bench:cold"}:
        engine.untag(tag)
    return row


def _start(engine: DockerEngine, image: Image, golden: Golden, options: RunOptions) -> float:
    """Seconds to the first right answer of one sample."""
    began = time.perf_counter()
    container = engine.start(image, options)
    try:
        while True:
            try:
                host, port, _ = container.address()
                answers = golden.asked(COMMON[0], Server(host, port), 1)
                break
            except (OSError, DeployError):
                if time.perf_counter() - began > 60:
                    raise
                time.sleep(0.01)
        seconds = time.perf_counter() - began
        first = {name: value[:1] for name, value in golden.outputs.items()}
        assert all(row.passed for row in compare_outputs(first, answers, golden.tolerance))
        return seconds
    finally:
        container.remove()


def _timed(run: Any) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _silent(text: str, done: int, total: int | None) -> None:
    """No progress is shown."""


def _print(rows: list[Row]) -> None:
    print(f"{'image':28}{'size':>10}{'compressed':>12}{'cold':>8}{'warm+boot':>11}{'start':>8}")
    for row in rows:
        compressed = "" if row.record.compressed is None else human_bytes(row.record.compressed)
        print(
            f"{row.name:28}{human_bytes(row.record.size):>10}{compressed:>12}"
            f"{row.cold:7.1f}s{row.warm:10.1f}s{row.start:7.2f}s"
        )
        for layer in row.record.layers:
            stored = "" if layer.compressed is None else human_bytes(layer.compressed)
            print(f"  {layer.what:36}{human_bytes(layer.size):>10}{stored:>10}")


def _json(row: Row) -> dict[str, Any]:
    return {
        "size": row.record.size,
        "compressed": row.record.compressed,
        "layers": {layer.what: layer.size for layer in row.record.layers},
        "cold_seconds": row.cold,
        "warm_seconds_with_boot": row.warm,
        "start_seconds": row.starts,
        "bars_missed": row.problems(),
    }


if __name__ == "__main__":
    sys.exit(main())
