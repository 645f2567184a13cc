"""Stream tokens for browsers, because `EventSource` and `<video>` cannot send an API key."""

import hashlib

from flask import Blueprint, make_response, request
from flask.typing import ResponseReturnValue
from itsdangerous import BadData, URLSafeSerializer

from webapi.auth import access
from webapi.description.parts import header
from webapi.description.route import AnswerSpec, describe
from webapi.documents.jobs import TokenDocument
from webapi.keys.key import Key
from webapi.keys.signing_keys import SigningKeys
from webapi.services.backend import Backend, current_backend
from worker.jobs.errors import Unauthorized

__all__ = ["COOKIE", "key", "routes", "serializer"]

routes = Blueprint("tokens", __name__)

COOKIE = "stoker_token"


@routes.post("/v1/jobs/<job_id>/token")
@describe(
    "read",  # a stream token reads the events and the result of a job
    {
        200: AnswerSpec(
            "A token that gives access to this job's events and result.",
            TokenDocument,
            {"Set-Cookie": header("The same token as a cookie, for pages of the same site.")},
        )
    },
    (404,),
)
def issue(job_id: str) -> ResponseReturnValue:
    """Issue a token for this job's events and result, in the response body and as a cookie."""
    access.job(job_id)
    backend = current_backend()
    lifetime_s = backend.settings.token_s
    expires_at = backend.store.clock.now() + lifetime_s
    token = serializer(backend).dumps([job_id, access.owner(), expires_at])
    job_path = f"{request.script_root}/v1/jobs/{job_id}"
    response = make_response(TokenDocument.for_job(job_path, str(token), expires_at).model_dump())
    response.set_cookie(
        COOKIE,
        str(token),
        max_age=lifetime_s,
        expires=expires_at,
        path=job_path,
        secure=request.is_secure,
        httponly=True,
        samesite="Strict",
    )
    return response


def key(backend: Backend, token: str, job_id: str) -> Key:
    """Return the key that the job's token was made with.

    Raises `Unauthorized` if the token is forged, has expired or belongs to another job, and if the key is no
    longer valid.
    """
    try:
        its_job, key_id, expires_at, *_ = serializer(backend).loads(token)
    except BadData:
        raise Unauthorized from None
    if its_job != job_id or expires_at <= backend.store.clock.now():
        raise Unauthorized
    return backend.keys.valid(key_id)


def serializer(backend: Backend) -> URLSafeSerializer:
    """Return the serializer that signs tokens, `[job id, key id, expiry in seconds since the epoch]`."""
    # URLSafeTimedSerializer would refuse a token that a host with a slightly faster clock has just signed.
    secret = SigningKeys(backend.store).token_key
    return URLSafeSerializer(secret, salt="job", signer_kwargs={"digest_method": hashlib.sha256})
