// The page: what page.json says is played, by the policy in model.tflite or by a person.

import { GAMES } from "./games.mjs";
import { drawScores } from "./panels.mjs";
import { fetched, loadPolicy } from "./policy.mjs";
import { Session } from "./session.mjs";

const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4, 8];
const PUSH = 0.5; // rad/s
const REST = 1.2; // s between two episodes
const LONGEST = 0.1; // s that a frame makes up for, so that a page that was hidden does not rush

const find = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");

class Page {
  running = false;
  backlog = 0; // steps that are due
  rest = 0; // seconds until the next episode
  frames = 0;
  busy = Promise.resolve();

  constructor(game, facts, policy, { env, view, bars, bound }) {
    Object.assign(this, { game, facts, policy, env, view, bars });
    this.session = new Session(env, policy, Boolean(game.turns));
    find("bound").textContent = bound;
    find("stage").replaceChildren(view.root);
  }

  /** Run what changes the session, one after the other. */
  serially(change) {
    this.busy = this.busy.then(change).catch(fail);
    return this.busy;
  }

  async start() {
    await this.session.begin();
    this.listen();
    this.speed();
    this.mode();
    this.describe();
    find("controls").hidden = find("panels").hidden = false;
    drawScores(this.session.scores);
    this.run(!still.matches);
    if (still.matches) this.say("Paused, as your system asks for less motion.");
    this.last = this.counted = performance.now();
    requestAnimationFrame((now) => this.frame(now));
  }

  listen() {
    find("run").addEventListener("click", () => this.run(!this.running));
    find("step").addEventListener("click", () => this.single());
    find("restart").addEventListener("click", () => this.restart());
    find("speed").addEventListener("input", () => this.speed());
    find("player").addEventListener("change", (event) => {
      this.session.player = event.target.value;
      this.mode();
      this.restart();
    });
    for (const [action, id] of ["left", "right"].entries()) {
      find(id).addEventListener("click", () => this.hand(action));
    }
    this.view.root.addEventListener("pointerdown", (event) => {
      const right = this.view.side(event) > 0;
      this.hand(Number(this.session.player === "person" ? right : !right)); // a push comes from where the pointer is
    });
    document.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const own = event.target.closest("input, select, summary, [tabindex]");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && !own && !event.target.closest("button")) this.run(!this.running);
    else if (event.key === "ArrowLeft" && !own) this.hand(0);
    else if (event.key === "ArrowRight" && !own) this.hand(1);
    else return;
    event.preventDefault();
  }

  /** A person's left (0) or right (1): a choice, or a push of the pole while the agent plays. */
  hand(action) {
    const { session } = this;
    if (session.player === "person") {
      const first = session.waiting;
      session.choice = action;
      this.mark();
      if (this.game.turns) this.single();
      else if (first) this.run(true);
    } else if (this.env.push) {
      const strength = action ? PUSH : -PUSH;
      this.view.pushed(strength);
      this.serially(() => session.push(strength));
    }
  }

  run(running) {
    this.running = running;
    this.backlog = running ? 0 : 1;
    find("run").textContent = running ? "Pause" : "Play";
    if (!this.session.ended) this.say(this.told());
  }

  single() {
    if (!this.game.turns || this.session.player === "agent") this.run(false);
    this.serially(async () => {
      if (this.session.ended) await this.begin();
      else await this.step();
      this.backlog = 1;
    });
  }

  restart() {
    this.serially(() => this.begin());
  }

  async begin() {
    await this.session.begin();
    this.backlog = this.rest = 0;
    this.mark();
    this.say(this.told());
  }

  async step() {
    const { session } = this;
    if (session.ended) return;
    this.view.stepping();
    await session.step();
    if (!session.ended) {
      if (this.game.turns && session.player === "person") this.say(`${this.view.words()} ${this.told()}`);
      return;
    }
    this.rest = REST;
    drawScores(session.scores);
    const who = session.player === "agent" ? "The agent" : "You";
    const note = session.pushed ? ", pushed, so it is no score" : "";
    this.say(`${who} ended after ${session.steps} steps with return ${Number(session.total.toFixed(2))}${note}.`);
  }

  told() {
    const { session } = this;
    if (session.player === "agent") return this.running ? "The agent plays." : "Paused.";
    if (session.waiting && !this.game.turns) return "Press ← or → to begin.";
    if (session.waiting) return "Your turn: ← or →.";
    return this.running ? "You play." : "Paused.";
  }

  /** The picture in words. */
  describe() {
    this.view.root.setAttribute("aria-label", this.view.words());
  }

  say(words) {
    find("status").textContent = words;
  }

  speed() {
    const factor = SPEEDS[find("speed").value];
    this.rate = factor * this.game.hertz;
    find("speed-words").textContent = `× ${factor}`;
    find("speed").setAttribute("aria-valuetext", `${factor} times`);
  }

  /** Name the buttons by what they do now. */
  mode() {
    const person = this.session.player === "person";
    find("hands").hidden = !person && !this.env.push;
    find("left").textContent = person ? this.game.names[0] : "← push";
    find("right").textContent = person ? this.game.names[1] : "push →";
    find("help").textContent = this.game.help[this.session.player];
    this.mark();
  }

  /** Show which of a person's choices holds. */
  mark() {
    for (const [action, id] of ["left", "right"].entries()) {
      if (this.session.player === "person" && !this.game.turns) {
        find(id).setAttribute("aria-pressed", this.session.choice === action);
      } else find(id).removeAttribute("aria-pressed");
    }
  }

  async frame(now) {
    const passed = Math.min((now - this.last) / 1000, LONGEST);
    this.last = now;
    if (this.running) await this.serially(() => this.advance(passed));
    this.draw(now);
    requestAnimationFrame((next) => this.frame(next));
  }

  /** Play for some seconds. */
  async advance(seconds) {
    const { session } = this;
    if (session.ended) {
      this.rest -= seconds;
      if (this.rest <= 0) await this.begin();
      return;
    }
    if (session.waiting || (this.game.turns && session.player === "person")) return;
    this.backlog += seconds * this.rate;
    while (this.backlog >= 1 && !session.ended && !session.waiting) {
      this.backlog -= 1;
      await this.step();
    }
  }

  draw(now) {
    const { session } = this;
    const part = this.running && !session.ended && !still.matches ? Math.min(this.backlog, 1) : 1;
    this.view.draw(session, part);
    this.bars.draw(session);
    find("count").textContent = `Step ${session.steps}, return ${Number(session.total.toFixed(2))}`;
    this.frames += 1;
    if (now - this.counted < 1000) return;
    this.framerate = (this.frames * 1000) / (now - this.counted);
    this.frames = 0;
    this.counted = now;
    this.describe();
    const step = this.policy.milliseconds.toFixed(2);
    find("pace").textContent = `policy ${step} ms a step, ${this.framerate.toFixed(0)} frames a second`;
  }
}

function describe(facts) {
  const { agent, env, run, step, evaluation } = facts;
  document.title = `${agent} on ${env}`;
  find("title").textContent = document.title;
  const { mean, episodes } = evaluation ?? {};
  const result = evaluation ? `, mean return ${mean.toFixed(1)} over ${episodes} episodes` : "";
  find("facts").textContent = `Run ${run}, agent of step ${step.toLocaleString("en")}${result}.`;
}

function fail(error) {
  console.error(error);
  find("status").textContent = `This page does not work here: ${error.message.split("\n")[0]}`;
}

try {
  const facts = await (await fetched("page.json")).json();
  describe(facts);
  const policy = await loadPolicy("model.tflite");
  const game = GAMES[facts.env];
  const page = new Page(game, facts, policy, await game.make(facts, policy));
  globalThis.rlkit = page; // to look at from a console
  await page.start();
} catch (error) {
  fail(error);
}
