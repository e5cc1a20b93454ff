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


def test_a_folder_of_the_user_is_left_alone(tmp_path):
    folder = tmp_path / ".bundle.search"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not made by a search"), Journal(folder, {}):
        pass
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_file_or_a_link_in_its_place_is_an_error_of_the_output(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(OutputError, match="not made by a search"), Journal(tmp_path / name, {}):
            pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_search_that_was_killed_while_it_emptied_its_folder_may_begin_again(tmp_path):
    with Journal(tmp_path / "j", {"source": "a"}) as journal:
        journal.place("models/m")
    (tmp_path / "j" / "about.json").write_text("")  # what is written before the first removal
    with Journal(tmp_path / "j", {"source": "a"}) as journal:
        assert not (journal.folder / "models").exists()


def test_the_folder_is_removed_unless_another_run_took_it_up(tmp_path):
    journal = Journal(tmp_path / "j", {})
    with journal:
        journal.remember("x", lambda: 1)
    with Journal(tmp_path / "j", {}):
        journal.remove()
        assert (tmp_path / "j" / "results.jsonl").exists()
    journal.remove()
    assert not (tmp_path / "j").exists()
    journal.remove()  # there is nothing any more


def test_a_thread_that_outlives_the_run_writes_no_result(tmp_path):
    with Journal(tmp_path / "j", {}) as journal:
        pass
    with pytest.raises(OutputError, match="has ended"):
        journal.remember("late", lambda: {"failed": "the worker was ended"})
    assert not (tmp_path / "j" / "results.jsonl").exists()
