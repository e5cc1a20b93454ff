"""The README promises what is there: commands, options, the recipe, the Python example."""

import ast
import inspect
import re
from pathlib import Path

import click
import pytest

import pipcook_deploy
from pipcook_deploy.cli import main
from pipcook_deploy.cli.app import app
from pipcook_deploy.recipe import make_converters, read_recipe
from pipcook_deploy.spec import ModelSpec

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
    ROOT / "integrations" / "pipcook" / "README.md",
]


def section(title):
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def block(title, language):
    return re.search(rf"```{language}\n(.*?)```", section(title), re.DOTALL).group(1)


def commands():
    """What stands after `pipcook-deploy` where code is quoted, in every text."""
    found = set()
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        quoted = re.findall(r"`([^`\n]+)`", text) + re.findall(r"(?m)^(?:    |\$ )(.+)$", text)
        for code in quoted:
            found |= {
                match[1] for match in re.finditer(r"(?<![\w'/-])pipcook-deploy ([a-z]+)", code)
            }
    return sorted(found)


def test_the_texts_have_commands():
    assert {"setup", "serve", "verify", "plugins"} <= set(commands())


@pytest.mark.parametrize("name", commands())
def test_a_command_of_the_texts_exists(name, capsys):
    assert main([name, "--help"]) == 0
    assert f"Usage: pipcook-deploy {name}" in capsys.readouterr().out


def test_the_table_of_commands_is_complete():
    rows = re.findall(r"(?m)^\| (`.+?`.*?) \|", section("Commands"))
    quoted = [code for row in rows for code in re.findall(r"`([^`]+)`", row)]
    assert {code.split()[0] for code in quoted} == set(app.commands)
    for code in quoted:
        known = {flag for option in app.commands[code.split()[0]].params for flag in option.opts}
        assert set(re.findall(r"--[a-z-]+", code)) <= known, code


def test_the_options_of_the_text_exist():
    text = section("Commands").rsplit("|", 1)[0] + section("Commands")
    everywhere = {
        flag
        for command in app.commands.values()
        for option in command.params
        if isinstance(option, click.Option)
        for flag in option.opts
    }
    assert {"--json", "--set", "--keep-going"} <= set(re.findall(r"--[a-z-]+[a-z]", text))
    assert set(re.findall(r"--[a-z-]+[a-z]", text)) <= everywhere


def test_every_command_and_option_says_what_it_does():
    for name, command in app.commands.items():
        assert command.help, name
        for option in command.params:
            if isinstance(option, click.Option) and option.name not in ("out", "help"):
                assert option.help, f"{name} {option.opts}"


def test_the_recipe_of_the_readme_is_right(tmp_path):
    path = tmp_path / "deploy.toml"
    path.write_text(block("The recipe", "toml"), encoding="utf-8")
    recipe = read_recipe(path)
    assert list(recipe.convert) == ["tfjs", "onnx", "tflite"]
    assert recipe.verify["tflite"].absolute == 1e-4
    assert [operation.op for operation in recipe.model.preprocessing] == ["decode", "resize"]
    assert recipe.bundle.out == tmp_path / "dist" / "shoes"
    assert list(recipe.target) == ["docker"]


def test_the_recipe_of_the_example_is_right():
    recipe = read_recipe(ROOT / "examples" / "fashion-mnist" / "deploy.toml")
    assert recipe.model.source.is_dir()
    assert recipe.samples.path.is_dir()


def test_the_python_of_the_readme_fits_the_api():
    """Its arguments are taken by `deploy`, and their values by what `deploy` makes of them."""
    tree = ast.parse(block("From Python", "python"))
    (call,) = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert ast.unparse(call.func) == "pipcook_deploy.deploy"
    given = {
        word.arg: eval(compile(ast.Expression(word.value), "README.md", "eval"), {})
        for word in call.keywords
    }
    inspect.signature(pipcook_deploy.deploy).bind(object(), **given)
    converters = make_converters(given["to"], given["options"])
    assert {c.format for c in converters} == set(given["to"])
    spec = ModelSpec(
        task=given["task"], labels=given["labels"], preprocessing={"x": given["preprocessing"]}
    )
    assert len(spec.preprocessing["x"]) == 3


def test_links_of_the_texts_lead_somewhere():
    for path in TEXTS:
        for link in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            assert link.startswith("http") or (path.parent / link).exists(), f"{path.name}: {link}"


def test_files_that_contributing_names_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|converters|targets|pipcook_deploy|\.ci)/[\w./]*)`", text)
    assert len(named) > 5
    for name in named:
        if not re.search(r"[A-Z]{3}", name):  # to_FORMAT.py stands for any
            assert (ROOT / name).exists(), name
