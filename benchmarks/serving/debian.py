"""Debian packages that the benchmark needs; installed if they are missing."""

import os
import shutil
import subprocess
from collections.abc import Sequence


class UnavailableError(Exception):
    """Something cannot be had here; the message says why."""


def program(name: str, *packages: str) -> str:
    """The path of a program, after its packages were installed if need be."""
    if shutil.which(name) is None:
        install(packages)
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(f"there is no {name}; run: apt-get install {' '.join(packages)}")
    return found


def installed(package: str) -> bool:
    """Whether dpkg has it."""
    query = ["dpkg-query", "-W", "-f", "${Status}", package]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return done.stdout.endswith("ok installed")


def install(packages: Sequence[str]) -> None:
    """apt-get install what is missing. Raises `UnavailableError`."""
    if shutil.which("dpkg-query") is None:
        raise UnavailableError(f"not a Debian: install {', '.join(packages)} by hand")
    missing = [name for name in packages if not installed(name)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise UnavailableError(f"run: sudo apt-get install {' '.join(missing)}")
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", *missing]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")
