"""Signatures: with cosign itself where it is installed, and with a stand-in that tells how it was called."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipcook_deploy.errors import ImageError, MissingDependencyError, UsageError
from pipcook_deploy.images.sign import PASSWORD, Signer

SECRET = "correct horse battery staple"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two keys made by cosign, both with the password `SECRET`."""
    if shutil.which("cosign") is None:
        why = 'cosign is not installed; run: make engine, then eval "$(tests/images/engine.sh env)"'
        if os.environ.get("PIPCOOK_DEPLOY_REQUIRE_ENGINE"):
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    made = []
    for name in ("one", "two"):
        folder = tmp_path_factory.mktemp(name)
        subprocess.run(
            ["cosign", "generate-key-pair"],
            cwd=folder, env=os.environ | {PASSWORD: SECRET}, check=True, capture_output=True,
        )  # fmt: skip
        made.append(folder / "cosign.key")
    return made


@pytest.fixture
def password(monkeypatch):
    monkeypatch.setenv(PASSWORD, SECRET)


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "image.json"
    path.write_text('{"id": "sha256:1234"}\n')
    return path


def test_a_signed_file_is_the_signers_and_cosign_agrees(keys, password, record):
    signer = Signer.of(keys[0])
    signer.sign_file(record)
    signer.check_file(record)
    public = keys[0].with_name("cosign.pub")
    assert signer.public == public.read_text()
    done = subprocess.run(
        ["cosign", "verify-blob", "--key", public, "--insecure-ignore-tlog=true",
         "--signature", f"{record}.sig", record], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_what_was_changed_or_is_not_the_signers_is_refused(keys, password, record):
    signer = Signer.of(keys[0])
    signer.sign_file(record)
    with pytest.raises(ImageError, match="cosign ended"):
        Signer.of(keys[1]).check_file(record)
    whole = record.read_text()
    record.write_text(whole.replace("1234", "1235"))
    with pytest.raises(ImageError, match="cosign ended"):
        signer.check_file(record)
    record.write_text(whole)
    signer.check_file(record)
    signature = Path(f"{record}.sig")
    signature.write_text("c2lnbmVk")
    with pytest.raises(ImageError, match="cosign ended"):
        signer.check_file(record)


def test_the_key_is_used_wherever_the_work_is_done(keys, password, record, monkeypatch):
    monkeypatch.chdir(keys[0].parent)
    signer = Signer.of(Path("cosign.key"))
    monkeypatch.chdir(record.parent)
    signer.sign_file(record)
    signer.check_file(record)


def test_another_password_is_found_before_anything_is_built(keys, monkeypatch):
    monkeypatch.setenv(PASSWORD, "something else")
    with pytest.raises(UsageError, match="cosign ended") as raised:
        Signer.of(keys[0])
    assert "something else" not in str(raised.value)


def test_what_is_no_key_is_refused(keys, password, tmp_path):
    (tmp_path / "text").write_text("no key")
    with pytest.raises(UsageError, match="cosign ended"):
        Signer.of(tmp_path / "text")


# With a stand-in: what it is told, and what nobody is told.


# What differs in `cosign sign-blob --help`: of Debian's 2.5, and of an upstream one that is newer.
HELP = """Sign the supplied blob, outputting the base64-encoded signature to stdout

Flags:
    --key='':
	path to the private key file, KMS URI or Kubernetes Secret

    --tlog-upload=true:
	whether or not to upload to the tlog
"""
NEWER_HELP = """Sign the supplied blob, outputting the base64-encoded signature to stdout

Usage:
  cosign sign-blob [flags]

Flags:
      --key string              path to the private key file, KMS URI or Kubernetes Secret
      --signing-config string   path to a signing config file. Must provide --bundle
"""
ASKED = ["sign-blob", "--help"]


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A cosign that notes its arguments and its password; returns the notes. It reads its help from a file."""
    notes, manual = tmp_path / "notes", tmp_path / "help"
    manual.write_text(HELP)
    program = tmp_path / "bin" / "cosign"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable} -I\nimport json, os, sys\n"
        f"with open({str(notes)!r}, 'a') as stream:\n"
        f"    stream.write(json.dumps([sys.argv[1:], os.environ.get({PASSWORD!r})]) + '\\n')\n"
        "sys.stderr.write('WARNING: a new version\\n'); sys.stderr.flush()\n"
        "if '--help' in sys.argv:\n"
        f"    sys.exit(print(open({str(manual)!r}).read()))\n"
        "if sys.argv[1] == 'public-key':\n"
        "    print('-----BEGIN PUBLIC KEY-----\\nabc\\n-----END PUBLIC KEY-----')\n"
        "if 'bad' in sys.argv[-1]:\n"
        "    sys.exit('no such image')\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    (tmp_path / "cosign.key").write_text("key")

    def read():
        return [json.loads(line) for line in notes.read_text().splitlines()]

    return read


def test_the_password_is_cosigns_own_affair(stand_in, password, tmp_path, record, caplog):
    with caplog.at_level(logging.DEBUG):
        signer = Signer.of(tmp_path / "cosign.key")
        signer.sign_file(record)
        Path(f"{record}.sig").write_text("x")
        signer.check_file(record)
        signer.sign_image("registry.example:5000/shop/shoes:1", "sha256:abcd")
        with pytest.raises(ImageError) as raised:
            signer.sign_image("registry.example/shoes:1", "sha256:bad")
    assert "cosign sign-blob" in caplog.text
    assert SECRET not in caplog.text + str(raised.value) + repr(signer)
    calls = stand_in()
    assert not any(SECRET in " ".join(arguments) for arguments, _ in calls)
    assert {found for _, found in calls} == {SECRET}


def test_nothing_is_sent_to_a_public_log(stand_in, password, tmp_path, record):
    signer = Signer.of(tmp_path / "cosign.key")
    signer.sign_file(record)
    signer.sign_image("registry.example:5000/shop/shoes:1", "sha256:abcd")
    signing = [
        arguments
        for arguments, _ in stand_in()
        if arguments[0].startswith("sign") and arguments != ASKED
    ]
    assert [arguments[0] for arguments in signing] == ["sign-blob", "sign"]
    assert all("--tlog-upload=false" in arguments for arguments in signing)


def test_an_image_is_signed_by_its_digest_and_checked_with_the_public_key(
    stand_in, password, tmp_path
):
    signer = Signer.of(tmp_path / "cosign.key")
    assert signer.public.startswith("-----BEGIN PUBLIC KEY-----\nabc")
    signer.sign_image("registry.example:5000/shop/shoes:1", "sha256:abcd")
    (asked, _), (public_key, _), (sign, _), (verify, _) = stand_in()
    assert (asked, public_key[0]) == (ASKED, "public-key")
    place = "registry.example:5000/shop/shoes@sha256:abcd"
    assert (sign[0], sign[-1]) == ("sign", place)
    assert sign[sign.index("--key") + 1] == str(tmp_path / "cosign.key")
    assert (verify[0], verify[-1]) == ("verify", place)
    public = verify[verify.index("--key") + 1]
    assert public != str(tmp_path / "cosign.key")
    assert not Path(public).exists()


def test_without_a_password_in_the_environment_it_is_said_how(stand_in, tmp_path, monkeypatch):
    monkeypatch.delenv(PASSWORD, raising=False)
    with pytest.raises(UsageError, match=PASSWORD) as raised:
        Signer.of(tmp_path / "cosign.key")
    assert "read -rs" in raised.value.hint
    monkeypatch.setenv(PASSWORD, "")  # a key without one
    assert Signer.of(tmp_path / "cosign.key").key == tmp_path / "cosign.key"


def test_a_key_that_is_not_there_is_said_so(stand_in, password, tmp_path):
    with pytest.raises(UsageError, match="there is no such file") as raised:
        Signer.of(tmp_path / "none.key")
    assert "cosign generate-key-pair" in raised.value.hint


@pytest.mark.parametrize("key", ["cosign.key", "none.key"])
def test_a_cosign_that_is_too_new_is_refused_before_the_key_is_looked_at(
    stand_in, tmp_path, monkeypatch, key
):
    (tmp_path / "help").write_text(NEWER_HELP)
    # Neither a key that is not there nor a password that is missing is what is wrong first.
    monkeypatch.delenv(PASSWORD, raising=False)
    with pytest.raises(MissingDependencyError, match="too new") as raised:
        Signer.of(tmp_path / key)
    assert raised.value.exit_code == 6
    assert str(tmp_path / "bin" / "cosign") in raised.value.message
    assert "2.5" in raised.value.hint
    assert "--sign-key" in raised.value.hint
    assert [arguments for arguments, _ in stand_in()] == [ASKED]


def test_without_cosign_nothing_is_signed(tmp_path, monkeypatch, password):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="cosign"):
        Signer.of(tmp_path / "cosign.key")


def test_a_file_without_a_signature_is_not_taken(stand_in, password, tmp_path, record):
    with pytest.raises(ImageError, match="is not signed"):
        Signer.of(tmp_path / "cosign.key").check_file(record)
