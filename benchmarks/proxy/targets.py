"""The proxies that are compared, each started before the same stub."""

import json
import os
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import homes
from benchmarks.proxy.load import Requests
from benchmarks.proxy.stub import MODEL

_START_SECONDS = 120.0
_STOP_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """A proxy that runs.

    Attributes:
        pid: Root of its process tree.
        requests: What it is asked: each has its own name for the model.
        path: Of the Unix socket on which it answers, too; empty if there is none.
    """

    name: str
    port: int
    pid: int
    requests: Requests
    path: str = ""

    @property
    def url(self) -> str:
        """Where it answers by TCP."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running(command: list[str], **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for as long as the context lasts."""
    process = subprocess.Popen(  # noqa: S603  # our own commands
        command,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int, model: str) -> None:
    """Wait until a target answers a completion.

    Raises:
        TimeoutError: If it does not in two minutes.
    """
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=body,
        headers={"content-type": "application/json", "authorization": "Bearer sk-none"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        try:
            with opener.open(request, timeout=5) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise TimeoutError(f"port {port} answers no completion")


@contextmanager
def stub() -> Iterator[Target]:
    """Run what stands for vLLM."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/stub.sock"
        command = [sys.executable, "-m", "benchmarks.proxy.stub", str(port), path]
        with running(command) as process:
            wait_for(port, MODEL)
            requests = Requests(model=MODEL)
            yield Target(
                name="stub alone", port=port, pid=process.pid, requests=requests, path=path
            )


@contextmanager
def nginx(folder: Path, stub_port: int) -> Iterator[Target]:
    """Run nginx as a plain proxy: one worker, kept connections, no buffering."""
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log /dev/null;\n"
        "events { worker_connections 1024; }\n"
        "http { access_log off; keepalive_requests 10000000;\n"
        "upstream u { server 127.0.0.1:%d; keepalive 128; keepalive_requests 10000000; }\n"
        "server { listen 127.0.0.1:%d; location / { proxy_pass http://u; proxy_buffering off;\n"
        'proxy_http_version 1.1; proxy_set_header Connection ""; } } }\n' % (stub_port, port)
    )
    with running(["nginx", "-c", str(config), "-p", str(folder)]) as process:
        wait_for(port, MODEL)
        yield Target(name="nginx", port=port, pid=process.pid, requests=Requests(model=MODEL))


@contextmanager
def vllm_router(peers: Path, stub_port: int) -> Iterator[Target]:
    """Run vLLM's router in Rust, before the one worker."""
    port, metrics = free_port(), free_port()
    command = [
        str(peers / "vllm-router"),
        *("--worker-urls", f"http://127.0.0.1:{stub_port}"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--policy", "round_robin", "--log-level", "error"),
        *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics)),
    ]
    with running(command) as process:
        wait_for(port, MODEL)
        yield Target(name="vllm-router", port=port, pid=process.pid, requests=Requests(model=MODEL))


@contextmanager
def litellm(folder: Path, peers: Path, stub_port: int) -> Iterator[Target]:
    """Run LiteLLM's proxy with one worker, without a database."""
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(
        f"model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: openai/{MODEL}\n"
        f"      api_base: http://127.0.0.1:{stub_port}/v1\n      api_key: none\n"
        "litellm_settings:\n  telemetry: false\n"
    )
    command = [
        str(peers / "litellm"),
        *("--config", str(config), "--host", "127.0.0.1", "--port", str(port)),
        *("--num_workers", "1", "--telemetry", "False"),
    ]
    with running(
        command,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        LITELLM_LOG="ERROR",
        LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY="true",
    ) as process:
        wait_for(port, MODEL)
        yield Target(name="LiteLLM", port=port, pid=process.pid, requests=Requests(model=MODEL))


@contextmanager
def sidecar(
    home: Path,
    upstream: str,
    *,
    name: str = "sidecar",
    python: str = sys.executable,
    **settings: str,
) -> Iterator[Target]:
    """Run the sidecar as anybody would, recording to disk."""
    with running(
        [python, "-m", "services.sidecar"],
        # Another interpreter than ours finds our packages all the same.
        PYTHONPATH=os.pathsep.join([str(Path.cwd()), *site.getsitepackages()]),
        FEEDBACKLOOP_HOME=str(home),
        FEEDBACKLOOP_SIDECAR__UPSTREAM=upstream,
        FEEDBACKLOOP_SIDECAR__UPSTREAM_GUARD="off",
        FEEDBACKLOOP_SIDECAR__BIND="127.0.0.1:0",
        FEEDBACKLOOP_SIDECAR__ADMIN_BIND="127.0.0.1:0",
        FEEDBACKLOOP_SIDECAR__DRAIN_SECONDS="5",
        FEEDBACKLOOP_KEYS__REQUIRED="false",
        FEEDBACKLOOP_ALIASES__ASSISTANT__BASE=MODEL,
        **settings,
    ) as process:
        assert process.stdout is not None  # noqa: S101  # it is a pipe
        address = json.loads(process.stdout.readline())["ready"]["sidecar"]
        port = int(address.rpartition(":")[2])
        wait_for(port, "assistant")
        requests = Requests(model="assistant")
        yield Target(name=name, port=port, pid=process.pid, requests=requests)


@contextmanager
def all_of(names: list[str], peers: Path, python: str) -> Iterator[list[Target]]:
    """Run the stub and, before it, every target that is named and installed."""
    with ExitStack() as stack:
        base = stack.enter_context(homes.temporary("proxy-"))
        first = stack.enter_context(stub())
        makers = {
            "stub": lambda: _given(first),
            "nginx": lambda: nginx(base, first.port),
            "vllm-router": lambda: vllm_router(peers, first.port),
            "litellm": lambda: litellm(base, peers, first.port),
            "sidecar": lambda: sidecar(base / "socket", f"unix:{first.path}", python=python),
            "sidecar-tcp": lambda: sidecar(
                base / "tcp", first.url, name="sidecar by TCP", python=python
            ),
        }
        chosen = [name for name in makers if name in names and _is_there(name, peers)]
        yield [stack.enter_context(makers[name]()) for name in chosen]


def _is_there(name: str, peers: Path) -> bool:
    if name == "nginx":
        found = shutil.which("nginx") is not None
    else:
        found = name in {"stub", "sidecar", "sidecar-tcp"} or (peers / name).exists()
    if not found:
        print(f"{name} is not installed: left out", file=sys.stderr)
    return found


@contextmanager
def _given(target: Target) -> Iterator[Target]:
    yield target
