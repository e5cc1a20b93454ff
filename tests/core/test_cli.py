import json
import subprocess
import sys

import pytest

from pipcook_deploy.cli import main
from pipcook_deploy.errors import EXIT_CODES
from tests.bundles import write_small_bundle


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("run", "convert", "inspect", "verify", "serve", "init", "check", "plugins"):
        assert f"  {command} " in out


def test_a_mistyped_command_is_guessed(capsys):
    assert main(["convrt"]) == 2
    assert "did you mean 'convert'" in capsys.readouterr().err


def test_a_missing_source_is_refused_with_its_code(tmp_path, capsys):
    missing = tmp_path / "m.keras"
    code = main(["convert", str(missing), "--to", "onnx", "--out", str(tmp_path / "b")])
    assert code == 3
    assert str(missing) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_guessed(tmp_path, capsys):
    assert main(["convert", "m", "--to", "onxx", "--out", str(tmp_path / "b")]) == 2
    assert "did you mean 'onnx'" in capsys.readouterr().err


def test_errors_are_one_json_document_with_json(tmp_path, capsys):
    assert main(["verify", str(tmp_path), "--json"]) == 7
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "BundleError"
    assert error["exit_code"] == 7


def test_a_changed_bundle_is_refused_before_anything_runs(tmp_path, capsys):
    bundle = write_small_bundle(tmp_path / "b")
    (bundle.path / "artifacts" / "onnx" / "model.bin").write_bytes(b"other")
    assert main(["verify", str(bundle.path)]) == 7
    assert main(["serve", str(bundle.path)]) == 7
    assert "model.bin: was changed" in capsys.readouterr().err


def test_package_writes_beside_the_bundle(tmp_path, capsys):
    bundle = write_small_bundle(tmp_path / "b")
    assert main(["package", str(bundle.path), "--target", "local", "--set", "local.port=8000"]) == 0
    assert "--port" in (tmp_path / "b-local" / "serve.sh").read_text()
    assert "8000" in (tmp_path / "b-local" / "serve.sh").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "locl"], "did you mean 'local'"),
        (["--target", "local", "--set", "local.port=x"], "local.port"),
    ],
)
def test_a_wrong_target_or_option_is_named(tmp_path, capsys, arguments, message):
    bundle = write_small_bundle(tmp_path / "b")
    assert main(["package", str(bundle.path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_plugins_lists_options(capsys):
    assert main(["plugins", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "opset" in found["converters"]["onnx"]["options"]
    assert "local" in found["targets"]
    assert "tfjs_graph" in found["runtimes"]["tfjs-node"]["formats"]
    assert "of accuracy is half a point" in found["tables"]["budget"]["options"]["max_drop"]


def test_every_exit_code_is_in_the_readme():
    from pathlib import Path

    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    for code in EXIT_CODES:
        assert f"| {code} |" in readme


def test_ctrl_c_ends_with_130(tmp_path):
    code = (
        "import sys, pipcook_deploy.cli.app as a\n"
        "def stop(*_, **__): raise KeyboardInterrupt\n"
        "a.plugins.callback = stop\n"
        "from pipcook_deploy.cli import main; sys.exit(main(['plugins']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.strip() == "interrupted: nothing was left half-written"


def test_names_are_no_markup(capsys):
    from pipcook_deploy.cli.console import say, table

    rows = table("layer", "shape")
    rows.add_row("[/b] :smile: [red]x", "[?, 3]")
    say(rows)
    assert "[/b] :smile: [red]x" in capsys.readouterr().out
