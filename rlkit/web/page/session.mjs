// An env and who plays it: the agent or a person, with the scores of both.

import { greedy } from "./policy.mjs";

export class Score {
  episodes = 0;
  last = null;
  best = null;
  sum = 0;

  get mean() {
    return this.episodes ? this.sum / this.episodes : null;
  }

  add(value) {
    this.episodes += 1;
    this.last = value;
    this.best = this.best === null ? value : Math.max(this.best, value);
    this.sum += value;
  }
}

export class Session {
  scores = { agent: new Score(), person: new Score() };
  player = "agent";

  /** @param {boolean} turns whether a person's choice is for one step, else it holds until the next */
  constructor(env, policy, turns) {
    this.env = env;
    this.policy = policy;
    this.turns = turns;
  }

  /** Begin an episode. */
  async begin() {
    this.observation = this.env.reset();
    this.total = 0;
    this.steps = 0;
    this.action = null; // the last one
    this.choice = null; // a person's
    this.pushed = false; // a knock makes the episode another task, so it is no score
    this.ended = null; // or "terminated", "truncated"
    await this.look();
  }

  /** The action values of where it is. */
  async look() {
    this.decided = this.observation;
    this.values = await this.policy.values(this.observation);
  }

  /** Whether it is for a person to choose. */
  get waiting() {
    return this.player === "person" && this.choice === null && !this.ended;
  }

  /** One step of the one who plays; nothing where the episode has ended or a person has not chosen. */
  async step() {
    if (this.ended || this.waiting) return;
    this.action = this.player === "agent" ? greedy(this.values) : this.choice;
    if (this.turns) this.choice = null;
    const { observation, reward, terminated, truncated } = this.env.step(this.action);
    this.observation = observation;
    this.total += reward;
    this.steps += 1;
    if (terminated || truncated) {
      this.ended = terminated ? "terminated" : "truncated";
      if (!this.pushed) this.scores[this.player].add(this.total);
    } else {
      await this.look();
    }
  }

  /** Knock the pole; the values are those of where it then is. */
  async push(strength) {
    if (this.ended) return;
    this.env.push(strength);
    this.pushed = true;
    this.observation = this.env.observation();
    await this.look();
  }
}
