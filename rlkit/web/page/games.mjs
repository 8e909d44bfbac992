// The envs that the page knows: how each is made, shown and spoken of.

import { CartPoleView } from "./cartpole-view.mjs";
import { CartPole } from "./cartpole.mjs";
import { Bars, drawTriangle } from "./panels.mjs";
import { TriangleView } from "./triangle-view.mjs";
import { cell, NumberTriangle } from "./triangle.mjs";

const find = (id) => document.getElementById(id);

/**
 * By the env's id: steps a second, names of the actions, words for whoever plays, and what makes env, view and bars
 * from the facts of page.json. With `turns` a person chooses each step, without haste.
 */
export const GAMES = {
  "CartPole-v1": {
    hertz: 50,
    names: ["← left", "right →"],
    help: {
      agent: "Push the pole: click or touch beside it, or ← and →. Space pauses. A pushed episode is no score.",
      person: "Steer the cart: ← and →, the buttons, or touch either side of the pole. The last choice holds.",
    },
    async make(facts) {
      const env = new CartPole(facts.env_args, facts.limit);
      const bound = `No return is above ${facts.env_args.sutton_barto_reward ? 0 : facts.limit}.`;
      return { env, view: new CartPoleView(env), bars: new Bars(this.names, null, null), bound };
    },
  },
  "rlkit/NumberTriangle-v0": {
    hertz: 2,
    turns: true,
    names: ["↙ down", "right ↘"],
    help: {
      agent: "The agent goes down or right at each cell. Space pauses.",
      person: "Choose the next cell: ← and →, the buttons, or touch either side below.",
    },
    async make(facts, policy) {
      const { triangle } = facts;
      const env = new NumberTriangle(triangle, facts.limit);
      const inner = triangle.q.length - triangle.rows.length;
      const learned = triangle.q.map(() => [0, 0]);
      for (let s = 0; s < inner; s += 1) learned[s] = [...(await policy.values(Int32Array.of(s)))];
      const reach = () => {
        const i = Math.min(env.path.length, triangle.rows.length - 1) - 1; // of the last decision
        const row = [learned, triangle.q].flatMap((q) => q.slice(cell(i, 0), cell(i + 1, 0))).flat();
        return [Math.min(...row), Math.max(...row)];
      };
      const view = new TriangleView(env, learned, triangle.q);
      drawTriangle(env, learned, triangle.q);
      find("triangle-panel").hidden = false;
      find("show").addEventListener("change", (event) => view.show(event.target.value));
      const slip = triangle.slip ? ` With probability ${triangle.slip} the other step happens.` : "";
      const bound = `The best policy's mean return is ${Number(triangle.best_return.toFixed(2))}.${slip}`;
      return { env, view, bars: new Bars(this.names, triangle.q, reach), bound };
    },
  },
};
