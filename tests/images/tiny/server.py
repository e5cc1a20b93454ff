"""A server that says what it may do, and ends with a code of its own at SIGTERM."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def status(key):
    with open("/proc/self/status") as file:
        return next(line.split()[1] for line in file if line.startswith(f"{key}:"))


def limit(*paths):
    """The first of the control group's files, of version 1 or 2."""
    for path in paths:
        try:
            with open(f"/sys/fs/cgroup/{path}") as file:
                return int(file.read())
        except (OSError, ValueError):
            continue
    return None


def writable(folder):
    try:
        with open(f"{folder}/trial", "w"):
            return True
    except OSError:
        return False


class Answer(BaseHTTPRequestHandler):
    def log_message(self, *_):
        """The log is for what the test looks for."""

    def do_GET(self):
        with open("/proc/mounts") as file:
            mounts = {line.split()[1]: line.split()[3].split(",") for line in file}
        found = {
            "user": os.getuid(),
            "capabilities": int(status("CapBnd"), 16),
            "no_new_privileges": status("NoNewPrivs"),
            "memory": limit("memory/memory.limit_in_bytes", "memory.max"),
            "pids": limit("pids/pids.max", "pids.max"),
            "writable": [f for f in ("/", "/tmp", "/run", "/var/tmp", "/etc") if writable(f)],
            "tmp": mounts["/tmp"],
            "environment": dict(os.environ),
            "arguments": sys.argv[1:],
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())


def end(number, frame):
    print("ending", flush=True)
    sys.exit(7)


signal.signal(signal.SIGTERM, end)
server = ThreadingHTTPServer(("0.0.0.0", 8080), Answer)
print("listening", flush=True)
server.serve_forever()
