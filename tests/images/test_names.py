"""Names of images, held against the grammar of the OCI distribution specification, written here once more."""

import re
from string import ascii_letters, digits

import pytest
from docker.utils import parse_repository_tag
from hypothesis import example, given
from hypothesis import strategies as st

from pipcook_deploy.errors import UsageError
from pipcook_deploy.images.names import repository_of, tag_of, tags

CONTENT = "0123456789abcdef" * 4
# As the specification and distribution/reference spell them.
NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
DOMAIN = re.compile(rf"(?:{LABEL}(?:\.{LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")


def is_reference(text):
    repository, tag = parse_repository_tag(text)
    domain, slash, rest = repository.partition("/")
    has_host = slash and (
        set(domain) & set(".:[") or domain == "localhost" or domain != domain.lower()
    )
    if has_host and not DOMAIN.fullmatch(domain):
        return False
    path = rest if has_host else repository
    return len(path) <= 255 and bool(NAME.fullmatch(path) and TAG.fullmatch(tag or ""))


@given(st.text(), st.text())
@example("", "")
@example("Ankle boots!", "1.0+gpu")
@example("ſtraße K", "-.-")
@example("a" * 500, "v" * 500)
@example("a-" * 100, "." * 200 + "1")
@example("___", "__1__")
@example('a "b"; $(touch x)', "1\n2")
def test_every_model_has_names_that_registries_take(name, version):
    by_version, by_content = tags("", name, version, CONTENT)
    assert is_reference(by_version)
    assert is_reference(by_content)
    assert by_content.endswith(f"-{CONTENT[:12]}")
    assert by_version.rpartition(":")[0] == by_content.rpartition(":")[0]


@given(st.text(ascii_letters + digits + "._-", min_size=1, max_size=128).filter(TAG.fullmatch))
@example("v" * 128)
def test_every_tag_of_a_user_leaves_room_for_the_content(tag):
    by_version, by_content = tags(f"shop/shoes:{tag}", "m", "1", CONTENT)
    assert by_version == f"shop/shoes:{tag}"
    assert is_reference(by_content)


@pytest.mark.parametrize(
    ("name", "repository"),
    [("Ankle boots!", "ankle-boots"), ("shoes", "shoes"), ("a__b", "a-b"), ("鞋", "model"), ("-", "model")],
)  # fmt: skip
def test_a_models_name_is_kept_as_far_as_it_can_be(name, repository):
    assert repository_of(name) == repository


@pytest.mark.parametrize(
    ("version", "tag"),
    [("1.0+gpu", "1.0-gpu"), ("2026-01-02", "2026-01-02"), ("v_1", "v_1"), ("..", "latest"), ("", "latest")],
)  # fmt: skip
def test_a_version_is_kept_as_far_as_it_can_be(version, tag):
    assert tag_of(version) == tag


VALID = {
    "shoes": "shoes:3",
    "shoes:1.2": "shoes:1.2",
    "shop/shoes:1": "shop/shoes:1",
    "localhost/shoes": "localhost/shoes:3",
    "localhost:5000/shoes": "localhost:5000/shoes:3",
    "registry.example:5000/shop/shoes:1.2": "registry.example:5000/shop/shoes:1.2",
    "Registry.Example/shoes": "Registry.Example/shoes:3",
    "[::1]:5000/shoes:1": "[::1]:5000/shoes:1",
    "127.0.0.1:5000/a.b/c_d/e__f/g---h": "127.0.0.1:5000/a.b/c_d/e__f/g---h:3",
    "a:_": "a:_",
    f"{'a' * 255}": f"{'a' * 255}:3",
}


@pytest.mark.parametrize("wanted", VALID)
def test_what_a_user_asks_for_is_the_name(wanted):
    by_version, by_content = tags(wanted, "model", "3", CONTENT)
    assert by_version == VALID[wanted]
    assert by_content == f"{VALID[wanted]}-{CONTENT[:12]}"
    assert is_reference(by_version)


INVALID = [
    "Shoes", "shop/Shoes", "shoes:", ":1", "/shoes", "shoes/", "a//b", "shoes:-1", "shoes:.1", "shoes:a b",
    f"shoes:{'v' * 129}", "a" * 256, "shoes@sha256:" + "0" * 64, "shoes:1@sha256:" + "0" * 64,
    "registry.example:5000/Shoes", "registry.example:port/shoes", "registry.example:/shoes", "shoes\n",
    "shoes:1\n", " shoes", "-shoes", "shoes-", "a..b", "a___b", "a._b", "https://registry.example/shoes",
    "a..b.example/shoes", "-registry.example/shoes", "registry-.example/shoes", "registry.example./shoes",
    "[::1/shoes", "$(touch x)", 'a"b', "schuhe-größe", "shoes:größe",
]  # fmt: skip


@pytest.mark.parametrize("wanted", INVALID)
def test_what_no_registry_takes_is_refused(wanted):
    with pytest.raises(UsageError, match="--tag: "):
        tags(wanted, "model", "1", CONTENT)


@given(st.text("ab.:/_-@[]5AZ", max_size=12))
def test_what_is_taken_is_a_reference(wanted):
    try:
        by_version, by_content = tags(wanted, "model", "1", CONTENT)
    except UsageError as error:
        assert error.hint
    else:
        assert is_reference(by_version)
        assert is_reference(by_content)
