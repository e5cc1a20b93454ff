import json

import pytest

from pipcook_deploy.compression.journal import Journal
from pipcook_deploy.errors import OutputError


def test_a_result_is_computed_once(tmp_path):
    calls = []
    with Journal(tmp_path / "j", {"source": "a"}) as journal:
        for _ in range(2):
            assert journal.remember("x", lambda: calls.append(1) or {"value": len(calls)}) == {
                "value": 1
            }
    with Journal(tmp_path / "j", {"source": "a"}) as journal:
        assert journal.resumed == 1
        assert journal.remember("x", lambda: pytest.fail("computed again")) == {"value": 1}


def test_another_source_or_tool_starts_anew(tmp_path):
    with Journal(tmp_path / "j", {"source": "a"}) as journal:
        journal.remember("x", lambda: 1)
        journal.place("models/m").joinpath("weights").write_text("old")
    with Journal(tmp_path / "j", {"source": "b"}) as journal:
        assert journal.resumed == 0
        assert not (journal.folder / "models").exists()
        assert journal.remember("x", lambda: 2) == 2


def test_an_error_is_not_a_result(tmp_path):
    with Journal(tmp_path / "j", {}) as journal:
        with pytest.raises(ZeroDivisionError):
            journal.remember("x", lambda: 1 / 0)
        assert journal.remember("x", lambda: 3) == 3


def test_a_torn_line_is_forgotten_and_the_rest_kept(tmp_path):
    with Journal(tmp_path / "j", {}) as journal:
        journal.remember("whole", lambda: 1)
    with (tmp_path / "j" / "results.jsonl").open("a") as stream:
        stream.write('{"key": "torn", "val')
    with Journal(tmp_path / "j", {}) as journal:
        assert journal.remember("whole", lambda: pytest.fail("forgotten")) == 1
        assert journal.remember("torn", lambda: 2) == 2
    with Journal(tmp_path / "j", {}) as journal:
        assert journal.remember("torn", lambda: pytest.fail("lost after the torn line")) == 2


def test_two_searches_do_not_share_a_folder(tmp_path):
    with (
        Journal(tmp_path / "j", {}),
        pytest.raises(OutputError, match="another run"),
        Journal(tmp_path / "j", {}),
    ):
        pass


def test_what_a_half_done_step_left_is_removed(tmp_path):
    with Journal(tmp_path / "j", {}) as journal:
        (journal.place("artifacts/a") / "half").write_text("x")
        assert list(journal.place("artifacts/a").iterdir()) == []


def test_results_are_what_json_says(tmp_path):
    with Journal(tmp_path / "j", {}) as journal:
        first = journal.remember("x", lambda: {"shape": (1, 2)})
    assert first == {"shape": [1, 2]}  # now as later
    rows = (tmp_path / "j" / "results.jsonl").read_text().splitlines()
    assert json.loads(rows[0]) == {"key": "x", "value": {"shape": [1, 2]}}
