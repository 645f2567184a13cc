"""The settings of the API."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from worker.jobs.settings.area import Area, CommaSeparated, matching

__all__ = ["Api"]

#: No patterns: one could admit an unforeseen page, together with the cookies of its visitors.
Origin = Annotated[
    str,
    matching(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?", "an exact origin such as https://app.example"),
]
PathPrefix = Annotated[
    str, matching(r"((/[A-Za-z0-9._~-]+)+)?", "a path such as /stoker, without a / at its end")
]
OtlpUrl = Annotated[
    str, matching(r"https?://[^/].*", "the URL of a collector, such as http://collector:4318", secret=True)
]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(ip_network)]


class Api(Area):
    """The settings of the API."""

    model_config = ConfigDict(title="API")

    host: str = "127.0.0.1"
    """The address that the API listens on. Without a key the API accepts loopback addresses only. See [Before
    the first key](security.md#before-the-first-key)."""
    port: int = Field(8000, ge=0, le=65535)
    """The port that the API listens on. `stoker up` takes any free port for `0`."""
    web_processes: int = Field(1, ge=1)
    """The number of API processes. Each of them can hold any number of event streams, up to its limit of
    connections."""
    no_auth: bool = False
    """`True` makes the API trust every caller, even if there are keys."""
    cors_origins: CommaSeparated[Origin] = ()
    """The origins whose web pages may use the API, with scheme and port, separated by commas. Patterns are
    not allowed. See [CORS and headers](security.md#cors-and-headers)."""
    token_s: int = Field(600, ge=1)
    """The lifetime of a stream token, in seconds. See [Browser tokens](security.md#browser-tokens)."""
    heartbeat_s: float = Field(15.0, gt=0)
    """The seconds after which an idle event stream reads the job's log again, and sends a comment line."""
    stream_silence_s: float = Field(3.0, gt=0)
    """The seconds for which an event stream or a streamed chat completion may be silent. Then it has a
    comment line, and another one after each further silence, so that proxies do not close it. A completion
    whose first token takes longer is opened with one, such as `: queued, place 3`. Keep it a second below the
    idle limit of your proxies. See [Streams](openai-api.md#streams)."""

    head_timeout_s: float = Field(10.0, gt=0)
    """The seconds within which a client must send the head of a request. See
    [Connections](security.md#connections)."""
    stall_timeout_s: float = Field(60.0, gt=0)
    """The seconds for which a client may keep the API waiting while it sends a body or reads a response. Each
    16 KiB add a second, up to this number. See [Connections](security.md#connections)."""
    max_open_streams_per_key: int = Field(1000, ge=1)
    """The number of event streams, and of requests that wait for the end of a job, that one key may have open
    in one API process."""
    max_connections_per_address: int = Field(1000, ge=0)
    """The number of connections that one address may have open in one API process. `0` means any number. See
    [Connections](security.md#connections)."""
    trusted_proxies: CommaSeparated[Network] = (ip_network("127.0.0.1"), ip_network("::1"))
    """The addresses and networks of proxies in front of the API, separated by commas. The API believes their
    `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Forwarded-Prefix`, and any number of clients may come from
    them. See [A proxy with TLS](deployment.md#a-proxy-with-tls)."""
    otlp_endpoint: OtlpUrl | None = Field(None, repr=False)
    """The URL of an OpenTelemetry collector that takes OTLP over HTTP, such as `http://collector:4318`. The
    API sends it spans of requests and jobs. It needs the extra `otel`. If it is unset, no spans are made. See
    [Tracing](tracing.md)."""
    path_prefix: PathPrefix = ""
    """The path under which a proxy offers the API, such as `/stoker`, if the proxy does not send it as
    `X-Forwarded-Prefix`. Links in webhooks begin with it, too. See [A path
    prefix](deployment.md#a-path-prefix)."""
