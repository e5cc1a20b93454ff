"""Names of images: repository and tags, made of a model's name or taken from the user.

Grammar: the OCI distribution specification 1.1 (names, tags), and Docker's references before it (hosts).
"""

import re

from pipcook_deploy.errors import UsageError

PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
HOST_PART = r"[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*"
HOST = rf"(?:{HOST_PART}(?:\.{HOST_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?"
REPOSITORY = re.compile(rf"(?:{HOST}/)?{PART}(?:/{PART})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
LONGEST = 255  # of a repository
LONGEST_WORD = 100
DIGEST_LETTERS = 12


def tags(wanted: str, name: str, version: str, content: str) -> tuple[str, str]:
    """The image's two names: by version, and by version and content (a sha256 in hex).

    `wanted` is what the user says, NAME or NAME:TAG; without it the model's name and version, as far as they can
    be spelled. Raises `UsageError` for a name that no registry takes.
    """
    repository, tag = _split(wanted) if wanted else (repository_of(name), "")
    tag = tag or tag_of(version)
    by_content = f"{tag[: 127 - DIGEST_LETTERS]}-{content[:DIGEST_LETTERS]}"
    return f"{repository}:{tag}", f"{repository}:{by_content}"


def repository_of(name: str) -> str:
    """A model's name as a repository's: "Ankle boots!" is ankle-boots."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    text = "-".join(words)[:LONGEST_WORD].strip("-")
    # 64 hexadecimal digits would be the id of an image.
    return f"model-{text}" if re.fullmatch("[0-9a-f]{64}", text) else text or "model"


def tag_of(version: str) -> str:
    """A version as a tag: "1.0+gpu" is 1.0-gpu."""
    text = re.sub(r"[^A-Za-z0-9_.-]+", "-", version).lstrip(".-")[:LONGEST_WORD].strip("-")
    return text or "latest"


def _split(wanted: str) -> tuple[str, str]:
    repository, colon, tag = wanted.rpartition(":")
    if not colon or "/" in tag:  # the colon of a registry's port
        repository, tag = wanted, ""
    if len(repository) > LONGEST or not REPOSITORY.fullmatch(repository):
        raise UsageError(
            f"--tag: {wanted[:200]!r} is no name of an image",
            "write [REGISTRY/]NAME[:TAG] with a lower-case NAME, such as registry.example:5000/shop/shoes:1.2",
        )
    if colon and repository != wanted and not TAG.fullmatch(tag):
        raise UsageError(
            f"--tag: {tag[:200]!r} is no tag",
            "a tag has 1 to 128 letters, digits, dots, dashes and underscores",
        )
    return repository, tag


def package_url(reference: str) -> tuple[str, dict[str, str]]:
    """An image as a package URL without its digest, and that."""
    name, _, digest = reference.partition("@sha256:")
    repository, tag = _split(name)
    url = f"pkg:docker/{repository.replace(':', '%3A')}"
    return (f"{url}@{tag}" if tag else url), ({"sha256": digest} if digest else {})


def is_reference(text: str) -> bool:
    """Whether it names an image: NAME[:TAG][@sha256:...]."""
    name, _, digest = text.partition("@sha256:")
    if "@" in text and not re.fullmatch("[0-9a-f]{64}", digest):
        return False
    try:
        _split(name)
    except UsageError:
        return False
    return True
