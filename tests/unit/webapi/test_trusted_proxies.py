"""A path prefix, a scheme and a host that a proxy tells: believed only if the proxy is trusted."""

from typing import Any

import pytest
from flask import request
from flask.testing import FlaskClient

from tests.support.web.webstack import CHAT, HELLO, tiny_template
from webapi.app import create_app
from webapi.keys.keys import Keys
from webapi.webhooks.sender import payload
from worker.jobs.cards import ModelCard
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry

FORWARDED = {
    "X-Forwarded-Prefix": "/stoker",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "ai.example:8443",
}
TRUSTED, OTHER = "192.0.2.7", "192.0.2.8"


def client_of(ledger: Ledger, **changes: Any) -> FlaskClient:
    """Return a client of an API with a key and a model, which sends the key."""
    Registry(ledger.store).publish_model(ModelCard("tiny", "chat", CHAT, 64), tiny_template().to_json())
    app = create_app(ledger.store.settings.replace(trusted_proxies=TRUSTED, **changes))
    app.add_url_rule("/seen", view_func=lambda: {"url": request.url})
    client = app.test_client()
    key = Keys(ledger.store).create("ci", scopes=["submit", "read", "admin"]).text
    client.environ_base |= {"HTTP_AUTHORIZATION": f"Bearer {key}", "REMOTE_ADDR": TRUSTED}
    return client


def test_forwarded_prefix_is_in_all_paths(brokered: Ledger) -> None:
    client = client_of(brokered)
    client.environ_base |= {
        f"HTTP_{name.upper().replace('-', '_')}": text for name, text in FORWARDED.items()
    }
    submitted = client.post("/v1/jobs/chat", json=HELLO)
    client.post("/v1/jobs/chat", json=HELLO)
    job = f"/stoker/v1/jobs/{submitted.get_json()['id']}"
    assert submitted.headers["Location"] == job
    links = {"self": job, "events": f"{job}/events", "result": f"{job}/result", "cancel": f"{job}/cancel"}
    assert submitted.get_json()["links"] == links
    page = client.get("/v1/jobs?limit=1").get_json()
    assert page["links"]["next"].startswith("/stoker/v1/jobs?limit=1&after=")
    assert page["jobs"][0]["links"]["self"].startswith("/stoker/v1/jobs/")
    issued = client.post(f"{job.removeprefix('/stoker')}/token")
    assert issued.get_json()["events"].startswith(f"{job}/events?token=")
    assert issued.get_json()["result"].startswith(f"{job}/result?token=")
    assert {f"Path={job}", "Secure"} <= {*issued.headers["Set-Cookie"].split("; ")}
    assert client.get("/openapi.json").get_json()["servers"] == [{"url": "/stoker"}]
    assert client.get("/v1//models").headers["Location"] == "https://ai.example:8443/stoker/v1/models"


@pytest.mark.parametrize(
    ("headers", "address", "url"),
    [
        (FORWARDED, TRUSTED, "https://ai.example:8443/stoker/seen"),
        (FORWARDED, "", "https://ai.example:8443/stoker/seen"),  # over a Unix socket
        (FORWARDED, f"::ffff:{TRUSTED}", "https://ai.example:8443/stoker/seen"),
        (FORWARDED, OTHER, "http://localhost/seen"),
        ({"X-Forwarded-Prefix": "/a, /b/"}, TRUSTED, "http://localhost/a/b/seen"),
        ({"X-Forwarded-Proto": "http, https"}, TRUSTED, "https://localhost/seen"),
        ({"X-Forwarded-Host": "forged, ai.example"}, TRUSTED, "http://ai.example/seen"),
        ({"X-Forwarded-Host": "[::1]:80"}, TRUSTED, "http://[::1]:80/seen"),
        ({"X-Forwarded-Prefix": "//evil.example"}, TRUSTED, "http://localhost/seen"),
        ({"X-Forwarded-Prefix": "/a?b"}, TRUSTED, "http://localhost/seen"),
        ({"X-Forwarded-Prefix": "/"}, TRUSTED, "http://localhost/seen"),
        ({"X-Forwarded-Proto": "javascript"}, TRUSTED, "http://localhost/seen"),
        ({"X-Forwarded-Host": "a/b"}, TRUSTED, "http://localhost/seen"),
    ],
)
def test_forwarded_headers_of_trusted_proxies_only(
    ledger: Ledger, headers: dict[str, str], address: str, url: str
) -> None:
    client = client_of(ledger)
    seen = client.get("/seen", headers=headers, environ_overrides={"REMOTE_ADDR": address}).get_json()["url"]
    assert seen.replace("[::1]:80/", "[::1]/") == url.replace("[::1]:80/", "[::1]/")


def test_path_prefix_of_the_settings_is_in_links_and_webhooks(brokered: Ledger) -> None:
    client = client_of(brokered, path_prefix="/ai")
    job_id = client.post("/v1/jobs/chat", json=HELLO).get_json()["id"]
    assert client.get(f"/v1/jobs/{job_id}").get_json()["links"]["self"] == f"/ai/v1/jobs/{job_id}"
    named = client.get(f"/v1/jobs/{job_id}", headers={"X-Forwarded-Prefix": "/other"}).get_json()
    assert named["links"]["self"] == f"/other/v1/jobs/{job_id}"
    assert f'"/ai/v1/jobs/{job_id}/result"' in payload(brokered.get(job_id), "/ai")
