"""img2dataset itself, run for real against a server on this machine: its three outputs give the same rows."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import fistful
from benchmarks.measure import CACHE
from fistful.bow.vocabulary import Limits
from fistful.pipelines.bags import BagsConfig
from fistful.pipelines.count import CountConfig
from fistful.pipelines.engine.stage import Running
from tests.support.folders import rows
from tests.support.pictures import picture
from tests.support.shapes import Pictures, real_pictures

pytestmark = pytest.mark.slow
VERSION = "1.47.0"
QUIET = Running(progress=False, max_bad_fraction=0.5)
N, LOST = 60, 9
"""Rows that are asked for, and those of which no picture comes: gone, broken off, or none at all."""


@pytest.fixture(scope="module")
def img2dataset() -> Path:
    """The program, in an environment of its own, as its packages bear no others beside them."""
    place = CACHE / f"img2dataset-{VERSION}"
    if not (place / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([place / "bin/pip", "install", "--quiet", f"img2dataset=={VERSION}"], check=True)
        (place / "done").touch()
    return place / "bin/img2dataset"


def pages(pictures: Pictures) -> Iterator[tuple[str, bytes | None, str]]:
    """Yield address, what the server says there (None: that there is nothing), and caption of each row."""
    for number, (image, captions) in enumerate(pictures.values()):
        body: bytes | None = image
        if number % 15 == 1:
            body = None
        elif number % 20 == 2:
            body = image[: len(image) // 2]
        elif number in (3, 4):
            body = b"<html>gone</html>" if number == 3 else b""
        elif number in (5, 6):
            body = picture(format="PNG" if number == 5 else "WEBP", size=(80, 60))
        caption = {11: 'a "quoted" cat, with commas', 12: "Ünïcode – 日本の猫 ☕"}.get(number, captions[0])
        yield f"/{number:03d}.jpg", body, caption.strip()


@pytest.fixture(scope="module")
def table(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A TSV of addresses that are served while the tests run."""
    found = [*pages(real_pictures(data_root / "photos/captioned/coco-00000.tar.gz", N))]
    bodies = {address: body for address, body, _ in found}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = bodies.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = tmp_path_factory.mktemp("web") / "cc.tsv"
        lines = [f"{caption}\thttp://127.0.0.1:{server.server_address[1]}{address}\n" for address, _, caption in found]
        path.write_text("caption\turl\n" + "".join(lines))
        yield path
        server.shutdown()


def fetched(img2dataset: Path, table: Path, out: Path, output_format: str) -> Path:
    options = ["--input_format", "tsv", "--url_col", "url", "--caption_col", "caption", "--processes_count", "1", "--thread_count", "4"]
    command = [img2dataset, "--url_list", table, *options, "--output_format", output_format, "--output_folder", out, "--retries", "0"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def test_its_three_outputs_give_the_same_rows(img2dataset: Path, table: Path, tmp_path: Path) -> None:
    found = {}
    for kind in ("webdataset", "files", "parquet"):
        source = fetched(img2dataset, table, tmp_path / kind, kind)
        counts = fistful.count(str(source), out=tmp_path / f"{kind}-counts", config=CountConfig(running=QUIET))
        config = BagsConfig(running=QUIET, limits=Limits(min_count=1))
        data = fistful.bags(str(source), counts=counts, out=tmp_path / f"{kind}-bags", config=config)
        found[kind] = sorted((row["captions"], row["words"], row["image_size"]) for row in rows(data, "index"))
        refused = [row["detail"] for row in rows(data, "dead_letters")]
        assert refused == ([] if kind != "parquet" else refused)
        if kind == "parquet":  # which alone keeps the rows that failed
            assert len(refused) == LOST
            assert all(detail.startswith("status failed_to_") for detail in refused)
    assert len(found["webdataset"]) == N - LOST
    assert found["webdataset"] == found["files"] == found["parquet"]
