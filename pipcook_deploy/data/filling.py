"""Fills splits from a source: in order, each sample once, what is bad or leaked left out and counted."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from pipcook_deploy.data.division import interleaved
from pipcook_deploy.data.preparation import Preparation
from pipcook_deploy.data.source import BadSampleError, Source
from pipcook_deploy.data.writer import SplitWriter
from pipcook_deploy.errors import UsageError

Progress = Callable[[str, int, int | None], None]
THREADS = min(4, os.cpu_count() or 1)  # decoders of pictures
AHEAD = 4 * THREADS  # samples that are decoded before they are written
EVERY = 64  # samples between two reports of progress


@dataclass(frozen=True)
class Ready:
    """A sample's tensors, what is right, and a hash over the tensors."""

    inputs: dict[str, NDArray[Any]]
    target: Any
    digest: bytes


@dataclass
class Filled:
    """What filling met: bad samples, and how many are in an earlier split already."""

    bad: list[str] = field(default_factory=list)
    leaked: int = 0


def fill(
    source: Source,
    preparation: Preparation,
    numbers: Mapping[str, NDArray[Any]],
    writers: Mapping[str, SplitWriter],
    seen: dict[bytes, str],
    bad_limit: float,
    progress: Progress,
) -> Filled:
    """Write the samples `numbers` (by split) into `writers`.

    `seen` maps the samples of earlier splits to their split, and learns those of these splits, "train" aside. A
    sample that is equal to one in another of these splits goes there too; one of an earlier split is left out.
    The splits are filled at the same pace, so that none gets more of the repeated samples than its share.
    Raises `UsageError` as soon as more than `bad_limit` of the samples are bad.
    """
    found = Filled(bad=list(getattr(source, "bad", [])))
    names = list(numbers)
    parts, order = interleaved(list(numbers.values()))
    allowed = bad_limit * (len(order) + len(found.bad))
    _check(source, found.bad, allowed)
    ready = _in_order(source, preparation, order)
    label = " and ".join(names)
    for done, (part, number, sample) in enumerate(zip(parts, order, ready, strict=True)):
        if done % EVERY == 0:
            progress(label, done, len(order))
        try:
            if isinstance(sample, BadSampleError):
                raise sample
            split = seen.get(sample.digest, names[part])
            if split not in writers:
                found.leaked += 1
                continue
            writers[split].append(sample.inputs, sample.target, source.name(int(number)))
            if split != "train":
                seen[sample.digest] = split
        except BadSampleError as error:
            found.bad.append(f"{source.name(int(number))}: {error.message}")
            _check(source, found.bad, allowed)
    progress(label, len(order), len(order))
    return found


def _check(source: Source, bad: list[str], allowed: float) -> None:
    if len(bad) <= allowed:
        return
    raise UsageError(
        f"{source.origin}: too many samples cannot be used: {len(bad)} so far, {int(allowed)} are allowed: "
        + "; ".join(bad[:3]),
        "repair or remove them, or allow more: [data] bad_limit",
    )


def _in_order(
    source: Source, preparation: Preparation, numbers: NDArray[Any]
) -> Iterator[Ready | BadSampleError]:
    if not source.parallel:
        yield from (_ready(source, preparation, int(number)) for number in numbers)
        return
    waiting: deque[Future[Ready | BadSampleError]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for number in numbers:
                waiting.append(pool.submit(_ready, source, preparation, int(number)))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _ready(source: Source, preparation: Preparation, number: int) -> Ready | BadSampleError:
    try:
        sample = source.read(number)
        inputs = preparation.done(sample.inputs) if source.prepared else preparation(sample.inputs)
    except BadSampleError as error:
        return error
    digest = hashlib.blake2b(digest_size=16)
    for value in inputs.values():
        content = repr(value.tolist()).encode() if value.dtype == object else value.tobytes()
        digest.update(content)
    return Ready(inputs, sample.target, digest.digest())
