"""The API, over HTTP as its callers see it, in a world of fakes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from feedbackloop.dataset.filesystem import FolderSnapshots
from feedbackloop.dataset.snapshot import Options, build
from feedbackloop.events import TenantId
from feedbackloop.labels.gather import Gathering
from feedbackloop.training.port import StepStatus
from feedbackloop.training.run import RunState
from services import apikeys
from services.scheduler.jobs import Jobs
from services.scheduler.routes import Parts, make_app
from services.scheduler.traces import Traces
from tests.builders import ALIAS, NOON, TENANT, a_completion, a_retry, voted
from tests.services.scheduler.world import World


def make(
    world: World,
    home: Path,
    *,
    keys_required: bool = False,
    kind: type[FolderSnapshots] = FolderSnapshots,
) -> tuple[Jobs, FastAPI]:
    jobs = world.scheduler()
    snapshots = kind(home / "snapshots")
    parts = Parts(
        jobs=jobs,
        runs=world.runs,
        launcher=world.launcher,
        snapshots=snapshots,
        traces=Traces(jobs.follower.gathering, snapshots, world.runs),
        keys=apikeys.ApiKeys(home / "api-keys.json", required=keys_required),
        configured={},
    )
    return jobs, make_app(parts)


class BrokenSnapshots(FolderSnapshots):
    """Fails in a way that nobody has thought of."""

    def digests(self) -> list[str]:
        raise RuntimeError("surprise")


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://scheduler") as client:
        yield client


async def test_a_failure_of_ours_has_the_shape_of_any_refusal(tmp_path: Path) -> None:
    """Programs read one shape, and learn nothing of how we are made."""
    _, app = make(World(), tmp_path, kind=BrokenSnapshots)

    async with calling(app) as client:
        failed = await client.get("/api/datasets")
        nowhere = await client.get("/api/datasets/")

    assert (failed.status_code, failed.json()["error"]["type"]) == (500, "server_error")
    assert "surprise" not in failed.text
    assert nowhere.status_code == 404


async def test_a_run_that_was_started_by_hand_is_listed_shown_and_cancelled(
    tmp_path: Path,
) -> None:
    """What the command line does, any other program can do."""
    world = World()
    world.launcher.says[RunState.SNAPSHOT] = [StepStatus(state="running", progress=0.5)] * 9
    jobs, app = make(world, tmp_path)
    await jobs.tick()

    async with calling(app) as client:
        started = (await client.post("/api/runs", json={"alias": ALIAS, "why": "a try"})).json()
        await jobs.tick()
        shown = (await client.get(f"/api/runs/{started['run']}")).json()
        cancelled = await client.post(f"/api/runs/{started['run']}/cancel", json={"by": "ann"})
        again = await client.post(f"/api/runs/{started['run']}/cancel")
        listed = (await client.get("/api/runs", params={"alias": ALIAS})).json()

    assert (shown["reason"], shown["progress"]) == ("a try", 0.5)
    assert cancelled.json()["state"] == "cancelled"
    assert again.status_code == 409
    assert [run["run"] for run in listed] == [started["run"]]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 422, "alias"),
        ({"alias": "Not An Alias"}, 422, "alias"),
        ({"alias": "nobody"}, 404, "alias"),
        ({"alias": ALIAS, "recipes": {}}, 422, "recipes"),
        ({"alias": ALIAS, "recipe": {"learning_rat": 1}}, 422, "recipe"),
        ({"alias": ALIAS, "window": "yesterday"}, 422, "window"),
        ({"alias": ALIAS, "window": "same-as:run-9"}, 404, "run"),
        ({"alias": ALIAS, "window": "same-as:run-9", "snapshot": "ab" * 32}, 422, "window"),
        ({"alias": ALIAS, "snapshot": "../" * 4 + "etc"}, 422, "snapshot"),
        ({"alias": ALIAS, "snapshot": "\0"}, 422, "snapshot"),
        ({"alias": ALIAS, "snapshot": "ab" * 32}, 404, None),
    ],
)
async def test_a_refused_start_names_the_field(
    body: dict[str, Any], status: int, param: str | None, tmp_path: Path
) -> None:
    """The message has to be enough to mend the call; nothing is started by it."""
    world = World()
    jobs, app = make(world, tmp_path)
    await jobs.tick()

    async with calling(app) as client:
        answer = await client.post("/api/runs", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert await world.runs.list() == []


async def test_a_body_that_is_not_json_is_refused_in_the_same_shape(tmp_path: Path) -> None:
    """A client reads one kind of error."""
    _, app = make(World(), tmp_path)

    async with calling(app) as client:
        headers = {"content-type": "application/json"}
        answer = await client.post("/api/runs", content=b"{alias", headers=headers)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "the body is not JSON"


async def test_a_run_can_train_on_the_rows_of_an_earlier_one(tmp_path: Path) -> None:
    """Two recipes can only be compared on the same rows."""
    world = World()
    await world.people_vote()
    jobs, app = make(world, tmp_path)
    digest = FolderSnapshots(tmp_path / "snapshots").put(a_snapshot())
    said: dict[str, object] = {"digest": digest, "reason": "40 rows"}
    world.launcher.says[RunState.SNAPSHOT] = [StepStatus(state="done", result=said)]
    for _ in range(3):
        await jobs.tick()
    first = await world.only_run()

    async with calling(app) as client:
        body = {"alias": ALIAS, "window": f"same-as:{first.run}", "recipe": {"method": "dpo"}}
        second = (await client.post("/api/runs", json=body)).json()

    assert second["recipe"] == {"method": "dpo", "snapshot": digest}


async def test_a_rollback_needs_something_to_go_back_to(tmp_path: Path) -> None:
    """A refusal is no crash: it says why, and changes nothing."""
    world = World()
    jobs, app = make(world, tmp_path)
    await jobs.tick()

    async with calling(app) as client:
        refused = await client.post(f"/api/releases/{ALIAS}/rollback")
        unknown = await client.post("/api/releases/nobody/rollback")
        frozen = await client.post(f"/api/releases/{ALIAS}/freeze", json={"why": "holidays"})
        history = (await client.get(f"/api/releases/{ALIAS}")).json()

    assert (refused.status_code, unknown.status_code) == (409, 404)
    assert "no previous release" in refused.json()["error"]["message"]
    assert frozen.json()["frozen"]
    assert [(one["epoch"], one["why"]) for one in history] == [(1, "holidays")]


async def test_whoever_does_not_lead_says_so(tmp_path: Path) -> None:
    """The caller asks another one, instead of believing that it was done."""
    _, app = make(World(), tmp_path)

    async with calling(app) as client:
        start = await client.post("/api/runs", json={"alias": ALIAS})
        move = await client.post(f"/api/releases/{ALIAS}/freeze")
        ready = (await client.get("/readyz")).json()

    assert (start.status_code, move.status_code) == (503, 503)
    assert ready == {"status": "ready", "leader": False}


async def test_the_plan_says_what_a_run_would_train_now_and_why(tmp_path: Path) -> None:
    """People ask before they start."""
    world = World()
    await world.people_vote()
    jobs, app = make(world, tmp_path)
    await jobs.follower.catch_up()

    async with calling(app) as client:
        plan = (await client.get(f"/api/plan/{ALIAS}")).json()

    assert plan["due"]
    assert plan["counts"] == {"desirable": 20, "undesirable": 20, "pairs": 0}
    assert plan["recipe"]["method"] == "kto"


async def test_without_an_admin_key_nothing_is_told_and_nothing_is_done(tmp_path: Path) -> None:
    """Traces hold what people wrote, and a promotion changes what everybody reads."""
    file, tenant = tmp_path / "api-keys.json", TenantId("default")
    admin, _ = apikeys.create(file, tenant=tenant, scopes=["admin"], created_at=NOON)
    other, _ = apikeys.create(file, tenant=tenant, scopes=["feedback"], created_at=NOON)
    _, app = make(World(), tmp_path, keys_required=True)
    asked = {"none": {}, "other": {"Authorization": f"Bearer {other}"}}

    async with calling(app) as client:
        answers = {who: await client.get("/api/runs", headers=h) for who, h in asked.items()}
        allowed = await client.get("/api/runs", headers={"Authorization": f"Bearer {admin}"})
        health = await client.get("/healthz")

    assert {who: answer.status_code for who, answer in answers.items()} == {
        "none": 401,
        "other": 403,
    }
    assert (allowed.status_code, health.status_code) == (200, 200)


async def test_a_completion_is_followed_to_its_label_and_to_the_rows_made_of_it(
    tmp_path: Path,
) -> None:
    """Which adapters did this vote reach? Somebody will ask."""
    world = World()
    await world.say(voted(40))
    await world.say([a_completion("c0", prompt="w0 w0", text="w1 w3"), a_retry("c9", "c0")])
    jobs, app = make(world, tmp_path)
    digest = FolderSnapshots(tmp_path / "snapshots").put(a_snapshot())
    await jobs.follower.catch_up()

    async with calling(app) as client:
        trace = (await client.get("/api/traces/c2")).json()
        unknown = await client.get("/api/traces/nothing")
        datasets = (await client.get("/api/datasets")).json()

    assert trace["label"]["desirable"]
    assert trace["snapshots"] == [digest]
    assert unknown.status_code == 404
    assert [one["digest"] for one in datasets] == [digest]


async def test_every_status_of_the_api_is_documented(tmp_path: Path) -> None:
    """Programs are written against the document, not against surprises."""
    _, app = make(World(), tmp_path)

    operations = [
        (path, operation["responses"])
        for path, methods in app.openapi()["paths"].items()
        for operation in methods.values()
        if path.startswith("/api")
    ]

    assert len(operations) >= 10
    for path, responses in operations:
        assert {"401", "404", "409", "422", "503"} <= set(responses), path


def a_snapshot() -> Any:
    gathering = Gathering()
    for event in voted(40):
        gathering.add(event)
    options = Options(
        alias=ALIAS,
        until=NOON + timedelta(hours=1),
        window_seconds=86_400,
        watermark_seconds=600,
        min_confidence=0.5,
        max_rows_per_user=20,
        max_ratio=2.0,
        holdout_share=0.1,
    )
    return build(gathering, options, holdouts={TENANT: b"secret"})
