"""Modules of the examples, which are no packages: their scripts import their neighbours by bare names."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parents[2] / "examples"


def example_module(example: str, name: str) -> ModuleType:
    """`examples/EXAMPLE/NAME.py` as a module, with its folder searched for what it imports."""
    path = EXAMPLES / example / f"{name}.py"
    specification = importlib.util.spec_from_file_location(f"{example}_{name}", path)
    assert specification and specification.loader
    made = importlib.util.module_from_spec(specification)
    before = list(sys.path)
    sys.path.insert(0, str(path.parent))
    try:
        specification.loader.exec_module(made)
    finally:
        sys.path[:] = before
    return made
