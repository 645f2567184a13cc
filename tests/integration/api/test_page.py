"""Tests of the page's files over HTTP."""

import gzip
import re

import pytest

from tests.support.web.webstack import Web
from webapi.keys.keys import Keys


def test_page_needs_no_key_and_loads_nothing_from_other_hosts(web: Web) -> None:
    Keys(web.ledger.store).create("somebody")
    response = web.http.get("/")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = response.headers["Content-Security-Policy"].split("; ")
    assert policy[0] == "default-src 'self'"
    assert not [source for source in policy if "unsafe" in source or "http" in source]
    for name in re.findall(r'(?:src|href)="(page/[^"]+)"', response.text):
        assert web.http.get(f"/{name}").status_code == 200, name


@pytest.mark.parametrize(
    "name",
    ["nothing.js", "chat", "../routes.py", "%2e%2e/routes.py", "..%2froutes.py", "vendor/x.map", "%00.js"],
)
def test_page_has_no_other_files(web: Web, name: str) -> None:
    assert web.http.get(f"/page/{name}").status_code == 404


def test_page_file_is_compressed_and_kept_by_browsers(web: Web) -> None:
    plain = web.http.get("/page/app.js", headers={"Accept-Encoding": "identity"})
    with web.http.stream("GET", "/page/app.js", headers={"Accept-Encoding": "gzip"}) as response:
        zipped = b"".join(response.iter_raw())
        assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(zipped) == plain.content
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["ETag"] != response.headers["ETag"]
    for accepted, first in (("identity", plain), ("gzip", response)):
        headers = {"Accept-Encoding": accepted, "If-None-Match": first.headers["ETag"]}
        assert web.http.get("/page/app.js", headers=headers).status_code == 304
    assert "Accept-Encoding" in plain.headers["Vary"]
