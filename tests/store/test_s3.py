"""Runs in S3, as a server of this machine answers for it."""

from __future__ import annotations

import logging

import pytest
from typer.testing import CliRunner

from dropdiag.cli import app
from dropdiag.errors import RunError
from dropdiag.store.claims import TakenError
from dropdiag.store.reader import load
from dropdiag.store.storage import objects
from dropdiag.store.storage.places import as_path
from dropdiag.store.writer import RunWriter
from tests.store.test_run_folder import scalar, write
from tests.store.test_sessions import meta, of_steps, record

fsspec = pytest.importorskip("fsspec", reason="needs dropdiag[remote]")
client = pytest.importorskip("aiobotocore.client", reason="needs s3fs")
moto = pytest.importorskip("moto.moto_server.threaded_moto_server", reason="needs moto[server,s3]")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def server():
    """The address of a server that lives as long as these tests."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    started = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    started.start()
    yield "http://{}:{}".format(*started.get_host_and_port())
    started.stop()


@pytest.fixture
def bucket(server, monkeypatch, request):
    """The URL of an empty bucket, which is found as a user's would be: by the environment."""
    for name, value in {
        "AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    name = f"b{abs(hash(request.node.name))}"
    fsspec.filesystem("s3").mkdir(name)
    yield f"s3://{name}"
    type(fsspec.filesystem("s3")).clear_instance_cache()


@pytest.fixture
def requests(monkeypatch):
    """The requests that are made, by name."""
    made = []
    whole = client.AioBaseClient._make_api_call

    async def counted(self, name, arguments):
        made.append(name)
        return await whole(self, name, arguments)

    monkeypatch.setattr(client.AioBaseClient, "_make_api_call", counted)
    return made


def test_a_run_is_recorded_read_and_resumed(bucket, tmp_path):
    write(as_path(f"{bucket}/runs/a-0"))
    write(tmp_path / "a-0")
    assert load(f"{bucket}/runs/a-0").scalars.equals(load(tmp_path / "a-0").scalars)
    first = RunWriter(as_path(f"{bucket}/runs/a-1"), meta())
    record(first, [1, 2], 1.0)
    first.close("interrupted")
    again = RunWriter(as_path(f"{bucket}/runs/a-1"), meta(), resume_from=1)
    record(again, [2, 3], 2.0)
    again.close("completed")
    assert of_steps(load(f"{bucket}/runs/a-1")) == {1: 1.0, 2: 2.0, 3: 2.0}
    assert [run.name for run in load(f"{bucket}/runs/a-*")] == ["a-0", "a-1"]
    result = CliRunner().invoke(app, ["ls", bucket])
    assert (result.exit_code, "runs/a-0" in result.output, "runs/a-1" in result.output) == (0, True, True)
    with pytest.raises(RunError, match="holds a run already"):
        write(as_path(f"{bucket}/runs/a-0"))
    with pytest.raises(RunError, match="is there such a bucket"):
        write(as_path("s3://no-such-bucket/run"))


def test_the_store_itself_refuses_a_second_run_json(bucket, monkeypatch):
    path = as_path(f"{bucket}/run")
    monkeypatch.setattr("dropdiag.store.writer.check_new", lambda *_: None)
    monkeypatch.setattr("dropdiag.store.claims.is_session_file", lambda _: False)  # nobody sees the other one's session
    first = RunWriter(path, meta())
    with pytest.raises(TakenError):
        RunWriter(path, meta())
    record(first, [1], 1.0)
    first.close("completed")
    assert of_steps(load(path)) == {1: 1.0}


def test_opening_and_flushing_take_few_requests(bucket, requests):
    writer = RunWriter(as_path(f"{bucket}/run"), meta())
    writer.drain()
    requests.clear()
    writer.add_scalars([scalar(1, 1.0)])
    writer.flush()
    writer.drain()
    assert sorted(requests) == ["ListObjectsV2"] * 2 + ["PutObject"] * 2  # one table, and run.json
    writer.close("completed")
    requests.clear()
    run = load(f"{bucket}/run")
    assert sorted(requests) == ["GetObject", *["HeadObject"] * 2, *["ListObjectsV2"] * 2]
    requests.clear()
    run.select("net_grad_abs_mean")
    assert sorted(requests) == ["GetObject", "HeadObject", *["ListObjectsV2"] * 2]  # one segment


def test_a_large_object_is_put_in_parts_which_leave_nothing_where_one_fails(bucket, monkeypatch):
    monkeypatch.setattr(objects, "LARGE_BYTES", 1 << 20)
    path = as_path(f"{bucket}/large")
    content = bytes(range(256)) * (40 << 10)  # 10 MiB, in two parts
    kind = type(fsspec.filesystem("s3"))
    monkeypatch.setattr(kind, "_put_file", _in_parts_of(kind._put_file, 5 << 20))
    store, system = objects.Objects(), fsspec.filesystem("s3", use_listings_cache=False)
    with store.put(path, path, replaces=False) as file:
        file.write(content)
    assert store.read(path, len(content)) == content
    system.rm(str(path))
    whole = client.AioBaseClient._make_api_call

    async def failing(self, name, arguments):
        if name == "UploadPart" and arguments["PartNumber"] == 2:
            raise ValueError("the second part is lost")
        return await whole(self, name, arguments)

    monkeypatch.setattr(client.AioBaseClient, "_make_api_call", failing)
    with pytest.raises(OSError, match="the second part is lost"), store.put(path, path, replaces=False) as file:
        file.write(content)
    assert store.kind(path) is None
    assert not system.list_multipart_uploads(bucket.removeprefix("s3://"))


def _in_parts_of(put_file, size):
    async def put(self, source, target, **kwargs):
        return await put_file(self, source, target, **{**kwargs, "chunksize": size})

    return put
