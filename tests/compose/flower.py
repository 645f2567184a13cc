"""A check that Flower shows what the API shows: the workers by their names, and the true states of jobs."""

from typing import Any

import httpx

from tests.compose.project import Project
from tests.support.stack import eventually
from webapi.client import Client

__all__ = ["check_flower", "flower_login"]

#: A chat that is canceled while it runs, and one that ends by itself.
CHAT = {"messages": [{"role": "user", "content": "Tell me a long story."}], "ignore_eos": True}
LONG, SHORT = CHAT | {"max_tokens": 1000}, CHAT | {"max_tokens": 4}


def flower_login(project: Project) -> tuple[str, str]:
    """Return the user and the password of Flower."""
    return "stoker", project.exec("flower", "cat", "secrets/flower_password").strip()


def check_flower(project: Project, client: Client) -> str:
    """Run a chat, cancel another one, and compare Flower with the API. Raises `AssertionError`."""
    with httpx.Client(base_url=project.flower_url, auth=flower_login(project), timeout=30) as flower:

        def workers() -> list[tuple[str, bool]]:
            shown = flower.get("/workers", params={"json": 1}).json()["data"]
            return sorted((worker["hostname"], worker["status"]) for worker in shown)

        def states() -> dict[str, str]:
            tasks: dict[str, Any] = flower.get("/api/tasks").json()
            return {job_id: task["state"] for job_id, task in tasks.items()}

        names = sorted((card["name"], True) for card in client.workers())
        eventually(lambda: workers() == names, f"Flower shows {names}")
        canceled, ended = client.submit_chat(LONG)["id"], client.submit_chat(SHORT)["id"]
        eventually(lambda: client.job(canceled)["state"] == "running", "a running chat")
        client.cancel(canceled)
        wanted = {canceled: "REVOKED", ended: "SUCCESS"}
        eventually(lambda: wanted.items() <= states().items(), f"Flower shows {wanted}")
    return f"Flower shows {len(names)} workers by the names of the API, a chat, and a canceled one as such"
