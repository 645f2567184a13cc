"""Security headers of every response, and CORS headers for the configured origins."""

import pytest

from tests.support.web.webstack import HELLO, Web
from webapi.app import create_app
from webapi.http.security_headers import HEADERS
from webapi.keys.keys import Keys
from worker.jobs.errors import ConfigurationError
from worker.jobs.settings import Settings

APP, LOCAL = "https://app.example", "http://localhost:3000"

#: Settings of this module's server.
SETTINGS = {"cors_origins": f"{APP}, {LOCAL}"}


def test_security_headers_on_every_response(web: Web) -> None:
    job_id = web.submit()
    web.http.post(f"/v1/jobs/{job_id}/cancel")
    for path in ("/livez", "/readyz", "/v1/jobs", f"/v1/jobs/{job_id}/events", "/nowhere", "/metrics"):
        headers = web.http.get(path).headers
        assert {name: headers[name] for name in HEADERS} == HEADERS, path
    Keys(web.ledger.store).create("ci")
    refused = web.http.get("/v1/jobs")
    assert (refused.status_code, {name: refused.headers[name] for name in HEADERS}) == (401, HEADERS)


@pytest.mark.parametrize("origin", [APP, LOCAL])
def test_cors_allows_configured_origins(web: Web, origin: str) -> None:
    key = Keys(web.ledger.store).create("ci").text
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, prefer",
    }
    preflight = web.http.options("/v1/jobs/chat", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == origin
    assert preflight.headers["Access-Control-Allow-Credentials"] == "true"
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    allowed = preflight.headers["Access-Control-Allow-Headers"].replace(" ", "").split(",")
    assert {name.lower() for name in allowed} == {
        "authorization",
        "content-type",
        "idempotency-key",
        "prefer",
    }
    headers = {"Origin": origin, "Authorization": f"Bearer {key}"}
    accepted = web.http.post("/v1/jobs/chat", json=HELLO, headers=headers)
    assert accepted.status_code == 202
    assert accepted.headers.get_list("Access-Control-Allow-Origin") == [origin]
    assert {"Location", "Retry-After", "X-Stoker-Job"} <= {
        name.strip() for name in accepted.headers["Access-Control-Expose-Headers"].split(",")
    }
    refused = web.http.get("/v1/jobs", headers={"Origin": origin})
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, origin)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null", None]
)
def test_cors_refuses_other_origins(web: Web, origin: str | None) -> None:
    Keys(web.ledger.store).create("ci")
    headers = {"Access-Control-Request-Method": "POST"} | ({"Origin": origin} if origin else {})
    for response in (
        web.http.options("/v1/jobs/chat", headers=headers),
        web.http.get("/livez", headers=headers),
    ):
        assert "Access-Control-Allow-Origin" not in response.headers
        assert response.headers["Vary"] == "Origin"


def test_cors_is_off_by_default(settings: Settings) -> None:
    response = create_app(settings).test_client().get("/livez", headers={"Origin": APP})
    assert response.status_code == 200
    assert not [name for name, _ in response.headers if name.lower().startswith("access-control")]
    assert "Vary" not in response.headers


@pytest.mark.parametrize(
    "origins",
    ["*", "https://*.example", "null", "app.example", "https://app.example/", f"{APP},https://a b"],
)
def test_cors_setting_accepts_exact_origins_only(origins: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^STOKER_CORS_ORIGINS: .* is not an exact origin such as https://"
    ):
        Settings.from_env({"STOKER_CORS_ORIGINS": origins})
