"""Playground: one text, any number of tasks and versions, and what to do about a wrong answer."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData
from starlette.responses import Response

from adapters import InvalidName, Ref
from service.console.api import ApiProblem, path
from service.console.cards import fields_of, labels_of
from service.console.page import Page, text_of
from service.console.snippets import as_curl, as_python
from service.console.views.route import ViewRoute

_MAX_FOUND = 12
_MAX_REFS = 8
_TEXT = "text"
"""The field of tasks with one field, whatever each calls it."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A task or version that the person has chosen."""

    ref: str
    task: str
    version: int | None
    fields: tuple[str, ...]
    card: Mapping[str, Any] | None
    """None if the ref names nothing now."""
    problem: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the text areas that it reads."""
        return (_TEXT,) if len(self.fields) == 1 else self.fields


async def show(page: Page) -> Response:
    """Show the page; without a choice in the address, with the first task."""
    refs = page.request.query_params.getlist("task")[:_MAX_REFS]
    found = await _search(page, "")
    if not refs and found["tasks"]:
        refs = [found["tasks"][0]["task"]]
    chosen = await _choose(page, refs)
    return await page.render("playground.html", chosen=chosen, areas=_areas(chosen), texts={}, **found)


async def find(page: Page) -> Response:
    """Return tasks whose names contain what is typed."""
    return await page.render("_playground_found.html", **await _search(page, page.query("q")))


async def choose(page: Page) -> Response:
    """Return the form's text areas for the tasks that are chosen now, with the texts that were typed."""
    form = await page.form()
    refs = _refs(form)
    chosen = await _choose(page, refs)
    areas = _areas(chosen)
    return await page.render("_playground_form.html", chosen=chosen, areas=areas, texts=_texts(form, areas))


async def run(page: Page) -> Response:
    """Classify the text with everything chosen."""
    form = await page.form()
    chosen = await _choose(page, _refs(form))
    usable = [each for each in chosen if each.card is not None]
    texts = _texts(form, _areas(chosen))
    groups: dict[tuple[str, ...], list[Chosen]] = {}
    for each in usable:
        groups.setdefault(each.inputs, []).append(each)
    truncate = text_of(form, "truncate") or "error"
    answers: dict[str, Mapping[str, Any]] = {}
    timings: list[str] = []
    requests: list[dict[str, Any]] = []
    for inputs, members in groups.items():
        item: object = texts[_TEXT] if inputs == (_TEXT,) else {name: texts[name] for name in inputs}
        body = {"tasks": [each.ref for each in members], "inputs": [item], "truncate": truncate, "top_k": 1_000}
        requests.append({**body, "top_k": None})
        try:
            answer = await page.api.call("POST", "/classify", json=body)
        except ApiProblem as exc:
            answers |= {each.ref: {"ref": each.ref, "problem": exc.body} for each in members}
            continue
        timings.append(answer.headers.get("Server-Timing", ""))
        answers |= {result["ref"]: result for result in answer.json()["results"]}
    results = [_result(each, answers.get(each.ref)) for each in chosen]
    return await page.render(
        "_playground_results.html",
        results=results,
        comparison=_compare(results),
        timing=_phases(timings),
        request_id=page.request.scope["state"]["request_id"],
        curl=as_curl(requests, base_url=_base_url(page), has_keys=page.console.access.require_keys),
        python=as_python(requests, base_url=_base_url(page), has_keys=page.console.access.require_keys),
    )


async def correct(page: Page) -> Response:
    """Keep a correction of an answer."""
    form = await page.form()
    card = await _card(page, text_of(form, "task"), text_of(form, "version"))
    given = [str(label) for label in form.getlist("label")]
    label: object = given if card["spec"]["kind"] == "multi_label" else (given or [""])[0]
    body = {
        "request_id": text_of(form, "request_id"),
        "task": text_of(form, "task"),
        "index": 0,
        "label": label,
        "who": page.principal.actor,
    }
    receipt = (await page.api.call("POST", "/feedback", json=body)).json()
    shown = ", ".join(given) or "no label"
    return await page.say(
        f"Kept: the text is {shown}.",
        detail=f"It is a correction of {receipt['task']} now, and is deleted on {receipt['delete_at'][:10]}.",
    )


async def _search(page: Page, query: str) -> dict[str, Any]:
    name, _, at = query.strip().lower().partition("@")
    listed = await page.api.get("/tasks", {"q": name, "limit": _MAX_FOUND})
    return {"tasks": listed["tasks"], "num_tasks": listed["total"], "query": query, "of_versions": bool(at)}


def _refs(form: FormData) -> list[str]:
    return list(dict.fromkeys(str(ref) for ref in form.getlist("ref")))[:_MAX_REFS]


async def _choose(page: Page, refs: Sequence[str]) -> list[Chosen]:
    return list(await asyncio.gather(*(_chosen(page, ref) for ref in refs)))


async def _chosen(page: Page, text: str) -> Chosen:
    try:
        ref = Ref.parse(text)
        info = await page.api.get(path("tasks", ref.task))
        version = _version_of(ref, info)
        [digest] = [each["adapter"] for each in info["versions"] if each["version"] == version]
        card = await page.console.cards.get(page.api, ref.task, version, digest)
    except (ApiProblem, InvalidName, ValueError) as exc:
        problem = str(exc) if isinstance(exc, ApiProblem | InvalidName) else f"no version {text!r}"
        return Chosen(text, text.partition("@")[0], None, (), None, problem)
    return Chosen(text, ref.task, version, fields_of(card), card)


def _version_of(ref: Ref, info: Mapping[str, Any]) -> int:
    """Return the version that a ref names (`ValueError` if there is none); of a bare name, that in production."""
    if ref.version is not None:
        return ref.version
    if ref.digest is not None:
        [version] = [each["version"] for each in info["versions"] if each["adapter"].startswith(ref.digest)]
        return int(version)
    version = info["aliases"].get(ref.alias or "production")
    if version is None:
        raise ValueError(ref)
    return int(version)


def _areas(chosen: Sequence[Chosen]) -> list[str]:
    return list(dict.fromkeys(name for each in chosen for name in each.inputs if each.card is not None))


def _texts(form: FormData, areas: Sequence[str]) -> dict[str, str]:
    return {name: text_of(form, f"field-{name}") for name in areas}


async def _card(page: Page, task: str, version: str) -> Mapping[str, Any]:
    card: Mapping[str, Any] = await page.api.get(path("tasks", task, "versions", version))
    return card


def _result(chosen: Chosen, answer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the page shows of one answer."""
    if answer is None or chosen.card is None:
        return {"ref": chosen.ref, "task": chosen.task, "problem": chosen.problem}
    if "problem" in answer:
        return {"ref": chosen.ref, "task": chosen.task, "problem": answer["problem"]["detail"]}
    prediction = answer["predictions"][0]
    names, calibration = labels_of(chosen.card), chosen.card["calibration"]
    thresholds = calibration["label_thresholds"] or ([0.5] * len(names) if prediction["labels"] is not None else None)
    by_label = dict(zip(names, thresholds, strict=True)) if thresholds else {}
    bars = [
        {"label": label, "score": score, "threshold": by_label.get(label, calibration["abstain_threshold"])}
        for label, score in prediction["scores"].items()
    ]
    return {
        "ref": chosen.ref,
        "task": answer["task"],
        "version": answer["version"],
        "digest": answer["adapter"],
        "is_canary": "@" not in chosen.ref and answer["version"] != chosen.version,
        "prediction": prediction,
        "bars": bars,
        "labels": names,
        "kind": chosen.card["spec"]["kind"],
        "abstain": calibration["abstain_threshold"],
        "problem": "",
    }


def _compare(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each task of which several versions answered, the labels whose scores differ most."""
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        if not result["problem"]:
            by_task.setdefault(result["task"], []).append(result)
    compared = []
    for task, answers in by_task.items():
        if len(answers) < 2:
            continue
        first, second = answers[0], answers[1]
        scores = [answer["prediction"]["scores"] for answer in (first, second)]
        names = sorted({*scores[0], *scores[1]}, key=lambda name: -abs(_difference(scores, name)))
        rows = [(name, scores[0].get(name), scores[1].get(name), _difference(scores, name)) for name in names[:10]]
        same = first["prediction"]["label"] == second["prediction"]["label"]
        compared.append({"task": task, "first": first, "second": second, "rows": rows, "same": same})
    return compared


def _difference(scores: Sequence[Mapping[str, float]], name: str) -> float:
    return scores[1].get(name, 0.0) - scores[0].get(name, 0.0)


def _phases(timings: Sequence[str]) -> list[tuple[str, float]]:
    """Return the longest duration of each phase in milliseconds."""
    longest: dict[str, float] = {}
    for timing in timings:
        for part in filter(None, timing.split(", ")):
            phase, _, duration = part.partition(";dur=")
            longest[phase] = max(longest.get(phase, 0.0), float(duration))
    return list(longest.items())


def _base_url(page: Page) -> str:
    return f"{page.request.url.scheme}://{page.request.url.netloc}"


ROUTES = [
    ViewRoute("GET", "/", show),
    ViewRoute("GET", "/playground/tasks", find),
    ViewRoute("POST", "/playground/form", choose, body="rows"),
    ViewRoute("POST", "/playground/run", run, body="rows"),
    ViewRoute("POST", "/playground/correction", correct),
]
