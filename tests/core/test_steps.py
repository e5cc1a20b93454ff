import pytest

from pipcook_deploy import plugins, steps
from pipcook_deploy.converter import Converter
from pipcook_deploy.errors import ConversionError, OutputError
from pipcook_deploy.model import Model
from pipcook_deploy.spec import ModelSpec
from pipcook_deploy.text import numbered, printable


def _converter(error):
    class Failing(Converter):
        format = "failing"
        accepts = ("keras",)

        def convert(self, model, into):
            raise error

    return Failing


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("bad layer\nand more"), ConversionError, "failing: ValueError: bad layer$"),
        (RuntimeError("wal: No space left on device; x"), OutputError, "no space left on device"),
    ],
)
def test_a_frameworks_error_becomes_one_line_of_its_kind(
    tmp_path, monkeypatch, error, kind, message
):
    monkeypatch.setattr(plugins, "converter", lambda _: _converter(error))
    model = Model(tmp_path, "keras", ModelSpec()).to_json()
    with pytest.raises(kind, match=message):
        steps.convert("failing", {}, model, str(tmp_path))


def test_a_terminal_takes_no_orders_from_a_name():
    assert printable("a\x1b[31mred\x07\nb ü") == "a\ufffd[31mred\ufffd\nb ü"


def test_repeated_names_are_numbered_past_those_that_are_taken():
    assert numbered(["a", "a_1", "a", "b", "a"]) == ["a", "a_1", "a_2", "b", "a_3"]
