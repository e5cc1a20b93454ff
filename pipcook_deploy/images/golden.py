"""The golden samples of a bundle: what a started image is asked, and what it has to answer."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.compare import Tolerance, compare_outputs, tolerance_for
from pipcook_deploy.errors import BootError
from pipcook_deploy.images.asking import Server
from pipcook_deploy.images.contracts import Contract, label_of
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.runtimes.batches import batched
from pipcook_deploy.server.models.golden import group
from pipcook_deploy.server.models.predictor import both_classes
from pipcook_deploy.tensors import load_tensors

ROUNDING = 1e-9  # of a share
TIE = 1e-3  # of the best score: more than what exact artifacts differ by


@dataclass(frozen=True)
class Golden:
    """The golden samples of a bundle, and what its artifact has to answer."""

    bundle: Bundle
    format: str
    inputs: Tensors
    outputs: Tensors
    tolerance: Tolerance

    @classmethod
    def of(cls, bundle: Bundle, format: str) -> "Golden":
        """Raises `BundleError`."""
        entry = bundle.entry(format)
        passed = [row.tolerance for row in entry.verification if row.status == "passed"]
        tolerance = passed[0] if passed else tolerance_for(entry.precision)
        outputs = load_tensors(bundle.expected_outputs(format))
        return cls(bundle, format, bundle.golden_inputs(), outputs, tolerance)

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.inputs.values())))

    @property
    def group(self) -> tuple[int, bool]:
        """How many samples a request holds, and whether it has to be so many."""
        return group(self.bundle.artifact(self.format))

    def asked(self, contract: Contract, server: Server, count: int | None = None) -> Tensors:
        """What the server answers to the first `count` samples, or to all."""
        inputs = {name: value[:count] for name, value in self.inputs.items()}
        spec = self.bundle.spec
        try:
            return batched(lambda part: contract.ask(server, spec, part), inputs, *self.group)
        except (LookupError, TypeError, ValueError) as error:
            raise BootError(f"{contract.name}: the answer has another form: {error!r}") from error

    def request(self) -> Tensors:
        """Inputs of one request, as many samples as it has to hold."""
        size, exact = self.group
        rows = {name: value[:size] for name, value in self.inputs.items()}
        if not exact:
            return rows
        return {name: np.resize(value, (size, *value.shape[1:])) for name, value in rows.items()}

    def judged(self, contract: Contract, answers: Tensors) -> float:
        """The largest difference of answers to the first samples, or to all. Raises `BootError` if it is too large."""
        count = len(next(iter(answers.values())))
        expected = {name: value[:count] for name, value in self.outputs.items()}
        rows = compare_outputs(expected, answers, self.tolerance)
        wrong = [row for row in rows if not row.passed]
        if wrong:
            said = "; ".join(
                f"output {row.name!r} of sample {row.worst_sample} {row.reason}" for row in wrong
            )
            raise BootError(f"{contract.name}: other answers than the bundle recorded: {said}")
        return max((row.max_abs or 0.0 for row in rows), default=0.0)

    def check_first(self, contract: Contract, server: Server) -> None:
        """Raises `BootError` if the first answer is wrong; what may be wrong on a share of samples is not judged by one."""
        size, _ = self.group
        first = self.asked(contract, server, size)
        if self.tolerance.agreement is None:
            self.judged(contract, first)

    def check_labels(self, server: Server) -> int:
        """Send the files that callers would send, and count them. Raises `BootError` for labels that are not the best.

        An artifact that may disagree on a share of samples may do so here.
        """
        spec, files = self.bundle.spec, self.bundle.manifest.samples.encoded
        scores = self._scores(len(files))
        agreement = self.tolerance.agreement
        tie = (TIE if agreement is None else self.tolerance.tie) * float(np.abs(scores).max())
        wrong = []
        for row, file in zip(scores, files, strict=True):
            content = (self.bundle.path / "samples" / "encoded" / file).read_bytes()
            chosen, name = label_of(server, content)
            if not 0 <= chosen < len(row) or row[chosen] < row.max() - tie:
                best = int(row.argmax())
                expected = spec.labels[best] if best < len(spec.labels) else str(best)
                wrong.append(f"{file}: {name!r} instead of {expected!r}")
        right = 1 - len(wrong) / len(files)
        if right < (1.0 if agreement is None else agreement) - ROUNDING:
            raise BootError(f"POST /predict: other labels than the bundle recorded: {wrong[0]}")
        return len(files)

    def _scores(self, count: int) -> Any:
        """Of each class, for the first samples: [count, classes]."""
        spec = self.bundle.spec
        scores = self.outputs[spec.outputs[0].name][:count].reshape(count, -1)
        return both_classes(scores, spec) if scores.shape[1] == 1 else scores
