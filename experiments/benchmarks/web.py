"""The page of `rlkit web` in Chromium: what its first load costs, how long the policy takes, frames a second.

    python -m rlkit.experiments.benchmarks.web [RUN] [--seconds 5]

Without RUN, of a DQN that is trained on CartPole-v1 first. Needs a Chromium, which --chromium names.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlkit.experiments.benchmarks._measuring import print_machine

if TYPE_CHECKING:
    from playwright.sync_api import Page

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

CALLS = """async (calls) => {
  const { policy, session } = rlkit;
  const taken = [];
  for (let k = 0; k < calls; k += 1) {
    const begun = performance.now();
    for (let call = 0; call < 10; call += 1) await policy.values(session.observation);
    taken.push((performance.now() - begun) / 10);
  }
  return taken;
}"""

FRAMES = """(seconds) => new Promise((done) => {
  const begun = performance.now();
  let frames = 0;
  let longest = 0;
  let last = begun;
  const count = (now) => {
    frames += 1;
    longest = Math.max(longest, now - last);
    last = now;
    if (now - begun < seconds * 1000) requestAnimationFrame(count);
    else done([(frames * 1000) / (now - begun), longest]);
  };
  requestAnimationFrame(count);
})"""


def wait(page: Page, expression: str, seconds: float = 30.0) -> None:
    """Wait until an expression is true in a page.

    Playwright's own way evaluates a text in the page, which the page's Content-Security-Policy forbids.
    """
    ends = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > ends:
            raise TimeoutError(f"not after {seconds:g} s: {expression}")
        page.wait_for_timeout(20)


def measure(page: Page, address: str, seconds: float) -> dict[str, Any]:
    """Figures of the page at an address: bytes, and milliseconds unless they say otherwise."""
    responses: list[Any] = []
    page.on("response", lambda response: responses.append(response))  # noqa: PLW0108 - it takes no built-in
    begun = time.perf_counter()
    page.goto(address)
    wait(page, "globalThis.rlkit?.last")
    ready = (time.perf_counter() - begun) * 1000
    if not any(response.url.endswith(".wasm.gz") for response in responses):
        raise RuntimeError("the page has loaded no WebAssembly: what it plays by is not LiteRT")
    bodies = [response.body() for response in responses if response.url.startswith("http")]
    rate, longest = page.evaluate(FRAMES, seconds)
    playing = page.evaluate("rlkit.policy.milliseconds")
    page.evaluate("rlkit.run(false)")
    calls = page.evaluate(CALLS, 300)
    return {
        "files of the first load": len(bodies),
        "bytes of the first load, as they are served": sum(map(len, bodies)),
        "bytes, if the server compressed them too": sum(min(len(b), len(gzip.compress(b, 9))) for b in bodies),
        "until the agent plays": ready,
        "policy step while it plays, mean of the last hundred": playing,
        "policy step in a loop, median": statistics.median(calls),
        "policy step in a loop, 99th percentile": statistics.quantiles(calls, n=100)[-1],
        "frames a second": rate,
        "longest time between two frames": longest,
    }


def main() -> None:
    """Print the figures of a run's page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a run that rlkit web can show")
    parser.add_argument("--seconds", type=float, default=5.0, help="for which frames are counted")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's path")
    given = parser.parse_args()
    print_machine()
    from playwright.sync_api import sync_playwright

    from rlkit.api import webpage
    from rlkit.api.agent_run import load
    from rlkit.api.training import train
    from rlkit.web.server import Server

    with tempfile.TemporaryDirectory() as folder:
        run = load(given.run) if given.run else train("dqn", "CartPole-v1", run_dir=Path(folder) / "runs")
        page = webpage.build(run, Path(folder) / "page")
        with Server(page, port=0) as server, sync_playwright() as playwright:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            context = playwright.chromium.launch_persistent_context(
                Path(folder) / "profile", executable_path=given.chromium, args=FLAGS
            )
            print(f"Chromium {context.browser.version if context.browser else ''}".rstrip())
            for name, value in measure(context.new_page(), server.address, given.seconds).items():
                print(f"{value:12,.3f}  {name}" if isinstance(value, float) else f"{value:12,}  {name}")
            context.close()
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    main()
