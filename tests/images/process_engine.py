"""An engine whose containers are processes of this machine: the boot test without images."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from pipcook_deploy.errors import ImageError
from pipcook_deploy.images.engine import Container, Engine, Image, Layer

IMAGE = Image("sha256:" + "1" * 64, (Layer("sha256:" + "2" * 64, "COPY", 10, 5),) * 5, {})


class ProcessEngine(Engine):
    """Starts the server of a context's bundle; what is in `serves` is started in its place."""

    name = "process"

    def __init__(self, serves=None, *, deaf=False):
        self.names = {}  # of images
        self.pushed = []
        self.started = []
        self.serves = serves
        self.deaf = deaf
        self.context = None

    @classmethod
    def connect(cls):
        return cls()

    def describe(self):
        return "process 1"

    def build(self, build, progress):
        self.context = build.context
        self.names[build.tag] = IMAGE
        progress("building", 0, 1)
        return IMAGE

    def image(self, reference):
        return self.names.get(reference)

    def tag(self, image, reference):
        self.names[reference] = image

    def untag(self, reference):
        self.names.pop(reference, None)

    def start(self, image, options):
        bundle = self.serves or self.context / "bundle"
        container = ProcessContainer(bundle, options, self.deaf)
        self.started.append(container)
        return container

    def read(self, image, path):
        return b"{}\n"

    def save(self, image, path):
        path.write_bytes(b"the image")

    def push(self, reference, progress):
        if reference not in self.names:
            raise ImageError(f"{reference}: no such image")
        self.pushed.append(reference)
        return "sha256:" + "3" * 64

    def close(self):
        pass


class ProcessContainer(Container):
    """A server at a free port, whatever its options say, since processes share the machine's ports."""

    name = "process"

    def __init__(self, bundle: Path, options, deaf):
        self.options = options
        self.removed = False
        environment = os.environ | dict(options.environment) | {"PIPCOOK_DEPLOY_HOST": "127.0.0.1"}
        command = [sys.executable, "-m", "pipcook_deploy", "serve", str(bundle), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *options.arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.deaf = deaf
        self.said = []
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("serving "):
                self.port = int(line.split(" at ")[1].split(" ")[0].rpartition(":")[2])
                break

    def address(self):
        return "127.0.0.1", getattr(self, "port", 9), False

    def running(self):
        return self.process.poll() is None

    def health(self):
        return ""

    def logs(self):
        return "".join(self.said)

    def execute(self, *command):
        environment = os.environ | {"PIPCOOK_DEPLOY_PORT": str(self.port)}
        done = subprocess.run(
            [sys.executable, *command[1:]], env=environment, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    def signal(self, name):
        # One that is deaf loses what it was doing.
        self.process.send_signal(signal.SIGKILL if self.deaf else getattr(signal, name))

    def wait(self, seconds):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def remove(self):
        self.removed = True
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
