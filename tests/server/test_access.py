"""Keys, the admin token, other origins, host names and TLS."""

import hashlib
import hmac
import re
import ssl
import subprocess
import sys

import httpx
import pytest

from pipcook_deploy.errors import UsageError
from pipcook_deploy.server.access import keys as access_keys
from pipcook_deploy.server.access.cors import Cors
from pipcook_deploy.server.access.guard import Guard, presented
from pipcook_deploy.server.access.hosts import Hosts
from pipcook_deploy.server.access.keys import Keys, load_keys
from pipcook_deploy.server.access.tls import tls_files
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.settings import Settings
from tests.server import tiny_models

KEY, OTHER, ADMIN = "first-key-0123456789", "other-key-0123456789", "admin-token-0123456789"
ORIGIN = "https://app.example"
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.logarithm(tmp_path_factory.mktemp("m"))


@pytest.fixture(scope="module")
def client(folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("k") / "keys"
    file.write_text(f"# ours\n{KEY}\n\n{OTHER}\n")
    options = ("--api-key-file", str(file), "--cors-origin", f"{ORIGIN}, http://localhost:3000")
    with tiny_models.client_of(folder, *options, "--open-paths", "/metrics") as connected:
        yield connected


def infer(client, **headers):
    return client.post("/v2/models/logarithm/infer", json={"inputs": [TENSOR]}, headers=headers)


class Asked:
    """A request as far as the guard looks at it."""

    def __init__(self, method="GET", path="/v2", **headers):
        self.method, self.path = method, path
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def header(self, name):
        return self.headers.get(name, "")


def refused(check, *arguments):
    with pytest.raises(HttpError) as caught:
        check(*arguments)
    return caught.value.status


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_a_key_opens(client, key):
    assert infer(client, authorization=f"Bearer {key}").status_code == 200
    assert infer(client, authorization=f"bearer {key}").status_code == 200
    assert infer(client, **{"x-api-key": key}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": f"Bearer {KEY},{OTHER}"},
        {"x-api-key": "# ours"},
        {"x-api-key": KEY.upper()},
        {"x-api-key": "x" * 10_000},
    ],
)
def test_nothing_else_does(client, headers):
    answer = infer(client, **headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert "key" in answer.json()["error"] and KEY not in answer.text


def test_open_paths_and_the_page_need_no_key(client):
    for path in ("/healthz", "/v2/health/live", "/v2/health/ready", "/", "/page.js", "/metrics"):
        assert client.get(path).status_code == 200, path
    for path in ("/page.json", "/v2", "/v2/models/logarithm", "/nowhere", "/healthz/"):
        assert client.get(path).status_code == 401, path
    assert client.options("/v2").status_code == 401


def test_what_the_pages_load_is_open(client):
    loaded = set()
    for page in ("/", "/docs"):
        loaded |= set(
            re.findall(r'(?:src|href)="/?([a-z][a-z-]*\.(?:css|js))"', client.get(page).text)
        )
    assert len(loaded) > 2
    for path in loaded:
        assert client.get(f"/{path}").status_code == 200, path


def test_keys_come_from_the_environment_too(monkeypatch, folder):
    monkeypatch.setenv("PIPCOOK_DEPLOY_API_KEYS", f"{KEY},{OTHER}")
    with tiny_models.client_of(folder) as client:
        assert infer(client).status_code == 401
        assert infer(client, **{"x-api-key": OTHER}).status_code == 200


def test_keys_are_kept_as_digests_and_all_compared(monkeypatch):
    compared = []

    def counting(one, other):
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    keys = Keys([KEY, OTHER, ADMIN])
    assert KEY not in repr(vars(keys))
    assert vars(keys)["_digests"][0] == hashlib.sha256(KEY.encode()).digest()

    class Hmac:
        compare_digest = staticmethod(counting)

    monkeypatch.setattr(access_keys, "hmac", Hmac)
    assert keys.has(KEY) and len(compared) == 3
    assert not keys.has("no") and len(compared) == 6
    assert not keys.has("\udcff")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no key"),
        (b"# only this\n\n", "holds no key"),
        (b"short\n", "needs 16"),
        (b"with space in the middle\n", "visible ASCII"),
        ("schlüssel-schlüssel".encode(), "visible ASCII"),
        (b"\xff\xfe" * 20, "not text"),
    ],
)
def test_a_key_file_that_cannot_be_meant_is_refused(tmp_path, content, says):
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=says) as caught:
        load_keys(str(file), "NONE", {})
    assert "short" not in str(caught.value) and str(file) in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read"):
        load_keys(str(tmp_path / "missing"), "NONE", {})


def test_a_server_with_a_bad_key_file_does_not_start(folder, tmp_path):
    (tmp_path / "keys").write_text("")
    command = [sys.executable, "-m", "pipcook_deploy.server", "--port", "0"]
    command += ["--spec", str(folder / "spec.json"), "--artifact", str(folder / "artifact.json")]
    done = subprocess.run(
        [*command, "--api-key-file", str(tmp_path / "keys")],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == UsageError.exit_code and "holds no key" in done.stderr
    assert "Traceback" not in done.stderr


def test_administration_is_off_without_a_token():
    guard = Guard(Settings(), environ={})
    assert refused(guard.require_admin, Asked(authorization=f"Bearer {ADMIN}")) == 403
    assert refused(guard.require_admin_token, "") == 403


def test_only_the_admin_token_administers():
    environ = {"PIPCOOK_DEPLOY_ADMIN_TOKEN": ADMIN, "PIPCOOK_DEPLOY_API_KEYS": KEY}
    guard = Guard(Settings(), environ=environ)
    guard.require_admin(Asked("POST", authorization=f"Bearer {ADMIN}"))
    guard.require_admin_token(ADMIN)
    for key in ("", KEY, ADMIN + "x"):
        assert refused(guard.require_admin, Asked(x_api_key=key)) == 401
        assert refused(guard.require_admin_token, key) == 401
    # It is a key as well: its holder passes the check that comes before routes.
    assert guard.before(Asked(authorization=f"Bearer {ADMIN}")) is None
    assert guard.before(Asked(x_api_key=KEY)) is None
    assert refused(guard.before, Asked()) == 401


def test_other_origins_do_not_administer():
    environ = {"PIPCOOK_DEPLOY_ADMIN_TOKEN": ADMIN}
    guard = Guard(Settings(cors_origin=ORIGIN), environ=environ)
    token = {"authorization": f"Bearer {ADMIN}", "host": "models.example:9091"}
    guard.require_admin(Asked("POST", **token, origin="https://models.example:9091"))
    guard.require_admin(Asked("POST", **token, origin=ORIGIN))
    for origin in ("https://evil.example", "null", "https://models.example"):
        assert refused(guard.require_admin, Asked("POST", **token, origin=origin)) == 403


def test_presented():
    assert presented("Bearer  a ", "b") == "a" and presented("", "b") == "b"
    assert presented("Basic a", "b") == "b" and presented("", "") == ""


def test_preflight_is_answered_without_a_key(client):
    headers = {"origin": ORIGIN, "access-control-request-method": "POST"}
    answer = client.options("/v2/models/logarithm/infer", headers=headers)
    assert answer.status_code == 204 and answer.content == b""
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "content-type", "inference-header-content-length"} <= set(allowed)
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ORIGIN + ".evil.example", ""])
def test_other_origins_get_nothing(client, origin):
    headers = {"origin": origin, "access-control-request-method": "POST"}
    answer = client.options("/v2/models/logarithm/infer", headers=headers)
    assert answer.status_code == 401
    assert not any(name.startswith("access-control") for name in answer.headers)
    got = infer(client, origin=origin, authorization=f"Bearer {KEY}")
    assert got.status_code == 200 and got.headers["vary"] == "Origin"
    assert not any(name.startswith("access-control") for name in got.headers)


def test_allowed_origins_read_answers_and_errors(client):
    for origin in (ORIGIN, "http://localhost:3000"):
        for key, status in ((KEY, 200), ("", 401)):
            answer = infer(client, origin=origin, **{"x-api-key": key})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == origin
            shown = answer.headers["access-control-expose-headers"]
            assert "inference-header-content-length" in shown and "x-request-id" in shown
            assert "x-model" in shown and "server-timing" in shown


def test_any_origin_only_if_it_is_said():
    assert not Cors() and not Cors(" , ").allows("")
    everyone = Cors("*")
    assert everyone.allows("https://evil.example")
    headers = everyone.headers(Asked(origin="https://evil.example"))
    assert ("access-control-allow-origin", "*") in headers and ("vary", "Origin") not in headers


@pytest.mark.parametrize(
    "origin",
    ["example.com", "https://a.example/", "null", "https://*.example", "https://a b", "ftp://a"],
)
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(UsageError, match="is not an origin"):
        Cors(f"{ORIGIN},{origin}")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9091",
        "localhost",
        "LOCALHOST:1",
        "[::1]:9091",
        "app.localhost",
        "box",
        "",
        "10.0.0.7:80",
    ],
)
def test_names_of_this_machine_are_answered(host):
    assert Hosts("127.0.0.1").has(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9091",
        "127.0.0.1.evil.example",
        "localhost.evil.example.",
        "1.2.3",
    ],
)
def test_other_names_are_not(host):
    for listening in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        assert not Hosts(listening).has(host)
    assert not Hosts("0.0.0.0") and not Hosts("127.0.0.1", "*") and not Hosts("10.0.0.1")
    named = Hosts("0.0.0.0", "models.example")
    assert named.has("Models.Example.:80") and not named.has(host)


def test_dns_rebinding_fails_before_every_route(client):
    for path in ("/", "/healthz", "/v2"):
        assert client.get(path, headers={"host": "evil.example"}).status_code == 421


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """Certificates of two keys, and an encrypted key."""
    folder = tmp_path_factory.mktemp("pem")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    for name, kind in (
        ("rsa", ("rsa:2048",)),
        ("ec", ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")),
    ):
        openssl(
            "req", "-x509", "-newkey", *kind, "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{name}.key", "-out", f"{name}.crt",
        )  # fmt: skip
    openssl("pkey", "-in", "ec.key", "-aes256", "-passout", "pass:x", "-out", "secret.key")
    return folder


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_https(folder, pem, kind):
    files = (f"{pem}/{kind}.crt", f"{pem}/{kind}.key")
    with tiny_models.serving(folder, "--tls-cert", files[0], "--tls-key", files[1]) as running:
        assert running.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=files[0])
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            trusting.maximum_version = version
            with httpx.Client(base_url=running.url, verify=trusting) as client:
                assert infer(client).status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(running.url.replace("https", "http"))


def test_a_certificate_that_is_not_trusted_is_named(folder, pem):
    files = str(pem / "rsa.crt"), str(pem / "rsa.key")
    with tiny_models.serving(folder, "--tls-cert", files[0], "--tls-key", files[1]) as running:
        url = running.url.replace("http:", "https:")
        command = [sys.executable, "-m", "pipcook_deploy", "models", "list", "--url", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 9 and "is not trusted" in done.stderr
        assert "SSL_CERT_FILE" in done.stderr and "is it running" not in done.stderr


def test_tls_before_1_2_is_refused(folder, pem):
    files = (f"{pem}/ec.crt", f"{pem}/ec.key")
    with tiny_models.serving(folder, "--tls-cert", files[0], "--tls-key", files[1]) as running:
        done = subprocess.run(
            ["openssl", "s_client", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-connect",
             running.url.removeprefix("https://")],
            input=b"", capture_output=True, timeout=20,
        )  # fmt: skip
        assert done.returncode != 0 and b"alert" in done.stderr


@pytest.mark.parametrize(
    ("cert", "key", "says"),
    [
        ("rsa.crt", "", "--tls-key is missing"),
        ("", "rsa.key", "--tls-cert is missing"),
        ("missing.crt", "rsa.key", "missing.crt: cannot be read"),
        ("rsa.crt", "missing.key", "missing.key: cannot be read"),
        ("rsa.crt", "ec.key", "is not the key of"),
        ("ec.crt", "secret.key", "is encrypted"),
        ("rsa.key", "rsa.crt", "cannot be read as a PEM"),
    ],
)
def test_tls_files_that_do_not_fit_are_named(pem, cert, key, says):
    with pytest.raises(UsageError, match=says):
        tls_files(cert and str(pem / cert), key and str(pem / key))


def test_without_files_there_is_no_tls():
    assert tls_files("", "") is None
