"""The console's pages, one module each, and the list of their routes."""

from service.console.views import playground
from service.console.views.route import ViewRoute

VIEWS: list[ViewRoute] = [*playground.ROUTES]
