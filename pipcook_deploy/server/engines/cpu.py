"""What this process may compute on."""

import os
import platform
from math import ceil
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: "200000 100000", or "max 100000"
QUOTA_V1 = Path("/sys/fs/cgroup/cpu")


def cores() -> int:
    """Cores that this process may use: of those it is bound to, as many as its container's quota pays for."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(bound or 1, _quota() or bound or 1))


def cpu_name() -> str:
    """As the system calls it: "AMD EPYC 9B14"."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    # Virtual machines shorten the name; the numbers beside it still tell generations apart.
    keys = ("model name", "cpu family", "model", "stepping", "CPU part")
    rows = dict(row.replace("\t", "").split(":", 1) for row in lines if ":" in row)
    found = [rows[key].strip() for key in keys if key in rows]
    return " ".join(found) or platform.machine()


def _quota() -> int | None:
    """Whole cores, rounded up; None without a limit."""
    try:
        text = QUOTA.read_text().split()
    except OSError:
        text = _quota_v1()
    if len(text) != 2 or not all(part.isdecimal() for part in text):
        return None
    granted, period = map(int, text)
    return ceil(granted / period) if period and granted else None


def _quota_v1() -> list[str]:
    try:
        return [(QUOTA_V1 / f"cpu.cfs_{key}_us").read_text().strip() for key in ("quota", "period")]
    except OSError:
        return []
