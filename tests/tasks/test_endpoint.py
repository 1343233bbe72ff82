from __future__ import annotations

import pytest

from bessemer.errors import UserError
from bessemer.tasks.endpoint import Endpoint
from tasks.stub_server import Reply, serving


class Sleeps:
    """Remembers instead of sleeping."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def test_json_there_and_back() -> None:
    with serving(Reply('{"answer": "好"}')) as stub:
        assert Endpoint(stub.url + "/v1/x?a=b").post({"question": "可以吗"}) == {"answer": "好"}
    assert stub.requests == [{"question": "可以吗"}]
    assert stub.paths == ["/v1/x?a=b"]
    assert "Authorization" not in stub.headers[0]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_and_broken_servers_are_asked_again(status: int) -> None:
    sleep = Sleeps()
    with serving(Reply("no", status), Reply("no", status), Reply('{"ok": 1}')) as stub:
        assert Endpoint(stub.url, retries=3, backoff=0.5, sleep=sleep).post({}) == {"ok": 1}
    assert len(stub.requests) == 3 and sleep.seconds == [0.5, 1.0]


def test_retry_after_is_followed_within_reason() -> None:
    sleep = Sleeps()
    replies = [Reply("", 429, {"Retry-After": text}) for text in ("7", "99999", "tomorrow")]
    with serving(*replies, Reply("{}")) as stub:
        assert Endpoint(stub.url, retries=3, backoff=0.5, sleep=sleep).post({}) == {}
    assert sleep.seconds == [7.0, 60.0, 2.0]


def test_after_the_last_attempt_it_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    sleep = Sleeps()
    with serving(Reply("secret details", 500)) as stub:
        assert Endpoint(stub.url, retries=2, backoff=1, sleep=sleep).post({}) is None
    assert len(stub.requests) == 3 and sleep.seconds == [1, 2]
    assert "status 500, 3 attempts; missing" in capsys.readouterr().err


def test_silence_and_dripping_run_into_the_timeout(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Reply("{}", wait=30)) as stub:
        assert Endpoint(stub.url, timeout=0.1, retries=0).post({}) is None
    # each byte comes in time, the whole does not
    with serving(Reply("{" + " " * 300 + "}", drip=0.02)) as stub:
        assert Endpoint(stub.url, timeout=0.2, retries=0).post({}) is None
    assert capsys.readouterr().err.count("1 attempts; missing") == 2


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Reply("{}")) as stub:
        url = stub.url
    assert Endpoint(url, retries=1, backoff=0).post({}) is None
    assert "ConnectionRefusedError" in capsys.readouterr().err


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    with serving(Reply("{}")) as other, serving(Reply("", status, {"Location": other.url})) as stub:
        with pytest.raises(UserError, match=f"status {status}"):
            Endpoint(stub.url, retries=3).post({})
        assert len(stub.requests) == 1 and other.requests == []


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_refusals_stop_at_once(status: int) -> None:
    with (
        serving(Reply("no such model", status)) as stub,
        pytest.raises(UserError, match=rf"status {status} \(no such model\)"),
    ):
        Endpoint(stub.url, retries=3).post({})
    assert len(stub.requests) == 1


@pytest.mark.parametrize("body", ["", "<html>", "[1, 2]", '{"a": ', "null", b"\xff\xfe", "[" * 100_000])
def test_what_is_no_json_object_is_missing(body: str | bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Reply(body)) as stub:
        assert Endpoint(stub.url, retries=3).post({}) is None
    assert len(stub.requests) == 1
    assert "no JSON object; missing" in capsys.readouterr().err


def test_endless_replies_are_cut() -> None:
    with serving(Reply("x" * 1_000_001)) as stub, pytest.raises(UserError, match="more than 1000000 bytes"):
        Endpoint(stub.url, retries=0).post({})


def test_the_key_goes_into_the_header_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "sk-very-secret-123"
    monkeypatch.setenv("JUDGE_KEY", key)
    with serving(Reply(f"bad key {key}", 401)) as stub:
        endpoint = Endpoint(stub.url, "JUDGE_KEY", retries=0)
        with pytest.raises(UserError) as caught:
            endpoint.post({})
    assert stub.headers[0]["Authorization"] == f"Bearer {key}"
    assert "bad key ***" in str(caught.value)
    with serving(Reply(key, 500)) as stub:
        Endpoint(stub.url, "JUDGE_KEY", retries=0).post({})
    shown = str(caught.value) + repr(endpoint) + "".join(capsys.readouterr())
    assert key not in shown


@pytest.mark.parametrize("value", ["", "  ", "a\r\nX-Evil: 1", "schlüssel"])
def test_a_key_that_is_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("JUDGE_KEY", value)
    with pytest.raises(UserError, match="environment variable JUDGE_KEY is empty"):
        Endpoint("http://127.0.0.1:1", "JUDGE_KEY").post({})


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/v1",
        "http://2852039166/",
        "http://127.0.0.1.nip.io/",
        "http://localhost.evil.com/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "/etc/passwd",
        "http://user:pw@127.0.0.1/",
        "http://127.0.0.1\\@evil.com/",
        "http://127.0.0.1:99999/",
        "https://",
        "http://127.0.0.1/ x",
        "http://127.0.0.1/\n",
        "http://127.0.0.1/#x",
        "http://[::2]/",
        "",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(UserError, match="expected https://host/path, or http:// on this machine"):
        Endpoint(url)


@pytest.mark.parametrize(
    "url",
    ["https://judge.example.com/v1", "http://127.0.0.1:8080", "http://localhost/v1", "http://[::1]:80/"],
)
def test_addresses_that_are_taken(url: str) -> None:
    assert Endpoint(url).url == url


def test_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Reply("{}")) as proxy, serving(Reply('{"direct": 1}')) as stub:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert Endpoint(stub.url).post({}) == {"direct": 1}
        assert proxy.requests == []
