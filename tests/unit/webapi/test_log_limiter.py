"""The limit on log lines of one kind."""

import logging
from collections.abc import Callable

from webapi.app import ANONYMOUS_LOGGERS, create_app
from webapi.services.log_limiter import BURST, LogLimiter
from worker.jobs.settings import Settings


def line(
    created: float, lineno: int = 1, message: str = "no key from %s", *args: object
) -> logging.LogRecord:
    record = logging.LogRecord("api", logging.WARNING, "auth.py", lineno, message, args or ("::1",), None)
    record.created = created
    return record


def test_log_limiter_passes_burst_then_rate() -> None:
    limiter = LogLimiter(burst=3, per_minute=60)
    assert [limiter.filter(line(100.0)) for _ in range(5)] == [True, True, True, False, False]
    assert [limiter.filter(line(101.5)) for _ in range(2)] == [True, False]
    assert [limiter.filter(line(900.0)) for _ in range(4)] == [True, True, True, False]


def test_log_limiter_counts_lines_left_out() -> None:
    limiter, last = LogLimiter(burst=1, per_minute=60), line(102.0)
    assert [limiter.filter(line(100.0)) for _ in range(4)] == [True, False, False, False]
    assert limiter.filter(last)
    assert last.getMessage() == "no key from ::1 (3 more lines of this kind were left out)"
    assert limiter.filter(following := line(104.0))
    assert following.getMessage() == "no key from ::1"


def test_log_limiter_counts_each_kind_by_itself() -> None:
    limiter = LogLimiter(burst=1, per_minute=1)
    assert [limiter.filter(line(100.0, lineno)) for lineno in (1, 2, 1, 2)] == [True, True, False, False]


def test_log_limiter_survives_clock_that_goes_back() -> None:
    limiter = LogLimiter(burst=1, per_minute=60)
    assert [limiter.filter(line(at)) for at in (100.0, 50.0, 51.5)] == [True, False, True]


def test_limit_limits_the_errors_of_requests(
    settings: Settings, log_messages: Callable[[], list[str]]
) -> None:
    app = create_app(settings)
    app.add_url_rule("/raise", view_func=lambda: str(1 / 0))
    for _ in range(3 * BURST):
        assert app.test_client().get("/raise").status_code == 500
    assert log_messages() == ["unexpected error"] * BURST


def test_limit_starts_anew_with_each_app(settings: Settings) -> None:
    for _ in range(2):
        create_app(settings)
    for name in ANONYMOUS_LOGGERS:
        filters = logging.getLogger(name).filters
        assert [type(each) for each in filters].count(LogLimiter) == 1
        assert len({*filters}) == len(filters)
