from worker.jobs.dispatch.redis_uptime import RedisUptime


def test_redis_uptime_counts_from_last_break() -> None:
    uptime = RedisUptime(longest_break_s=2)
    assert uptime.seconds == 0
    for now in (100, 101, 103):
        uptime.note_reply(now)
    assert uptime.seconds == 3
    uptime.note_reply(106)  # Redis or this process was suspended
    assert uptime.seconds == 0
    uptime.note_reply(107)
    uptime.note_failure()
    assert uptime.seconds == 0
    uptime.note_reply(108)
    assert uptime.seconds == 0
