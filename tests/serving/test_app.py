"""Every route of the page and each refusal; nothing is written to disk."""

from __future__ import annotations

import asyncio
import time

import pytest
from starlette.testclient import TestClient

from sparring.serving import app, protection
from sparring.serving.session import KEPT, Session
from tests.serving.made import Brightness, picture, pixels, served

HOME = "http://127.0.0.1:8000"
PNG = {"content-type": "image/png"}
ATTACK = {"threat": "Linf", "eps": "0.2", "attack": "quick"}


@pytest.fixture
def session():
    return Session([served(), served("two", (3, 6, 6), Brightness(20.0), ["dark", "light"])])


@pytest.fixture
def client(session):
    with TestClient(app.make_app(session), base_url=HOME) as client:
        yield client


def upload(client, content=None, **headers):
    return client.post("/picture", content=content or picture(), headers={**PNG, **headers})


def started(client, **changes):
    table = {"picture": upload(client).json()["picture"], **ATTACK, **changes}
    reply = client.post("/attack", json=table)
    assert reply.status_code == 200, reply.text
    return reply.json()["job"]


def finished(client, job):
    for _ in range(500):
        reply = client.get(f"/job/{job}").json()
        if reply["state"] != "running":
            return reply
        time.sleep(0.02)
    raise AssertionError("the attack did not end")


def test_the_page_is_whole_and_asks_nothing_elsewhere(client):
    for path, kind in (("/", "html"), ("/page.css", "css"), ("/page.js", "javascript")):
        reply = client.get(path)
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith(f"text/{kind}")
        assert "://" not in reply.text.replace("http://www.w3.org/2000/svg", "")
        assert reply.headers["content-security-policy"] == protection.POLICY
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in reply.headers
    assert "unsafe" not in protection.POLICY
    assert "<style" not in client.get("/").text
    assert " style=" not in client.get("/").text


def test_the_page_knows_models_threats_and_attacks(client):
    about = client.get("/about").json()
    assert [(m["name"], m["input"]) for m in about["models"]] == [
        ("one", "8 × 8 grey"),
        ("two", "6 × 6 RGB"),
    ]
    assert [t["name"] for t in about["threats"]] == ["Linf", "L2", "L1", "L0"]
    assert about["threats"][0]["eps"] == "0.2"
    assert about["classes"] == ["dark", "bright", "light"]


def test_a_picture_is_fitted_to_every_model_and_answered(client):
    reply = upload(client, picture(200, (10, 12), "JPEG", "RGB")).json()
    assert reply["size"] == "10 × 12"
    assert [m["answer"] for m in reply["models"]] == ["bright", "light"]
    assert "resized from 10 × 12 to 8 × 10" in reply["models"][0]["notes"]
    assert sum(c["confidence"] for c in reply["models"][0]["classes"]) == pytest.approx(1)


def test_a_sample_comes_with_its_class(client):
    reply = client.post("/sample", json={"model": 1, "row": 1}).json()
    assert (reply["label"], reply["name"]) == ("light", "two, test sample 1")
    assert client.post("/sample", json={"model": 0}).json()["label"] in ("dark", "bright")


def test_an_attack_of_two_models_from_start_to_download(client):
    job = started(client)
    done = finished(client, job)
    assert (done["state"], done["error"], done["share"]) == ("done", "", 1.0)
    for model in (0, 1):
        rows = [r for r in done["rows"] if r["model"] == model]
        assert rows[0]["eps"] == 0
        worst = next(r for r in rows if r["eps_text"] == "0.2")
        assert (worst["label"], worst["adversarial"], worst["levels"]) == ("dark", True, 51)
        (other,) = worst["elsewhere"]  # as bright there, since it is the same mean
        assert (other["model"], other["answer"]) == (1 - model, ["bright", "light"][1 - model])
        file = client.get(f"/adversarial/{job}/{worst['row']}.png")
        assert file.headers["content-type"] == "image/png"
        assert file.headers["content-disposition"].startswith("attachment")
        assert pixels(file.content).mean() > 127
    later = client.get(f"/job/{job}?after={len(done['rows']) - 1}").json()
    assert len(later["rows"]) == 1


def test_one_model_alone_and_a_class_that_the_person_names(client):
    done = finished(client, started(client, models=[1], label="light"))
    assert {r["model"] for r in done["rows"]} == {1}
    assert done["rows"][0]["adversarial"]  # it says dark


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"threat": "Linv"}, 400, "did you mean 'Linf'"),
        ({"attack": "quik"}, 400, "did you mean 'quick'"),
        ({"threat": []}, 400, "threat = '[]' does not exist"),
        ({"threat": {"Linf": 1}}, 400, "There are: L0, L1, L2, Linf"),
        ({"attack": {}}, 400, "attack = '{}' does not exist"),
        ({"attack": ["quick"]}, 400, "did you mean 'quick'"),
        ({"eps": "nan"}, 400, "a radius > 0"),
        ({"eps": 8}, 400, "the width of the box"),
        ({"eps": None}, 400, "a radius > 0"),
        ({"label": "cat"}, 400, "label = 'cat'"),
        ({"label": ["dark"]}, 400, "label = "),
        ({"models": [2]}, 400, "models = 2 is not allowed"),
        ({"models": []}, 400, "one or more models"),
        ({"models": [True]}, 400, "models = True"),
        ({"models": {}}, 400, "models = "),
        ({"picture": "gone"}, 404, "drop it again"),
        ({"steps": 3}, 400, "must be a table of picture"),
    ],
)
def test_a_wrong_attack_is_refused_in_words(client, changes, status, message):
    table = {"picture": upload(client).json()["picture"], **ATTACK, **changes}
    reply = client.post("/attack", json=table)
    assert (reply.status_code, message in reply.json()["error"]) == (status, True), reply.text


@pytest.mark.parametrize(
    "body", [{"model": 2}, {"model": "0"}, {"model": 0, "row": 2}, {"row": -1}]
)
def test_a_sample_that_does_not_exist_is_refused(client, body):
    assert client.post("/sample", json=body).status_code == 400


@pytest.mark.parametrize(
    "content",
    [b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4", picture()[:40]],
)
def test_what_is_no_picture_is_refused(client, content):
    reply = client.post("/picture?name=a%1b[2J.png", content=content, headers=PNG)
    assert reply.status_code == 400
    assert "\x1b" not in reply.json()["error"]


def test_a_picture_that_is_too_large_is_refused(client, monkeypatch):
    monkeypatch.setattr(app, "MAX_PICTURE", 100)
    for body in (b"x" * 101, iter([b"x" * 60, b"x" * 60])):  # by its length, and in pieces
        reply = client.post("/picture", content=body, headers=PNG)
        assert reply.status_code == 413
        assert "larger than 100 bytes" in reply.json()["error"]
    assert client.post("/attack", json={"picture": "x" * app.MAX_REQUEST}).status_code == 413


@pytest.mark.parametrize("path", ["/picture", "/attack"])
def test_a_browser_that_leaves_in_an_upload_is_no_error(session, path):
    """A page that is loaded again while a picture is sent: no traceback in the terminal."""
    kind = b"image/png" if path == "/picture" else b"application/json"
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "root_path": ""}
    scope["headers"] = [(b"host", b"127.0.0.1:8000"), (b"content-type", kind)]
    messages = iter(
        [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    )
    sent = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    asyncio.run(app.make_app(session)(scope, receive, send))
    assert sent[0]["status"] == 400


def test_a_picture_of_too_many_pixels_is_refused(client, monkeypatch):
    monkeypatch.setenv("SPARRING_MAX_PIXELS", "63")
    assert "8 × 8 pixels" in upload(client).json()["error"]


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "", "image"])
def test_content_types_that_a_form_can_send_are_refused(client, kind):
    assert upload(client, **{"content-type": kind}).status_code == 400
    reply = client.post("/sample", content=b'{"model": 0}', headers={"content-type": kind})
    assert reply.status_code == 400


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 10_000, b"\xff"])
def test_what_is_no_table_of_json_is_refused(client, content):
    reply = client.post("/sample", content=content, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]) == (400, "the request is no table of JSON")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""]
)
def test_another_host_is_refused(client, host):
    """As of a name that a stranger's DNS gives the address 127.0.0.1."""
    for path in ("/", "/about", "/page.js"):
        assert client.get(path, headers={"host": host}).status_code == 403
    assert upload(client, host=host).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "https://127.0.0.1:8000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_origin_is_refused(client, headers):
    assert upload(client, **headers).status_code == 403
    assert client.post("/attack", json=ATTACK, headers=headers).status_code == 403
    assert client.get("/about", headers=headers).status_code == 403


def test_its_own_page_and_programs_pass(client):
    assert upload(client, origin=HOME, **{"sec-fetch-site": "same-origin"}).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    assert client.post("/sample", json={"model": 0}, headers=link).status_code == 403


def test_a_second_attack_is_told_busy_and_cancel_frees_the_models(client, session):
    model = session.served[0].model
    first = upload(client).json()["picture"]
    model.gate.clear()
    model.entered.clear()
    job = client.post("/attack", json={"picture": first, **ATTACK}).json()["job"]
    assert model.entered.wait(10)
    for reply in (client.post("/attack", json={"picture": first, **ATTACK}), upload(client)):
        assert reply.status_code == 409
        assert reply.json()["job"] == job
        assert "busy" in reply.json()["error"]
    assert client.get(f"/job/{job}").json()["state"] == "running"
    assert client.post("/cancel", json={"job": job}).status_code == 200
    model.gate.set()
    ended = time.perf_counter()
    assert finished(client, job)["state"] == "cancelled"
    assert time.perf_counter() - ended < 1
    assert finished(client, started(client))["state"] == "done"
    assert client.get(f"/job/{job}").status_code == 404  # another one has begun since


def test_a_job_or_a_picture_that_does_not_exist_is_missing(client):
    job = started(client)
    finished(client, job)
    assert client.get("/job/other").status_code == 404
    assert client.post("/cancel", json={"job": "other"}).status_code == 404
    for row in ("9999", "-1", "x", "9" * 5000):
        assert client.get(f"/adversarial/{job}/{row}.png").status_code == 404
    assert client.get("/adversarial/other/0.png").status_code == 404
    assert client.post("/cancel", json={"job": job}).status_code == 200
    assert client.get(f"/job/{job}").json()["state"] == "done"


def test_old_pictures_leave(client):
    names = [upload(client).json()["picture"] for _ in range(KEPT + 1)]
    assert client.post("/attack", json={"picture": names[0], **ATTACK}).status_code == 404
    assert client.post("/attack", json={"picture": names[1], **ATTACK}).status_code == 200


def test_nothing_is_written_to_disk(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    finished(client, started(client))
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_fails_ends_the_attack_in_words(client, session):
    class Failing(Brightness):
        def forward(self, x):
            if x.requires_grad:
                raise RuntimeError("no more\nout of luck")
            return super().forward(x)

    session.served = [served(model=Failing())]
    done = finished(client, started(client))
    assert (done["state"], done["error"]) == ("failed", "RuntimeError: out of luck")
    assert finished(client, started(client, attack="Square"))["state"] == "done"


def test_a_model_that_exits_leaves_the_server_free(client, session):
    class Exiting(Brightness):
        def forward(self, x):
            if x.requires_grad:
                raise SystemExit("\ud800 and out")
            return super().forward(x)

    session.served = [served(model=Exiting())]
    done = finished(client, started(client))
    assert (done["state"], done["error"]) == ("failed", "SystemExit: \\ud800 and out")
    assert finished(client, started(client, attack="Square"))["state"] == "done"


@pytest.mark.parametrize("error", [RuntimeError("out of luck"), SystemExit(3)])
def test_a_model_that_fails_on_a_picture_says_so(client, session, error):
    class Failing(Brightness):
        def forward(self, x):
            raise error

    whole = session.served
    session.served = [served("fragile", model=Failing())]
    for reply in (upload(client), client.post("/sample", json={"model": 0})):
        assert reply.status_code == 400
        why = f"{type(error).__name__}: {error}"
        assert reply.json()["error"] == f"fragile fails on this picture: {why}"
    session.served = whole
    assert upload(client).status_code == 200


def test_a_model_without_a_class_says_so(client, session):
    class Undefined(Brightness):
        def forward(self, x):
            return super().forward(x) * float("nan")

    session.served = [served(model=Undefined())]
    assert upload(client).json()["models"][0] == {
        **upload(client).json()["models"][0],
        "answer": "no class",
        "classes": [],
    }
    done = finished(client, started(client))
    assert done["state"] == "failed"
    assert "names a class for" in done["error"]


def test_closing_ends_a_running_attack():
    session = Session([served()])
    model = session.served[0].model
    with TestClient(app.make_app(session), base_url=HOME) as client:
        first = upload(client).json()["picture"]
        model.gate.clear()
        model.entered.clear()
        client.post("/attack", json={"picture": first, **ATTACK})
        assert model.entered.wait(10)
        job = session.runner.current
        assert job is not None
        job.cancel()
        model.gate.set()
    assert job.state == "cancelled"
