"""What tests of images count on: images run, ports are reached, registries hold what was pushed."""

import time
import urllib.request

import pytest

BASE = "python:3.11-slim"


def small(docker_client, name):
    """The base image under another name."""
    docker_client.images.get(BASE).tag(name)
    return name


def test_the_base_image_has_the_python_of_its_name(docker_client):
    said = docker_client.containers.run(
        BASE, ["python", "-c", "import ssl, sys; print(sys.version_info[:2])"], remove=True
    )
    assert said.strip() == b"(3, 11)"


def test_a_published_port_is_reached(docker_client):
    container = docker_client.containers.run(
        BASE,
        ["python", "-m", "http.server", "8000"],
        detach=True,
        ports={"8000/tcp": ("127.0.0.1", None)},
    )
    try:
        container.reload()
        [binding] = container.attrs["NetworkSettings"]["Ports"]["8000/tcp"]
        url, end = f"http://127.0.0.1:{binding['HostPort']}/", time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert time.monotonic() < end, container.logs().decode()
                time.sleep(0.1)
    finally:
        container.remove(force=True)


def test_what_is_pushed_can_be_pulled(docker_client, registry):
    name = small(docker_client, f"{registry}/base:1")
    pushed = list(docker_client.images.push(name, stream=True, decode=True))
    assert not [line for line in pushed if "error" in line]
    docker_client.images.remove(name)
    docker_client.images.pull(name)
    docker_client.images.remove(name)


def test_a_private_registry_wants_its_password(docker_client, private_registry):
    from docker.errors import APIError

    host, user, password = private_registry
    name = small(docker_client, f"{host}/base:1")
    try:
        refused = list(docker_client.images.push(name, stream=True, decode=True, auth_config={}))
        assert "error" in refused[-1]
        with pytest.raises(APIError):
            docker_client.login(user, "wrong", registry=f"http://{host}", reauth=True)
        access = {"username": user, "password": password}
        pushed = list(docker_client.images.push(name, stream=True, decode=True, auth_config=access))
        assert not [line for line in pushed if "error" in line]
    finally:
        docker_client.images.remove(name)
