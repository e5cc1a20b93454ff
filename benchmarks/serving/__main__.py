"""`python benchmarks/serving`: makes the folder importable as `serving`, and `measure` beside it."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from serving.command import main

    sys.exit(main())
