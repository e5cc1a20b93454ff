"""Certificate and key files, checked before the server starts."""

import ssl
from pathlib import Path

from pipcook_deploy.errors import UsageError

MISMATCH = (
    "KEY_VALUES_MISMATCH",
    "KEY_TYPE_MISMATCH",
    "NO_CERTIFICATE_ASSIGNED",
)  # OpenSSL's words


def tls_files(cert: str, key: str) -> tuple[Path, Path] | None:
    """Both files, or None without TLS. Raises `UsageError` for files that no server could use."""
    if not cert and not key:
        return None
    if not (cert and key):
        missing = "--tls-key" if cert else "--tls-cert"
        raise UsageError(f"TLS needs --tls-cert and --tls-key: {missing} is missing")
    for name in (cert, key):
        _readable(Path(name))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, _no_password)
    except _EncryptedError:
        hint = "decrypt it: openssl pkey -in KEY -out PLAIN_KEY"
        raise UsageError(
            f"{key}: is encrypted, and the server asks for no password", hint
        ) from None
    except ssl.SSLError as error:
        raise UsageError(_why(error, cert, key)) from None
    return Path(cert), Path(key)


class _EncryptedError(Exception):
    pass


def _no_password() -> str:
    raise _EncryptedError


def _readable(file: Path) -> None:
    try:
        file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None


def _why(error: ssl.SSLError, cert: str, key: str) -> str:
    if error.reason in MISMATCH:
        return f"{key}: is not the key of {cert}"
    detail = (error.reason or "not PEM").lower().replace("_", " ")
    return f"{cert} and {key}: cannot be read as a PEM certificate and its PEM key: {detail}"
