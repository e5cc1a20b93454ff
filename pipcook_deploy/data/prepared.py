"""What the user's data became."""

import hashlib
from dataclasses import dataclass
from typing import Any

from pipcook_deploy.data.split import Split


@dataclass(frozen=True)
class PreparedData:
    """Disjoint splits by name: "selection" and "verdict", "calibration", and "train" if there is training data.

    `bad` are samples that were left out ("file: reason"). `origin` says what was read, `notes` what a user
    should know of it (leaks, assumptions). `sha256` is over all splits.
    """

    splits: dict[str, Split]
    bad: tuple[str, ...]
    origin: str
    sha256: str
    notes: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """Lines for the user: what is in each split, and what was left out."""
        lines = [f"data: {self.origin}"]
        lines += [f"{name}: {split.count:,} samples" for name, split in self.splits.items()]
        lines.append("no sample is in two splits")
        if self.bad:
            more = f", and {len(self.bad) - 3} more" if len(self.bad) > 3 else ""
            lines.append(f"left out, bad: {len(self.bad)}: {'; '.join(self.bad[:3])}{more}")
        return lines + list(self.notes)

    def to_json(self) -> dict[str, Any]:
        """As plain data, for a worker."""
        return {
            "splits": {name: split.to_json() for name, split in self.splits.items()},
            "bad": list(self.bad),
            "origin": self.origin,
            "sha256": self.sha256,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PreparedData":
        """The inverse of `to_json`."""
        splits = {name: Split.from_json(split) for name, split in data["splits"].items()}
        return cls(splits, tuple(data["bad"]), data["origin"], data["sha256"], tuple(data["notes"]))


def hash_of(splits: dict[str, Split]) -> str:
    """sha256 over the names and hashes of splits."""
    listing = "".join(f"{name} {split.sha256}\n" for name, split in sorted(splits.items()))
    return hashlib.sha256(listing.encode()).hexdigest()
