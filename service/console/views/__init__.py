"""The console's pages, one module each, and the list of their routes."""

from service.console.views import (
    audit,
    live,
    playground,
    publishing,
    queue,
    score,
    system,
    task,
    tasks,
    tenants,
    traffic,
    training,
)
from service.console.views.route import ViewRoute

VIEWS: list[ViewRoute] = [
    *playground.ROUTES,
    *tasks.ROUTES,
    *publishing.ROUTES,
    *task.ROUTES,
    *traffic.ROUTES,
    *training.ROUTES,
    *queue.ROUTES,
    *score.ROUTES,
    *tenants.ROUTES,
    *audit.ROUTES,
    *system.ROUTES,
    *live.ROUTES,
]
