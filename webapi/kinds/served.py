"""Refuses jobs of the kinds that this installation does not serve (the setting `kinds`)."""

from flask import Flask, request

from webapi.description.route import Route, route_of
from worker.jobs.errors import KindNotServed
from worker.jobs.settings import Settings

__all__ = ["is_served", "register"]


def is_served(route: Route, settings: Settings) -> bool:
    """Return False if the route submits jobs of a kind that is not served."""
    return route.submits in (None, *settings.kinds)


def register(app: Flask, settings: Settings) -> None:
    """Refuse the requests of the app that submit jobs of other kinds, before their bodies are read."""

    @app.before_request
    def refuse_unserved() -> None:
        if request.endpoint and not is_served(route_of(app, request.endpoint), settings):
            served = ", ".join(settings.kinds)
            raise KindNotServed(f"This installation serves no such jobs, only those of the kind: {served}.")
