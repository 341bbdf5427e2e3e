"""A server of the S3 protocol that fails as it is told: `python -m tests.support.s3_server PORT FILE`.

FILE says how, and is read at each request: "" it works; "403" writes are refused; "503" it says to slow down;
"503 /shards/" it says so to whatever is asked of such objects; "slow 2" each answer takes two seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

REFUSALS = {"403": ("403 Forbidden", "AccessDenied"), "503": ("503 Slow Down", "SlowDown")}


def faulty(app: Callable[..., Iterable[bytes]], told: Path) -> Callable[..., Iterable[bytes]]:
    """An application that does what a file says, and else what another does."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        fault, _, more = (told.read_text() if told.exists() else "").partition(" ")
        if fault == "slow":
            time.sleep(float(more))
        if fault in REFUSALS and (more in environ["PATH_INFO"] if more else environ["REQUEST_METHOD"] in ("PUT", "POST")):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            status, code = REFUSALS[fault]
            body = f"<Error><Code>{code}</Code><Message>arn:aws:iam::1234:user/me at inner.host</Message></Error>".encode()
            start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        return app(environ, start)

    return answer


def main(port: int, told: Path) -> None:
    """Serve until killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, faulty(DomainDispatcherApplication(create_backend_app), told), threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
