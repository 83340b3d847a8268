"""`gradist data fetch`, against a server of the test's own on this machine."""

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
TRAIN = b"".join(b"%+d 1:%d 7:0.5\n" % ((-1) ** i, i) for i in range(20_000))
TEST = b"+1 3:1\n-1 2:1\n"


class Server(ThreadingHTTPServer):
    """Serves `files` under /data/ and keeps the requests; `cuts[name]` are numbers of bytes after which it hangs up."""

    def __init__(self, files):
        self.files = dict(files)
        self.cuts = {}
        self.ranges = True
        self.date = formatdate(1_000_000_000, usegmt=True)
        self.requests = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/data"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        name = self.path.removeprefix("/data/")
        asked = self.headers.get("Range")
        self.server.requests.append((name, asked))
        body = self.server.files.get(name)
        if body is None:
            self.send_error(404)
            return
        begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        condition = self.headers.get("If-Range")
        partial = bool(asked) and self.server.ranges and condition in (None, self.server.date)
        if partial and begin >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        sent = body[begin:] if partial else body
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(sent)))
        self.send_header("Last-Modified", self.server.date)
        self.end_headers()
        cuts = self.server.cuts.get(name)
        if cuts:
            self.wfile.write(sent[: cuts.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(sent)


@pytest.fixture
def server():
    with Server({"a9a": TRAIN, "a9a.t": TEST}) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(name, folder, url):
    words = [sys.executable, "-m", "gradist", "data", "fetch", name, "--data-dir", str(folder), "--url", url]
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120)


def refused(outcome):
    assert outcome.returncode == 2, outcome
    assert outcome.stderr.count("\n") == 1, outcome.stderr
    return outcome.stderr


def test_files_arrive_whole_and_are_left_alone_then(server, tmp_path):
    outcome = fetch("a9a", tmp_path / "new" / "a9a", server.url)
    assert outcome.returncode == 0, outcome.stderr
    folder = tmp_path / "new" / "a9a"
    assert (folder / "a9a").read_bytes() == TRAIN
    assert (folder / "a9a.t").read_bytes() == TEST
    assert sorted(os.listdir(folder)) == ["a9a", "a9a.t"]
    assert f"{len(TRAIN):,} bytes, no checksum is published; SHA-256 {hashlib.sha256(TRAIN).hexdigest()}" in outcome.stdout
    assert outcome.stdout.splitlines()[-1] == f"gradist run --data libsvm --model logistic --data-dir {folder}"
    assert server.requests == [("a9a", None), ("a9a.t", None)]

    again = fetch("a9a", folder, server.url + "/")
    assert again.returncode == 0
    assert again.stdout.count("there already") == 2
    assert len(server.requests) == 2


def test_a_connection_that_breaks_is_gone_on_with(server, tmp_path):
    server.cuts["a9a"] = [100_000, 50_000]
    outcome = fetch("a9a", tmp_path, server.url)
    assert outcome.returncode == 0, outcome.stderr
    assert (tmp_path / "a9a").read_bytes() == TRAIN
    ranges = [asked for name, asked in server.requests if name == "a9a"]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_fetch_goes_on_from_the_part(server, tmp_path):
    server.cuts["a9a"] = [100_000, 0]
    line = refused(fetch("a9a", tmp_path, server.url))
    assert f"{server.url}/a9a: cannot be fetched: " in line
    assert "100000 bytes are kept, the same command goes on from there" in line
    assert os.listdir(tmp_path) == ["a9a.part"]

    outcome = fetch("a9a", tmp_path, server.url)
    assert outcome.returncode == 0, outcome.stderr
    assert (tmp_path / "a9a").read_bytes() == TRAIN
    assert server.requests[2] == ("a9a", "bytes=100000-")


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path):
    server.cuts["a9a"] = [100_000, 0]
    refused(fetch("a9a", tmp_path, server.url))
    server.date = formatdate(1_100_000_000, usegmt=True)
    server.files["a9a"] = TRAIN.replace(b"0.5", b"0.7")
    assert fetch("a9a", tmp_path, server.url).returncode == 0
    assert (tmp_path / "a9a").read_bytes() == server.files["a9a"]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges = False
    server.cuts["a9a"] = [100_000]
    assert fetch("a9a", tmp_path, server.url).returncode == 0
    assert server.requests[:2] == [("a9a", None), ("a9a", "bytes=100000-")]
    assert (tmp_path / "a9a").read_bytes() == TRAIN


def test_a_part_that_is_whole_only_gets_its_name(server, tmp_path):
    (tmp_path / "a9a.part").write_bytes(TRAIN)
    os.utime(tmp_path / "a9a.part", (1_000_000_000, 1_000_000_000))
    assert fetch("a9a", tmp_path, server.url).returncode == 0
    assert (tmp_path / "a9a").read_bytes() == TRAIN
    assert [name for name, _ in server.requests] == ["a9a", "a9a.t"]


def test_a_part_that_is_too_long_is_fetched_anew(server, tmp_path):
    (tmp_path / "a9a.part").write_bytes(TRAIN + b"more")
    os.utime(tmp_path / "a9a.part", (1_000_000_000, 1_000_000_000))
    assert fetch("a9a", tmp_path, server.url).returncode == 0
    assert (tmp_path / "a9a").read_bytes() == TRAIN


def test_what_is_not_there_is_one_line(server, tmp_path):
    del server.files["a9a.t"]
    line = refused(fetch("a9a", tmp_path, server.url))
    assert line == f"gradist: {server.url}/a9a.t: cannot be fetched: the server answered 404\n"
    assert not (tmp_path / "a9a.t").exists()


def test_nobody_there_is_one_line(server, tmp_path):
    with Server({}) as unused:
        url = unused.url
    assert "cannot be fetched: " in refused(fetch("a9a", tmp_path, url))


def tarball(names):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"folder/{name}"))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("data", "name", "content", "kind", "right"),
    [
        ("mnist", "train-images-idx3-ubyte.gz", b"not the images", "SHA-256", "440f"),
        ("cifar10", "cifar-10-binary.tar.gz", tarball(["data_batch_1.bin", "test_batch.bin"]), "SHA-256", "c4a3"),
        ("cifar100", "cifar-100-binary.tar.gz", tarball(["train.bin", "test.bin"]), "MD5", "03b5"),
    ],
    ids=["mnist", "cifar10", "cifar100"],
)
def test_a_wrong_checksum_removes_the_file(data, name, content, kind, right, server, tmp_path):
    server.files[name] = content
    line = refused(fetch(data, tmp_path, server.url))
    found = {"SHA-256": hashlib.sha256, "MD5": hashlib.md5}[kind](content).hexdigest()
    assert line.startswith(f"gradist: {server.url}/{name}: {kind} {found}, must be {right}")
    assert os.listdir(tmp_path) == []


def test_a_present_file_of_a_wrong_checksum_is_left_and_named(server, tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"mine")
    line = refused(fetch("mnist", tmp_path, server.url))
    assert "train-images-idx3-ubyte.gz: SHA-256 " in line
    assert "remove it to fetch it again" in line
    assert (tmp_path / "train-images-idx3-ubyte.gz").read_bytes() == b"mine"
    assert server.requests == []


def test_a_page_instead_of_the_data_is_refused(server, tmp_path):
    server.files["a9a"] = b"<html>not: found</html>\n"
    assert f"{tmp_path}/a9a:1: " in refused(fetch("a9a", tmp_path, server.url))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_published_files_have_their_checksums(name, server, tmp_path):
    files = sorted((SHARED / name).glob("*.gz"))
    if not files:
        pytest.skip(f"<repo>/../shared/data/{name} is missing")
    server.files |= {file.name: file.read_bytes() for file in files}
    server.cuts["t10k-images-idx3-ubyte.gz"] = [1_000_000]
    outcome = fetch(name, tmp_path, server.url)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.count("SHA-256 as it must be") == 4
    assert [file.read_bytes() for file in files] == [(tmp_path / file.name).read_bytes() for file in files]


def songs(folder):
    return f"{folder}/YearPredictionMSD.txt"


def test_an_archive_is_unpacked(server, tmp_path):
    text = ",".join(["2001"] + ["0.5"] * 90) + "\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("readme.txt", "about")
        archive.writestr("../songs/YearPredictionMSD.txt", text)
    server.files["yearpredictionmsd.zip"] = packed.getvalue()
    outcome = fetch("year-prediction-msd", tmp_path / "year", server.url)
    assert outcome.returncode == 0, outcome.stderr
    assert os.listdir(tmp_path / "year") == ["YearPredictionMSD.txt"]
    assert Path(songs(tmp_path / "year")).read_text() == text
    assert fetch("year-prediction-msd", tmp_path / "year", server.url).stdout.count("there already") == 1


@pytest.mark.parametrize("content", [b"no zip at all", None], ids=["no archive", "not the file"])
def test_an_archive_that_is_none_is_one_line(content, server, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("else.txt", "x")
    server.files["yearpredictionmsd.zip"] = content or packed.getvalue()
    assert "yearpredictionmsd.zip: " in refused(fetch("year-prediction-msd", tmp_path, server.url))
    assert os.listdir(tmp_path) == []
