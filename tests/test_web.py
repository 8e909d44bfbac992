"""The page in which an agent plays: its envs held to Gymnasium's in Node, all else in a browser."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils import seeding

import rlkit
from rlkit.api import policy_models, webpage
from rlkit.envs.number_triangle import NumberTriangleEnv, Triangle
from rlkit.errors import UserError
from rlkit.experiments.benchmarks.web import FLAGS, wait
from rlkit.learning.agent import Learner
from rlkit.web.server import ASSETS, Server, _Handler

if TYPE_CHECKING:
    from conftest import Said
    from playwright.sync_api import BrowserContext, Page

    from rlkit.api.agent_run import Run

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = "/usr/bin/chromium"
QUICK: dict[str, Any] = {"preset": "none", "eval_interval": 0, "eval_episodes": 1}
SLIP = 0.25
ROWS = 5
FIRST_LOAD = 3_000_000  # bytes

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node, which runs the page's envs, is missing")


# The envs in JavaScript


def node(code: str, given: object) -> Any:
    """What code makes of `given`, both by way of JSON, which keeps every float64."""
    script = f"""
import {{ CartPole }} from "{(ASSETS / "cartpole.mjs").as_uri()}";
import {{ NumberTriangle }} from "{(ASSETS / "triangle.mjs").as_uri()}";
import {{ readFileSync }} from "node:fs";
const given = JSON.parse(readFileSync(0, "utf8"));
/** An env played by actions, with random numbers as they are given. */
function play(make, draws, actions) {{
  const env = make(() => draws.shift());
  draws = [...draws];
  const first = [...env.reset()];
  const steps = actions.map((action) => {{
    const {{ observation, reward, terminated, truncated }} = env.step(action);
    return {{ state: env.state, observation: [...observation], reward, terminated, truncated }};
  }});
  return {{ first, steps }};
}}
console.log(JSON.stringify((() => {{ {code} }})()));
"""
    result = subprocess.run(
        ["node", "--input-type=module", "-e", script],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@needs_node
@pytest.mark.parametrize("sparse", [False, True])
def test_a_step_of_cartpole_is_gymnasiums_from_any_state(sparse: bool) -> None:
    rng = np.random.default_rng(1)
    states = rng.uniform(-1, 1, (1000, 4)) * [2.5, 3, 0.23, 4]  # some beyond the limits, 2.4 m and 0.2095 rad
    actions = rng.integers(2, size=1000).tolist()
    env: Any = gymnasium.make("CartPole-v1", sutton_barto_reward=sparse).unwrapped
    code = """
return given.states.map((state, k) => {
  const env = new CartPole({ sutton_barto_reward: given.sparse });
  env.state = state;
  const { observation, reward, terminated, truncated } = env.step(given.actions[k]);
  return { state: env.state, observation: [...observation], reward, terminated, truncated };
});"""
    given = {"states": states.tolist(), "actions": actions, "sparse": sparse}
    ended = 0
    for state, action, step in zip(states, actions, node(code, given), strict=True):
        env.reset()
        env.state = state
        observation, reward, terminated, truncated, _ = env.step(action)
        # sin and cos of two libraries may differ by the last bit.
        np.testing.assert_allclose(step["state"], env.state, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(np.float32(step["observation"]), observation, rtol=1e-7, atol=0)
        assert (step["reward"], step["terminated"], step["truncated"]) == (reward, terminated, truncated)
        ended += terminated
    assert 100 < ended < 500


@needs_node
def test_episodes_of_cartpole_are_gymnasiums_to_their_end() -> None:
    rng = np.random.default_rng(2)
    episodes: list[dict[str, Any]] = []
    for seed in range(40):
        limit = 12 if seed % 4 == 0 else 500
        env = gymnasium.make("CartPole-v1", max_episode_steps=limit)
        first, _ = env.reset(seed=seed)
        draws = seeding.np_random(seed)[0].random(4).tolist()
        episode: dict[str, Any] = {"draws": draws, "limit": limit, "actions": [], "steps": [], "first": first}
        ended = False
        while not ended:
            action = int(rng.integers(2))
            observation, reward, terminated, truncated, _ = env.step(np.int64(action))
            inner: Any = env.unwrapped
            episode["actions"].append(action)
            episode["steps"].append((inner.state, observation, reward, terminated, truncated))
            ended = terminated or truncated
        episodes.append(episode)
    code = """
return given.map(({ draws, limit, actions }) =>
  play((random) => new CartPole({}, limit, random), [...draws, ...draws], actions));"""
    given = [{key: episode[key] for key in ("draws", "limit", "actions")} for episode in episodes]
    for episode, played in zip(episodes, node(code, given), strict=True):
        np.testing.assert_array_equal(np.float32(played["first"]), episode["first"])
        assert len(played["steps"]) == len(episode["steps"])
        for (state, observation, reward, terminated, truncated), step in zip(
            episode["steps"], played["steps"], strict=True
        ):
            np.testing.assert_allclose(step["state"], state, rtol=1e-9, atol=1e-11)  # the pole's fall amplifies bits
            np.testing.assert_allclose(step["observation"], observation, rtol=1e-6, atol=1e-9)
            assert (step["reward"], step["terminated"], step["truncated"]) == (reward, terminated, truncated)
    assert {(e["steps"][-1][3], e["steps"][-1][4]) for e in episodes} >= {(True, False), (False, True)}


@needs_node
@pytest.mark.parametrize("slip", [0.0, 0.3, 1.0])
def test_episodes_of_the_triangle_are_the_envs_with_its_own_draws(slip: float) -> None:
    triangle = Triangle(np.tril(np.random.default_rng(3).normal(0, 50, (7, 7))))
    env = NumberTriangleEnv(triangle, slip=slip)
    rng = np.random.default_rng(4)
    rows = [triangle.row(i).tolist() for i in range(triangle.rows)]
    given, expected = [], []
    for seed in range(30):
        actions = rng.integers(2, size=triangle.rows - 1).tolist()
        draws = seeding.np_random(seed)[0].random(len(actions)).tolist()
        first, _ = env.reset(seed=seed)
        given.append({"rows": rows, "slip": slip, "draws": draws, "actions": actions})
        expected.append((first, [env.step(action) for action in actions]))
    code = """
return given.map(({ rows, slip, draws, actions }) =>
  play((random) => new NumberTriangle({ rows, slip }, null, random), draws, actions));"""
    slipped = set()
    for (first, steps), played, one in zip(expected, node(code, given), given, strict=True):
        assert played["first"] == [first]
        for (observation, reward, terminated, truncated, _), step, action in zip(
            steps, played["steps"], one["actions"], strict=True
        ):
            assert (step["observation"], step["reward"]) == ([observation], reward), "exact: additions alone"
            assert (step["terminated"], step["truncated"]) == (terminated, truncated)
            slipped.add(step["observation"] == [observation] and action)
        assert terminated
    assert slipped == {0, 1}


@needs_node
def test_the_envs_refuse_what_gymnasium_refuses() -> None:
    code = """
const said = (act) => { try { act(); return "nothing"; } catch (error) { return error.message; } };
const pole = new CartPole();
const triangle = new NumberTriangle({ rows: [[1], [2, 3]], slip: 0 });
const wrong = [said(() => pole.step(2)), said(() => triangle.step(-1))];
triangle.step(1);
return [...wrong, said(() => triangle.step(0))];"""
    assert node(code, None) == [
        "action 2, expected 0 (left) or 1 (right)",
        "action -1, expected 0 (down) or 1 (right)",
        "the episode has ended: call reset()",
    ]


# The page


@dataclass
class Site:
    """A run's page on a server."""

    run: Run
    folder: Path
    address: str


@dataclass
class Visit:
    """A page in a browser, and what went on there."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    responses: list[Any] = field(default_factory=list)

    def session(self, expression: str) -> Any:
        """A value of the page's session."""
        return self.page.evaluate(f"rlkit.session.{expression}")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def scores(self, player: str) -> list[str]:
        """Episodes, last, mean and best return."""
        return self.page.locator(f"#score-{player} td").all_inner_texts()


@contextlib.contextmanager
def serving(server: Server) -> Iterator[None]:
    """Have a server answer in the background."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        "cartpole": rlkit.train(
            "dqn",
            "CartPole-v1",
            run_dir=folder,
            loop="host",
            steps=600,
            learning_starts=100,
            hidden=(32,),
            seed=1,
            **QUICK,
        ),
        "triangle": rlkit.train(
            "q-learning",
            "rlkit/NumberTriangle-v0",
            run_dir=folder,
            steps=2000,
            env_args={"rows": ROWS, "slip": SLIP},
            gamma=0.9,
            **QUICK,
        ),
    }


@pytest.fixture(scope="module")
def sites(runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """Both pages, each on a server of its own."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name, run in runs.items():
            folder = webpage.build(run, tmp_path_factory.mktemp("page") / name)
            server = stack.enter_context(Server(folder, port=0))
            stack.enter_context(serving(server))
            found[name] = Site(run, folder, server.address)
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is missing")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM}, the browser, is missing")
    with playwright.sync_playwright() as started:
        context = started.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=CHROMIUM, args=FLAGS, has_touch=True
        )
        yield context
        context.close()


Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: BrowserContext) -> Iterator[Open]:
    """Opens an address; at the end there was no error, and no request to anywhere else."""
    visits = []

    def open_(address: str, *, width: int = 1200, reduced_motion: Any = "no-preference") -> Visit:
        page = browser.new_page()
        found = Visit(page)
        visits.append(found)
        page.on("console", lambda said: found.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: found.errors.append(str(error)))
        page.on("request", lambda request: found.requests.append(request.url))
        page.on("response", lambda response: found.responses.append(response))  # noqa: PLW0108 - it takes no built-in
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(reduced_motion=reduced_motion)
        page.goto(address)
        wait(page, "globalThis.rlkit?.last")
        return found

    yield open_
    for found in visits:
        found.page.close()
        assert found.errors == []
        assert {
            url for url in found.requests if not url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:"))
        } == set()


PLAY = """async ({steps, push}) => {
  const { session, policy } = rlkit;
  const seen = [];
  await session.begin();
  while (seen.length < steps) {
    if (session.ended) await session.begin();
    if (push && seen.length % 7 === 3) await session.push(2 * Math.random() - 1);
    const [observation, values] = [[...session.observation], [...session.values]];
    await session.step();
    seen.push({ observation, values, action: session.action });
  }
  return seen;
}"""


@pytest.mark.parametrize("name", ["cartpole", "triangle"])
def test_the_page_acts_as_the_live_policy(sites: dict[str, Site], visit: Open, name: str) -> None:
    site = sites[name]
    page = visit(site.address).page
    page.click("#run")
    seen = page.evaluate(PLAY, {"steps": 500, "push": name == "cartpole"})
    if name == "cartpole":
        observations = np.array([step["observation"] for step in seen], np.float32)
    else:
        observations = np.array([step["observation"][0] for step in seen], np.int64)
    policy, _ = site.run.policy(500)
    actions = policy(observations)
    np.testing.assert_array_equal([step["action"] for step in seen], actions)
    assert set(actions) == {0, 1}
    agent: Any = site.run.agent()[0]
    values = agent.q(observations) if name == "cartpole" else agent.q.numpy().mean(axis=0)[observations]
    np.testing.assert_allclose([step["values"] for step in seen], values, rtol=1e-5, atol=1e-5)


def test_the_first_load_is_small(sites: dict[str, Site], visit: Open) -> None:
    found = visit(sites["cartpole"].address)
    loaded = [response for response in found.responses if response.url.startswith("http")]
    assert not any("content-encoding" in response.headers for response in loaded)
    sizes = {response.url: len(response.body()) for response in loaded}
    assert any(url.endswith(".wasm.gz") for url in sizes)
    assert 1_000_000 < sum(sizes.values()) < FIRST_LOAD
    assert len(sizes) == len(loaded), "nothing is loaded twice"


def test_pause_step_and_restart_by_keyboard(sites: dict[str, Site], visit: Open) -> None:
    found = visit(sites["cartpole"].address)
    page = found.page
    wait(page, "rlkit.session.steps > 2")
    page.keyboard.press("Space")
    assert (found.text("#run"), found.text("#status")) == ("Play", "Paused.")
    page.evaluate("rlkit.busy")
    page.locator("#restart").focus()
    page.keyboard.press("Enter")
    wait(page, "rlkit.session.steps === 0")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.id") == "step"
    for count in (1, 2):
        page.keyboard.press("Enter")
        wait(page, f"rlkit.session.steps === {count}")
    page.wait_for_timeout(200)
    assert found.session("steps") == 2, "it stays paused"
    wait(page, "document.getElementById('count').innerText === 'Step 2, return 2'")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    wait(page, "rlkit.session.steps > 4")
    assert found.text("#run") == "Pause"


def test_every_control_is_reached_by_the_tabulator_and_shows_it(sites: dict[str, Site], visit: Open) -> None:
    page = visit(sites["triangle"].address).page
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.localName"))
        if reached[-1] == "body":
            break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", reached[-1]
    assert reached == ["run", "step", "restart", "speed", "input", "show", "summary", "body"]
    named = page.locator("button:visible, input:visible, select:visible")
    for i in range(named.count()):
        assert named.nth(i).evaluate("e => e.innerText || e.labels?.[0]?.innerText"), "each has a name"
    assert str(page.get_by_role("img").get_attribute("aria-label")).startswith("At row ")


def test_speed(sites: dict[str, Site], visit: Open) -> None:
    found = visit(sites["cartpole"].address)
    # At 50 steps a second: how many there are in a tenth of one, and a little more for the rounding of tenths.
    code = """async () => {
      await rlkit.busy;
      const { session } = rlkit;
      let count = 0;
      session.step = async () => { count += 1; };
      session.ended = null;
      rlkit.backlog = 0.01;
      await rlkit.advance(0.1);
      delete session.step;
      return count;
    }"""
    found.page.click("#run")
    for value, factor, steps in [(0, 0.1, 0), (2, 0.5, 2), (3, 1, 5), (6, 8, 40)]:
        found.page.locator("#speed").fill(str(value))
        assert found.page.get_attribute("#speed", "aria-valuetext") == f"{factor} times"
        assert found.page.evaluate(code) == steps


def test_the_pole_is_pushed_by_key_mouse_and_touch(sites: dict[str, Site], visit: Open) -> None:
    found = visit(sites["cartpole"].address)
    page = found.page
    page.keyboard.press("Space")
    page.evaluate("rlkit.busy")
    page.click("#restart")
    wait(page, "rlkit.session.steps === 0")
    page.evaluate("document.activeElement.blur()")
    box = page.locator("#stage svg").bounding_box()
    assert box is not None
    left, right, middle = box["x"] + 20, box["x"] + box["width"] - 20, box["y"] + box["height"] / 2
    speed, values = found.session("env.state[3]"), found.session("values")
    pushes: list[tuple[Callable[[], object], float]] = [
        (lambda: page.keyboard.press("ArrowRight"), 0.5),
        (lambda: page.keyboard.press("ArrowLeft"), -0.5),
        (lambda: page.mouse.click(left, middle), 0.5),
        (lambda: page.touchscreen.tap(right, middle), -0.5),
        (lambda: page.click("#right"), 0.5),
    ]
    for push, change in pushes:
        push()
        page.evaluate("rlkit.busy")
        speed += change
        assert found.session("env.state[3]") == pytest.approx(speed, abs=1e-12)
    assert found.session("values") != values
    assert found.session("pushed") is True
    page.click("#run")
    wait(page, "rlkit.session.ended")
    assert "pushed, so it is no score" in found.text("#status")
    assert found.scores("agent")[0] == "0"


def test_a_person_plays_cartpole_by_keyboard_and_scores_are_compared(sites: dict[str, Site], visit: Open) -> None:
    found = visit(sites["cartpole"].address)
    page = found.page
    wait(page, "rlkit.session.scores.agent.episodes > 0")
    _, last, mean, best = found.scores("agent")
    assert float(best) >= float(mean) > 5
    assert float(last) > 5
    page.locator("input[value=agent]").focus()
    page.keyboard.press("ArrowRight")
    wait(page, "rlkit.session.player === 'person' && rlkit.session.steps === 0")
    assert found.text("#status") == "Press ← or → to begin."
    assert found.text("#left") == "← left"
    page.wait_for_timeout(100)
    assert found.session("steps") == 0, "it waits"
    page.locator("#left").focus()
    page.keyboard.press("Enter")
    wait(page, "rlkit.session.ended")
    assert found.session("action") == 0
    assert found.session("env.state[1]") < -1, "always to the left"
    wait(page, "document.querySelector('#score-person td').innerText === '1'")
    _, last, mean, best = found.scores("person")
    assert last == mean == best
    assert 8 <= float(last) <= 12, "a pole falls in ten steps or so if the cart is pushed one way"
    assert re.match(rf"You ended after {last} steps with return {last}\.", found.text("#status"))
    wait(page, "rlkit.session.waiting")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    wait(page, "rlkit.session.action === 1")


def test_a_person_plays_the_triangle(sites: dict[str, Site], visit: Open) -> None:
    found = visit(sites["triangle"].address)
    page = found.page
    page.locator("input[value=person]").check()
    page.evaluate("document.activeElement.blur()")
    wait(page, "rlkit.session.steps === 0")
    page.evaluate("rlkit.env.slip = 0")
    box = page.locator("#stage svg").bounding_box()
    assert box is not None
    acts: list[Callable[[], object]] = [
        lambda: page.keyboard.press("ArrowRight"),
        lambda: page.keyboard.press("ArrowLeft"),
        lambda: page.touchscreen.tap(box["x"] + box["width"] - 5, box["y"] + box["height"] / 2),
        lambda: page.click("#left"),
    ]
    for act in acts:
        act()
        page.evaluate("rlkit.busy")
    path = [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)]
    assert found.session("env.path") == [list(at) for at in path]
    total = sum(Triangle.random(ROWS, 0)[at] for at in path)
    assert found.scores("person") == ["1", *3 * [f"{total:g}"]]
    assert page.locator(".cell.passed").count() == 4
    assert page.locator(".cell.here text").text_content() == f"{Triangle.random(ROWS, 0)[4, 2]:g}"


def exact(triangle: Triangle, slip: float, gamma: float) -> np.ndarray:
    """Action values of each cell, top first, [S, 2], straight from the recurrence; 0 in the bottom row."""
    below = [0.0] * triangle.rows
    layers = [[[0.0, 0.0]] * triangle.rows]
    for i in reversed(range(triangle.rows - 1)):
        own = triangle[0, 0] if i == 0 else 0.0
        worth = [triangle[i + 1, j] + own + gamma * below[j] for j in range(i + 2)]
        layers.insert(0, [[(1 - slip) * worth[j + a] + slip * worth[j + 1 - a] for a in (0, 1)] for j in range(i + 1)])
        below = [max(q) for q in layers[0]]
    return np.array([q for layer in layers for q in layer])


def test_a_triangles_exact_values_stand_beside_the_learned_ones(sites: dict[str, Site], visit: Open) -> None:
    site = sites["triangle"]
    found = visit(site.address)
    page = found.page
    triangle = Triangle.random(ROWS, 0)
    inner = triangle.cells - triangle.rows
    best = exact(triangle, SLIP, 0.9)
    agent: Any = site.run.agent()[0]
    learned = agent.q.numpy().mean(axis=0)
    page.click("summary")
    rows = [[cell.inner_text() for cell in row.locator("td").all()] for row in page.locator("#all tbody tr").all()]
    shown = np.array(rows, np.float64)
    expected = np.column_stack([triangle.top_first()[:inner], learned[:inner], best[:inner]])[:, [0, 1, 3, 2, 4]]
    np.testing.assert_allclose(shown, expected, rtol=6e-3)  # in three digits
    for kind, q in (("exact", best), ("learned", np.where(np.arange(triangle.cells)[:, None] < inner, learned, 0.0))):
        page.select_option("#show", kind)
        texts = np.array(page.locator(".cell text").all_text_contents(), np.float64)
        numbers = np.append(0.0, triangle.top_first()[1:])  # the first step's reward has the top's
        np.testing.assert_allclose(texts, numbers + q.max(axis=1), rtol=6e-3)
    value = max(exact(triangle, SLIP, 1.0)[0])
    assert f"mean return is {value:.2f}".rstrip("0") in found.text("#bound")
    page.click("#run")
    page.click("#restart")
    wait(page, "rlkit.session.steps === 0")
    page.wait_for_timeout(100)
    assert page.locator(".action .number").all_inner_texts() == [
        f"{learned[0, a]:.2f}\n{best[0, a]:.2f}" for a in (0, 1)
    ]


@pytest.mark.parametrize("name", ["cartpole", "triangle"])
def test_a_phone_is_wide_enough(sites: dict[str, Site], visit: Open, name: str) -> None:
    page = visit(sites[name].address, width=390).page
    if name == "triangle":
        page.click("summary")
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for button in page.locator("button:visible").all():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 44, "a finger's"
            assert box["x"] + box["width"] <= width


def test_less_motion_begins_paused(sites: dict[str, Site], visit: Open) -> None:
    found = visit(sites["cartpole"].address, reduced_motion="reduce")
    assert found.text("#status") == "Paused, as your system asks for less motion."
    found.page.wait_for_timeout(150)
    assert found.session("steps") == 0
    found.page.click("#run")
    wait(found.page, "rlkit.session.steps > 0")


def test_a_page_that_lacks_its_model_says_so(sites: dict[str, Site], browser: BrowserContext, tmp_path: Path) -> None:
    folder = shutil.copytree(sites["cartpole"].folder, tmp_path / "page")
    (folder / "model.tflite").unlink()
    with Server(folder, port=0) as server, serving(server):
        page = browser.new_page()
        page.goto(server.address)
        wait(page, "document.getElementById('status').innerText.includes('not work')")
        assert "model.tflite cannot be loaded: 404" in page.inner_text("#status")
        page.close()


# The folder and its server


def test_facts(sites: dict[str, Site]) -> None:
    site = sites["cartpole"]
    facts = json.loads((site.folder / webpage.FACTS).read_text(encoding="utf-8"))
    assert (facts["env"], facts["limit"], facts["step"]) == ("CartPole-v1", 500, 600)
    result = site.run.evaluate(3)
    assert webpage.agent_facts(site.run, 600)["evaluation"] == {"mean": result.mean, "episodes": 3}
    site.run.evaluate(3, epsilon=0.5)
    assert webpage.agent_facts(site.run, 600)["evaluation"] is None, "the page plays without chance"
    assert facts["run"] == site.run.path.name


def test_a_failure_leaves_the_earlier_page(
    sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "page"
    shutil.copytree(sites["triangle"].folder, out)

    def broken(agent: Learner, path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(policy_models, "write_tflite", broken)
        with pytest.raises(UserError, match=r"page cannot be written: No space left on device"):
            webpage.build(sites["cartpole"].run, out)
    assert json.loads((out / webpage.FACTS).read_text())["agent"] == "q-learning"
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
    webpage.build(sites["cartpole"].run, out)
    assert json.loads((out / webpage.FACTS).read_text())["agent"] == "dqn"
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_folders_that_are_refused(sites: dict[str, Site], tmp_path: Path) -> None:
    run = sites["triangle"].run
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for out, message in [
        (tmp_path / "file", r"is there already and has no page\.json"),
        (tmp_path / "mine", r"is there already and has no page\.json"),
        (tmp_path / "file" / "page", "page cannot be written: (Not a directory|File exists)"),
        (Path("/proc/page"), "/proc/page cannot be written: "),
    ]:
        with pytest.raises(UserError, match=message):
            webpage.build(run, out)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "letter.txt", "mine"]


def altered(run: Run, folder: Path, **values: str) -> Path:
    """A run with other words in its config and run.json."""
    shutil.copytree(run.path, folder)
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(info | {k: v for k, v in values.items() if k in info}))
    for file in (folder / "checkpoints").rglob("digests-*.json"):  # which have a copy of the config
        file.unlink()
    config = folder / "config.toml"
    for key, value in values.items():
        config.write_text(re.sub(rf'^{key} = ".*"$', f'{key} = "{value}"', config.read_text(), flags=re.MULTILINE))
    return folder


def test_runs_that_are_refused(runs: dict[str, Run], tmp_path: Path, rl: Callable[..., Said]) -> None:
    other = altered(runs["cartpole"], tmp_path / "other", env="Acrobot-v1")
    recurrent = altered(runs["cartpole"], tmp_path / "recurrent", network="lstm")
    for run, message in [
        (other, "is on Acrobot-v1, which is not there in JavaScript: the page plays CartPole-v1 and "),
        (recurrent, "has an agent with a memory, --network lstm: the page plays agents without one"),
        (tmp_path / "none", "does not exist"),
    ]:
        said = rl("web", run)
        assert (said.code, said.out) == (2, "")
        assert message in said.err
        assert said.err.count("\n") == 1
    said = rl("web", runs["cartpole"].path, "--checkpoint", "7", "--port", "0")
    assert said.code == 2
    assert "there is no checkpoint '7'" in said.err


def test_a_triangle_that_is_too_large_is_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    large = dataclasses.replace(runs["triangle"], config=runs["triangle"].config.replace(env_args={"rows": 51}))
    with pytest.raises(UserError, match="has 51 rows: the page has room for 50"):
        webpage.build(large, tmp_path / "page")
    assert not list(tmp_path.iterdir())


def test_a_port_in_use_is_told(runs: dict[str, Run], rl: Callable[..., Said]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = rl("web", runs["triangle"].path, "--port", port)
    assert (said.code, said.out) == (2, "")
    assert f"host 127.0.0.1, port {port} cannot be listened on (Address already in use): choose another" in said.err
    for options, message in [
        (("--port", 65536), "port 65536"),
        (("--port", -1), "--port"),
        (("--host", "no.such.host.invalid"), "host no.such.host.invalid"),
    ]:
        said = rl("web", runs["triangle"].path, *options)
        assert said.code == 2
        assert message in said.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server(tmp_path: Path, number: signal.Signals) -> None:
    code = """
import sys
from pathlib import Path
from rlkit.web.server import Server
with Server(Path(sys.argv[1]), port=0) as server:
    print(server.address, flush=True)
    server.serve()
print("closed")
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with urllib.request.urlopen(address) as response:  # so it is serving
            assert response.status == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "closed\n", "")


def test_the_command_serves_the_page_and_leaves_nothing(
    runs: dict[str, Run], rl: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {}

    def serve(server: Server, started: Callable[[], None]) -> None:
        started()
        with serving(server):
            for name in ("", "page.mjs", "vendor/litert/index.js", "style.css", "page.json"):
                with urllib.request.urlopen(server.address + name) as response:
                    kinds[name] = response.headers["Content-Type"]

    monkeypatch.setattr(Server, "serve", serve)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said = rl("web", runs["triangle"].path, "--port", "0")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/  Ctrl-C stops\n", said.out)
    assert (said.code, said.err) == (0, "")
    assert kinds == {
        "": "text/html",
        "page.mjs": "text/javascript",
        "vendor/litert/index.js": "text/javascript",
        "style.css": "text/css",
        "page.json": "application/json",
    }
    assert list(tmp_path.glob("rlkit-web-*")) == []


def test_wasm_has_its_type(tmp_path: Path) -> None:
    (tmp_path / "a.wasm").write_bytes(b"\0asm")
    server = Server(tmp_path, port=0)
    with server, serving(server), urllib.request.urlopen(f"{server.address}a.wasm") as response:
        assert response.headers["Content-Type"] == "application/wasm"


def asked(server: Server, data: bytes, *, end: bool = True) -> bytes:
    """The answer of the server to some bytes until it closes."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as client:
        client.sendall(data)
        if end:
            client.shutdown(socket.SHUT_WR)
        found = b""
        while more := client.recv(65536):
            found += more
    return found


def test_only_the_pages_files_are_served(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No folder is listed, and no path is an exception: %00 was a traceback and no answer."""
    page = shutil.copytree(ASSETS, tmp_path / "page")
    (tmp_path / "secret.txt").write_text("secret")
    with Server(page, port=0) as server, serving(server):
        for path, status in {
            b"/": 200, b"/index.html": 200, b"/?a": 200, b"/style.css#x": 200, b"//style.css": 200, b"/./page.mjs": 200,
            b"/vendor/": 404, b"/vendor": 404, b"/vendor/litert/": 404, b"//evil.example/..": 404, b"//[/": 404,
            b"/style.css/": 404,
            b"/%00": 404, b"/style.css%00": 404, b"/%00/../style.css": 200, b"/../secret.txt": 404,
            b"/%2e%2e/secret.txt": 404,
            b"/..%2fsecret.txt": 404, b"/%ff": 404, b"/" + b"a" * 5000: 404, b"/" + b"a" * 70_000: 414, b"*": 404,
            b"/\xc3\xa9": 404,
        }.items():  # fmt: skip
            found = asked(server, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert found.startswith(b"HTTP/1.1 %d " % status), (path, found[:60])
            assert b"secret" not in found
            assert b"Directory listing" not in found
    assert "Traceback" not in capfd.readouterr().err


def test_what_the_page_may_do_is_said_in_headers(tmp_path: Path) -> None:
    page = shutil.copytree(ASSETS, tmp_path / "page")
    with Server(page, port=0) as server, serving(server):
        for path in (b"/", b"/page.mjs", b"/missing"):
            found = asked(server, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").partition(
                b"\r\n\r\n"
            )[0]
            assert b"\r\nX-Content-Type-Options: nosniff" in found
            assert b"\r\nX-Frame-Options: DENY" in found
            assert b"frame-ancestors 'none'" in found
            assert b"default-src 'none'" in found
            assert b"'unsafe-inline'" not in found
            assert b"'unsafe-eval'" not in found.replace(b"'wasm-unsafe-eval'", b"")


def test_a_connection_that_says_nothing_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Handler, "timeout", 0.3)
    with Server(tmp_path, port=0) as server, serving(server):
        begun = time.monotonic()
        for data in (b"", b"GET / HT", b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"):
            asked(server, data, end=False)
        assert time.monotonic() - begun < 10


def test_a_page_of_another_cannot_show_it(sites: dict[str, Site], browser: BrowserContext) -> None:
    """In a frame a stranger's page could have a person click on what they do not see."""
    page = browser.new_page()
    try:
        with Server(sites["cartpole"].folder, port=0) as other, serving(other):
            page.goto(f"{other.address}style.css")
            refused: list[str] = []
            page.on("console", lambda said: refused.append(said.text))
            page.evaluate(
                "src => document.body.append(Object.assign(document.createElement('iframe'), {src}))",
                sites["cartpole"].address,
            )
            page.wait_for_timeout(500)
        assert any("frame" in text for text in refused), refused
    finally:
        page.close()
