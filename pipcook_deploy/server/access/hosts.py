"""Which names the server answers to: what a browser on this machine needs against DNS rebinding.

A page of evil.example whose name suddenly means 127.0.0.1 is of the same origin as a local server, as the
browser sees it; only the Host header tells. Addresses and names without a dot cannot be taken over in that
way. A server for other machines has its own names, and keys; its host names are not checked.
"""

from ipaddress import ip_address

REMEMBERED = 256


class Hosts:
    """The names that are answered to; false if any is."""

    def __init__(self, listening: str = "", allowed: str = "") -> None:
        """`listening` is the address of the server's port; `allowed` has names with commas between, or `*`."""
        names = {name.strip().lower() for name in allowed.split(",") if name.strip()}
        self._names = names
        self._checked = "*" not in names and (bool(names) or _loopback(listening))
        self.good: set[str] = set()  # headers that were answered to

    def __bool__(self) -> bool:
        return self._checked

    def has(self, host: str) -> bool:
        """Whether a request with this Host header is meant for this server."""
        if not self._safe(_name(host)):
            return False
        if len(self.good) < REMEMBERED:
            self.good.add(host)
        return True

    def _safe(self, name: str) -> bool:
        if name in self._names or "." not in name or name.endswith(".localhost"):
            return True
        return _is_address(name)


def _name(host: str) -> str:
    """Without the port, a final dot and an address's brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0].rstrip(".").lower() if ":" in host else host.rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _loopback(listening: str) -> bool:
    if listening == "localhost":
        return True
    return _is_address(listening) and ip_address(listening).is_loopback
