"""What the benchmarks share: run a command with its time taken, and write results."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = Path(sys.executable).with_name("pipcook-deploy")

# As the Makefile sets them: what every tool here is measured with.
ENVIRONMENT = os.environ | {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}


@dataclass(frozen=True)
class Run:
    """One command: wall seconds, processor seconds with its children's, exit code, what it wrote."""

    seconds: float
    cpu: float
    code: int
    out: str
    err: str

    @property
    def reason(self) -> str:
        """The last line it wrote, why it failed."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return lines[-1].strip() if lines else f"exit code {self.code}"


def timed(command: Sequence[str | Path], timeout: float = 1200) -> Run:
    """Run without a shell; a command that takes too long has failed."""
    start, cpu = time.perf_counter(), cpu_seconds()
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        done = None
    seconds, used = time.perf_counter() - start, cpu_seconds() - cpu
    if done is None:
        return Run(seconds, used, -1, "", f"took longer than {timeout:.0f} s")
    return Run(seconds, used, done.returncode, done.stdout, done.stderr)


def cpu_seconds() -> float:
    """Of all children that have ended, and theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def needed(run: Run, what: str) -> Run:
    """`run`, or the end of the program with what it wrote."""
    if run.code:
        raise SystemExit(f"{what} failed\n{run.err[-4000:] or run.out[-4000:]}")
    return run


def write_json(path: Path | None, content: Any) -> None:
    """Write `content` if a path is given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def put_into(path: Path, mark: str, text: str) -> None:
    """Replace what stands between `<!-- mark:begin -->` and `<!-- mark:end -->`."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    content = path.read_text("utf-8")
    before, found, rest = content.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{path}: no {begin} ... {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")
