"""Text -> ids, by code points, so that every language with Unicode tables gets the same."""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.preprocess.operations import Pad, Tokenize

# The property White_Space; str.isspace() adds U+001C..U+001F.
WHITE_SPACE = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def tokenize(operation: Tokenize, text: str) -> NDArray[Any]:
    """int32 [tokens]."""
    table = _table(operation.vocabulary)
    ids = []
    for token in split(operation, text):
        place = table.get(token)
        if place is not None:
            ids.append(place + operation.first_id)
        elif operation.unknown_id is not None:
            ids.append(operation.unknown_id)
    return np.asarray(ids, np.int32)


def split(operation: Tokenize, text: str) -> list[str]:
    """Tokens. Lower-casing goes code point by code point: no rule looks at the neighbours."""
    if operation.lower:
        text = "".join(character.lower() for character in text)
    if operation.split == "char":
        return list(text)
    return list(_runs(text, _is_word if operation.split == "word" else _is_not_space))


def pad(operation: Pad, ids: NDArray[Any]) -> NDArray[Any]:
    """int32 [length]."""
    if ids.ndim != 1:
        raise PreprocessingError(f"pad takes a list of ids, not shape {list(ids.shape)}")
    if len(ids) > operation.length:
        ids = ids[: operation.length] if operation.cut == "end" else ids[-operation.length :]
    padded = np.full(operation.length, operation.value, np.int32)
    start = 0 if operation.side == "end" else operation.length - len(ids)
    padded[start : start + len(ids)] = ids
    return padded


@lru_cache(maxsize=8)
def _table(vocabulary: tuple[str, ...]) -> dict[str, int]:
    return {token: place for place, token in reversed(list(enumerate(vocabulary)))}


@lru_cache(maxsize=4096)
def _is_word(character: str) -> bool:
    return character == "_" or unicodedata.category(character)[0] in "LN"


def _is_not_space(character: str) -> bool:
    return character not in WHITE_SPACE


def _runs(text: str, belongs: Any) -> Iterator[str]:
    start = None
    for i, character in enumerate(text):
        if belongs(character):
            start = i if start is None else start
        elif start is not None:
            yield text[start:i]
            start = None
    if start is not None:
        yield text[start:]
