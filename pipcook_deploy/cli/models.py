"""`models`: administers a server that runs, by its admin API."""

import json
import os
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from ssl import SSLCertVerificationError
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import click

from pipcook_deploy.cli.app import PathArgument, app, json_option
from pipcook_deploy.cli.console import say, table
from pipcook_deploy.errors import ServerError, UsageError

Command = TypeVar("Command", bound=Callable[..., Any])
URL = "http://127.0.0.1:9091"
TOKEN = "PIPCOOK_DEPLOY_ADMIN_TOKEN"  # noqa: S105 - the name of the variable
SECONDS = 600.0  # a large model is loaded, measured and checked


def server_options(command: Command) -> Command:
    """Where the server is, and what it asks for."""
    command = json_option(command)
    command = click.option(
        "--token-file", type=PathArgument, help=f"File of the admin token; else {TOKEN}."
    )(command)
    return click.option(
        "--url", default=URL, show_default=True, envvar="PIPCOOK_DEPLOY_URL", help="The server."
    )(command)


@app.group()
def models() -> None:
    """List and change what a running server serves."""


@models.command("list")
@server_options
def list_models(as_json: bool, **server: Any) -> int:
    """Show every version: its state, labels, share of the requests, engine."""
    return _show(_ask("GET", "", None, **server), as_json)


@models.command()
@click.argument("name")
@click.argument("version", required=False)
@server_options
def load(name: str, version: str | None, as_json: bool, **server: Any) -> int:
    """Load VERSION of NAME beside the others; or follow the newest version again."""
    body = {"version": version} if version else {}
    return _show(_ask("POST", f"/{quote(name, '')}/load", body, **server), as_json)


@models.command()
@click.argument("name")
@click.argument("version", required=False)
@server_options
def unload(name: str, version: str | None, as_json: bool, **server: Any) -> int:
    """Let go of VERSION of NAME, or of all versions, until they are loaded again."""
    body = {"version": version} if version else {}
    return _show(_ask("POST", f"/{quote(name, '')}/unload", body, **server), as_json)


@models.command()
@click.argument("name")
@click.argument("label")
@click.argument("version", required=False)
@click.option("--remove", is_flag=True, help="Take the label away.")
@server_options
def label(
    name: str, label: str, version: str | None, remove: bool, as_json: bool, **server: Any
) -> int:
    """Call VERSION of NAME by a LABEL; `stable` is what requests get that name no version."""
    if remove == (version is not None):
        raise click.UsageError("name a version, or --remove")
    path = f"/{quote(name, '')}/labels/{quote(label, '')}"
    method, body = ("DELETE", None) if remove else ("PUT", {"version": version})
    return _show(_ask(method, path, body, **server), as_json)


@models.command()
@click.argument("name")
@click.argument("weights", nargs=-1, metavar="[VERSION|LABEL=WEIGHT]...")
@server_options
def split(name: str, weights: tuple[str, ...], as_json: bool, **server: Any) -> int:
    """Share requests out among versions of NAME by WEIGHT: stable=90 canary=10; none ends it."""
    shares = dict(_weight(text) for text in weights)
    method, body = ("PUT", {"weights": shares}) if shares else ("DELETE", None)
    return _show(_ask(method, f"/{quote(name, '')}/split", body, **server), as_json)


@models.command()
@click.argument("name")
@server_options
def rollback(name: str, as_json: bool, **server: Any) -> int:
    """Go back to the version that NAME served before, and stay with it."""
    return _show(_ask("POST", f"/{quote(name, '')}/rollback", {}, **server), as_json)


def _weight(text: str) -> tuple[str, float]:
    key, _, weight = text.rpartition("=")
    try:
        if key:
            return key, float(weight)
        raise ValueError
    except ValueError:
        raise click.UsageError(f"{text!r} is not VERSION=WEIGHT") from None


def _ask(
    method: str, path: str, body: dict[str, Any] | None, *, url: str, token_file: Path | None
) -> list[dict[str, Any]]:
    """The rows that the server answers. Raises `ServerError` with its reason, or why there is none."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise UsageError(f"--url: {url!r} is no address of a server", f"write it as {URL}")
    headers = {"authorization": f"Bearer {_token(token_file)}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = Request(  # noqa: S310 - the scheme was looked at
        f"{url.rstrip('/')}/admin/models{path}", data, headers, method=method
    )
    # The token is for this server: no proxy of the environment gets it.
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=SECONDS) as answer:
            rows: list[dict[str, Any]] = json.load(answer)["models"]
    except HTTPError as error:
        with error:
            raise _refusal(url, error.code, error.read()) from None
    except (URLError, OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, SSLCertVerificationError):
            raise ServerError(
                f"{url}: its certificate is not trusted: {reason.verify_message}",
                "trust the one who signed it, or itself: SSL_CERT_FILE=cert.pem pipcook-deploy models ...",
            ) from None
        raise ServerError(
            f"{url}: no server answers: {getattr(reason, 'strerror', None) or reason}",
            "is it running? another address: --url http://HOST:PORT",
        ) from None
    except (ValueError, KeyError, TypeError):
        raise ServerError(f"{url}: is no pipcook-deploy server") from None
    return rows


def _refusal(url: str, status: int, body: bytes) -> ServerError:
    try:
        reason = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return ServerError(f"{url}: answers with status {status}; is it a pipcook-deploy server?")
    hint = f"give it by --token-file FILE, or {TOKEN}" if status == 401 else None
    return ServerError(f"{url}: {reason}", hint)


def _token(file: Path | None) -> str:
    """The first key of the file, or the variable's."""
    text = os.environ.get(TOKEN, "").replace(",", "\n")
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file}: cannot be read: {error}") from None
    lines = [line.strip() for line in text.splitlines()]
    token = next((line for line in lines if line and not line.startswith("#")), "")
    if not (token.isascii() and token.isprintable()):
        raise UsageError("the admin token is not made of visible ASCII characters")
    return token


def _show(rows: list[dict[str, Any]], as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps({"models": rows}, indent=1))
        return 0
    shown = table("model", "version", "state", "share", "labels", "engine")
    for row in rows:
        marks = [*row["labels"], *(word for word in ("current", "previous", "pinned") if row[word])]
        share = f"{row['share']:.0%}" if row["share"] else ""
        what = row["reason"] or row["engine"]
        shown.add_row(row["name"], row["version"], row["state"], share, ", ".join(marks), what)
    say(shown if rows else "no models")
    return 0
