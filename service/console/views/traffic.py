"""Traffic of a task: first a sentence that says what would change, then the change, if nothing changed meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import FormData
from starlette.responses import Response

from adapters import PRODUCTION
from adapters.registry.rollback import previous_target
from service.console.api import ApiProblem, path
from service.console.cards import measured
from service.console.page import Page, number_of, text_of
from service.console.views.route import ViewRoute

_ABSENT = "none"
"""The tag of an alias that does not exist."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A change that waits for its confirmation."""

    sentences: list[str]
    """The change in words; empty if nothing will change."""
    tag: str = ""
    """Entity tag of what the sentences describe."""
    values: Mapping[str, str] = field(default_factory=dict)
    """The form's fields."""


async def plan(page: Page) -> Response:
    """Return the sentence, and the form that confirms it."""
    form, task = await page.form(), page.request.path_params["task"]
    info = await page.api.get(path("tasks", task))
    match text_of(form, "action"):
        case "promote":
            made = await _plan_promotion(page, info, form)
        case "roll_back":
            made = await _plan_rollback(page, info)
        case "traffic":
            made = await _plan_traffic(page, info, form)
        case other:
            raise _invalid(f"action is {other!r}, expected promote, roll_back or traffic")
    return await page.render("_traffic_plan.html", task=task, plan=made)


async def apply(page: Page) -> Response:
    """Do what was confirmed; refuse if the task was changed meanwhile."""
    form, task = await page.form(), page.request.path_params["task"]
    tag, action = text_of(form, "tag"), text_of(form, "action")
    conditions = {"If-None-Match": "*"} if tag == _ABSENT else {"If-Match": tag}
    if action == "promote":
        body = {
            "version": _number(form, "version"),
            "force": "force" in form,
            "corrections": "corrections" in form,
        }
        done = (await page.api.call("POST", path("tasks", task, "promote"), json=body, headers=conditions)).json()
        detail = " ".join(
            text for text in (done["paired"] and f"Accuracy: {done['paired']}.", done["corrections"]) if text
        )
        return await page.say(f"Version {done['version']} is in production.", detail=detail, changed=True)
    if action == "roll_back":
        done = (await page.api.call("POST", path("tasks", task, "rollback"), json={}, headers=conditions)).json()
        return await page.say(f"Version {done['version']} is in production again.", changed=True)
    traffic = _asked_traffic(form)
    await page.api.call("PUT", path("tasks", task, "traffic"), json=traffic, headers=conditions)
    return await page.say("The traffic has changed.", changed=True)


async def _plan_promotion(page: Page, info: Mapping[str, Any], form: FormData) -> Plan:
    task, version, now = info["task"], _number(form, "version"), info["aliases"].get(PRODUCTION)
    _check_version(info, version)
    if version == now:
        return Plan([])
    before = (
        f"instead of version {now}" if now is not None else "; until now it gets 404, since nothing is in production"
    )
    sentences = [f"Version {version} will answer the requests for {task} {before}.".replace(" ;", ";")]
    sentences += await _scores(page, info, now, version)
    if info["traffic"]["canary"] == version:
        sentences.append("It stops being the canary.")
    if info["traffic"]["shadow"] == version:
        sentences.append("It stops being the shadow.")
    if "force" in form:
        sentences.append("Its metric is not compared with that of production.")
    else:
        sentences.append("The server refuses if its metric is missing or worse than that of production.")
    if "corrections" in form:
        sentences.append("The server also refuses if it does not answer more of the corrections right.")
    values = {"action": "promote", "version": str(version)}
    values |= {name: "on" for name in ("force", "corrections") if name in form}
    return Plan(sentences, await _alias_tag(page, task), values)


async def _plan_rollback(page: Page, info: Mapping[str, Any]) -> Plan:
    task, registry = info["task"], page.console.runtime.registry
    move = previous_target(
        registry.catalog.task(page.principal.tenant, task), registry.catalog.history, alias=PRODUCTION, expected=None
    )
    sentences = [
        f"Version {move.version} will answer the requests for {task} again, instead of version {move.previous}."
    ]
    sentences += await _scores(page, info, move.previous, move.version)
    if info["traffic"]["canary"] is not None:
        sentences.append(f"The canary, version {info['traffic']['canary']}, ends.")
    return Plan(sentences, await _alias_tag(page, task), {"action": "roll_back"})


async def _plan_traffic(page: Page, info: Mapping[str, Any], form: FormData) -> Plan:
    task, now, asked = info["task"], info["traffic"], _asked_traffic(form)
    for version in (asked["canary"], asked["shadow"]):
        if version is not None:
            _check_version(info, version)
    if asked == now:
        return Plan([])
    sentences = []
    if (asked["canary"], asked["percent"]) != (now["canary"], now["percent"]):
        sentences.append(_canary_sentence(info, asked, now))
    if asked["shadow"] != now["shadow"]:
        sentences.append(_shadow_sentence(asked["shadow"], now["shadow"]))
    tag = (await page.api.call("GET", path("tasks", task, "traffic"))).headers["Etag"]
    values = {"action": "traffic"} | {name: "" if value is None else f"{value:g}" for name, value in asked.items()}
    return Plan(sentences, tag, values)


def _canary_sentence(info: Mapping[str, Any], asked: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    production = info["aliases"].get(PRODUCTION)
    if asked["canary"] is None:
        return (
            f"The canary, version {now['canary']}, ends: version {production} answers all requests for {info['task']}."
        )
    before = f" (until now: version {now['canary']}, {now['percent']:g} %)" if now["canary"] is not None else ""
    return (
        f"Version {asked['canary']} will answer {asked['percent']:g} % of the requests for {info['task']}, and version "
        f"{production} the other {100 - asked['percent']:g} %{before}."
    )


def _shadow_sentence(asked: int | None, now: int | None) -> str:
    if asked is None:
        return f"The shadow, version {now}, ends."
    before = f", instead of version {now}" if now is not None else ""
    return (
        f"Version {asked} will compute every row as a shadow{before}: its answers are counted, not returned, and each "
        "row costs the model twice."
    )


async def _scores(page: Page, info: Mapping[str, Any], now: int | None, then: int) -> list[str]:
    """Return the score of the version that leaves and of the one that comes, as on their cards."""
    digests = {each["version"]: each["adapter"] for each in info["versions"]}
    found = []
    for version in (then, now):
        if version is None or version not in digests:
            continue
        card = measured(await page.console.cards.get(page.api, info["task"], version, digests[version]))
        score = "no recorded score" if card.score is None else f"{card.metric} {card.score:.3f}"
        found.append(f"version {version} has {score}")
    return [f"By the cards, {' and '.join(found)}."]


async def _alias_tag(page: Page, task: str) -> str:
    try:
        answer = await page.api.call("GET", path("tasks", task, "aliases", PRODUCTION))
    except ApiProblem as exc:
        if exc.status != 404:
            raise
        return _ABSENT
    return str(answer.headers["Etag"])


def _asked_traffic(form: FormData) -> dict[str, Any]:
    canary, shadow = (_number(form, name) if text_of(form, name) else None for name in ("canary", "shadow"))
    percent = text_of(form, "percent")
    try:
        share = float(percent) if percent and canary is not None else 0.0
    except ValueError as exc:
        raise _invalid(f"percent is {percent!r}, expected a number from 0 to 100") from exc
    if not 0 <= share <= 100:
        raise _invalid(f"percent is {percent}, expected a number from 0 to 100")
    return {"canary": canary, "percent": share, "shadow": shadow}


def _number(form: FormData, name: str) -> int:
    text = text_of(form, name)
    number = number_of(text)
    if number is None:
        raise _invalid(f"{name} is {text[:64]!r}, expected the number of a version")
    return number


def _check_version(info: Mapping[str, Any], version: int) -> None:
    if version not in [each["version"] for each in info["versions"]]:
        raise ApiProblem(404, {"code": "not_found", "detail": f"no version {version} of task {info['task']!r}"}, {})


def _invalid(detail: str) -> ApiProblem:
    return ApiProblem(400, {"code": "invalid_request", "detail": detail}, {})


ROUTES = [
    ViewRoute("POST", "/tasks/{task}/plan", plan, role="publish"),
    ViewRoute("POST", "/tasks/{task}/traffic", apply, role="publish"),
]
