"""The Celery queue of webhooks, and how many tries may be in flight. Importing them needs no Celery."""

__all__ = ["AT_ONCE", "HOST_AT_ONCE", "LOST_S", "OWNER_AT_ONCE", "QUEUE", "TASK"]

#: The Celery queue and task of webhooks. Messages name the task, so recovery imports no code of the API.
QUEUE, TASK = "webhooks", "stoker.webhook"

#: Tries in flight at the same time: in all, for one owner, and to one host. A receiver that does not answer
#: holds a try for the sender's whole time limit, so no owner and no host may hold all of them.
AT_ONCE, OWNER_AT_ONCE, HOST_AT_ONCE = 64, 16, 8
#: Longer than one try can take, in seconds. If a try has had no outcome after this time, its message or its
#: sender is lost. It then counts as in flight no more, and another message is sent.
LOST_S = 60.0
