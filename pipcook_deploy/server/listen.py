"""Where the server listens: what the command says, else what the platform's environment says."""

from collections.abc import Mapping

from pipcook_deploy.errors import UsageError

HOST, PORT = "127.0.0.1", 9091
EVERYWHERE = "0.0.0.0"  # noqa: S104 - platforms that set these variables connect from outside
PORTS = ("AIP_HTTP_PORT", "PORT")  # Vertex AI; Cloud Run, Knative, Heroku and others
PLATFORM = (*PORTS, "AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE")


def address(host: str | None, port: int | None, environ: Mapping[str, str]) -> tuple[str, int]:
    """Host and port; None where the command does not say. Raises `UsageError` for a port that is none."""
    if host is None:
        host = EVERYWHERE if any(environ.get(name) for name in PLATFORM) else HOST
    if port is not None:
        return host, port
    name = next((name for name in PORTS if environ.get(name)), None)
    if name is None:
        return host, PORT
    text = environ[name]
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 0 < int(text) < 65_536):
        raise UsageError(f"{name}={text[:50]} is no port", f"set {name} to 1 ... 65535")
    return host, int(text)
