"""What users write, quoted: other parsers read the same text back."""

import re

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pipcook_deploy.images.quoting import (
    dockerfile_pairs,
    dockerfile_quoted,
    one_line,
    yaml_quoted,
)

HOSTILE = 'a "b"; $(touch x)'
# Letters that mean something somewhere come often.
TEXT = st.text(
    st.one_of(st.sampled_from("\\\"'$`{}#=: \n\t&*!|>%@<-\x85\u2028😀é"), st.characters())
)
CONTINUED = re.compile(r"\\[ \t]*$")


def labels_of(dockerfile):
    """The labels of a Dockerfile, read by the rules of its reference: lines, words, quotes, variables."""
    found = {}
    for instruction in _instructions(dockerfile):
        name, _, rest = instruction.partition(" ")
        assert name == "LABEL"
        found |= dict(_word_pair(word) for word in _words(rest))
    return found


def _instructions(text):
    whole = ""
    for line in text.split("\n"):
        if line.lstrip(" \t").startswith("#"):
            continue
        if CONTINUED.search(line):
            whole += CONTINUED.sub("", line)
        elif whole + line:
            yield (whole + line).strip()
            whole = ""
    assert not whole


def _words(text):
    """Split at blanks that are neither quoted nor escaped."""
    word, quote, at = "", "", 0
    while at < len(text):
        letter = text[at]
        if letter == "\\" and quote != "'":
            word += text[at : at + 2]
            at += 2
            continue
        if letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
        if letter.isspace() and not quote:
            if word:
                yield word
            word = ""
        else:
            word += letter
        at += 1
    assert not quote, "a quote is open"
    if word:
        yield word


def _word_pair(word):
    key, equals, value = word.partition("=")
    assert equals
    assert value[0] == value[-1] == '"'
    return key, _unquoted(value[1:-1])


def _unquoted(text):
    """Between double quotes a backslash takes the meaning of a quote, a dollar and itself, and of nothing else."""
    read, at = "", 0
    while at < len(text):
        if text[at] == "\\" and text[at + 1 : at + 2] in tuple('"$\\'):
            at += 1
        elif text[at] in '"$':
            raise AssertionError(f"{text[at]} means something at {at} of {text!r}")
        read += text[at]
        at += 1
    return read


@given(TEXT)
@example(HOSTILE)
@example("\\")
@example("ends in \\")
@example("line\n\nRUN evil")
@example("a\\\nb")
@example("\x1b[2Jcleared")
@example("${HOME} $HOME $$")
def test_a_label_is_read_as_it_was_written(text):
    line = dockerfile_pairs({"first": text, "second": "x"})
    assert labels_of(f"LABEL {line}\n") == {"first": one_line(text), "second": "x"}


@given(st.dictionaries(st.from_regex(r"[a-z][a-z.-]{0,9}", fullmatch=True), TEXT, min_size=1))
def test_labels_stand_on_a_line_each(pairs):
    text = f"LABEL {dockerfile_pairs(pairs)}\n"
    assert labels_of(text) == {key: one_line(value) for key, value in pairs.items()}
    assert len(text.splitlines()) == len(pairs)


@given(TEXT)
@example(HOSTILE)
@example("😀 $HOME")
@example("\ufeff\ufffe\ud800")
@example("yes")
@example("1.0")
def test_yaml_is_read_as_it_was_written(text):
    read = yaml.safe_load(f"key: {yaml_quoted(text)}\nother: 1\n")
    assert read == {"key": one_line(text).replace("$", "$$"), "other": 1}
    assert len(yaml_quoted(text).splitlines()) == 1


def test_a_dollar_is_no_variable_of_compose():
    assert yaml.safe_load(yaml_quoted("$HOME ${X} $$")) == "$$HOME $${X} $$$$"


@given(TEXT)
def test_one_line_has_nothing_that_moves_a_cursor(text):
    line = one_line(text)
    assert line.isprintable()
    assert line == line.strip()
    assert "  " not in line
    assert one_line(line) == line


@pytest.mark.parametrize(
    ("text", "line"), [("a\r\nb", "a b"), (" a  b ", "a b"), ("a\x1b[31m", "a [31m"), ("é 😀", "é 😀"), ("", "")]
)  # fmt: skip
def test_one_line_keeps_what_can_be_seen(text, line):
    assert one_line(text) == line
    assert dockerfile_quoted(text) == f'"{line}"'
