// What stands beside the stage: the bars of the action values, the scores, and a triangle's values.

import { greedy } from "./policy.mjs";
import { brief } from "./triangle-view.mjs";

const find = (id) => document.getElementById(id);

/** An HTML element with a class, and what is in it. */
function html(name, kind, ...children) {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  element.append(...children);
  return element;
}

/** Bars of the action values, on a common scale. */
export class Bars {
  /**
   * @param {string[]} names of the actions
   * @param {number[][] | null} exact action values by the planner, where there are any: [S, A]
   * @param {(() => [number, number]) | null} reach ends of the scale; what was seen if null
   */
  constructor(names, exact, reach) {
    this.exact = exact;
    this.reach = reach;
    this.seen = [Infinity, -Infinity];
    find("q-key").hidden = !exact;
    this.rows = names.map((name) => {
      const bars = (exact ? ["learned", "exact"] : ["learned"]).map((kind) => html("div", `bar ${kind}`, html("span")));
      const number = html("span", "number");
      const row = html("div", "action", html("span", "", name), html("div", "bars", ...bars), number);
      return { row, number, fills: bars.map((bar) => bar.firstChild) };
    });
    find("q").replaceChildren(...this.rows.map(({ row }) => row));
  }

  draw(session) {
    const { values } = session;
    if (values === this.drawn) return;
    this.drawn = values;
    const exact = this.exact && this.exact[session.decided[0]];
    this.seen = [Math.min(this.seen[0], ...values), Math.max(this.seen[1], ...values)];
    const [low, high] = this.reach ? this.reach() : this.seen;
    const best = greedy(values);
    for (const [action, { row, number, fills }] of this.rows.entries()) {
      const shown = exact ? [values[action], exact[action]] : [values[action]];
      row.classList.toggle("greedy", action === best);
      number.textContent = shown.map((value) => value.toFixed(2)).join("\n");
      for (const [k, value] of shown.entries()) {
        fills[k].style.transform = `scaleX(${(0.02 + (0.98 * (value - low)) / (high - low || 1)).toFixed(4)})`;
      }
    }
    const range = this.reach ? "the range in this row" : "the range seen so far";
    find("q-range").textContent = `The bars reach from ${brief(low)} to ${brief(high)}, ${range}.`;
  }
}

/** The returns of either player in the table. */
export function drawScores(scores) {
  for (const [player, score] of Object.entries(scores)) {
    const shown = [score.episodes, score.last, score.mean, score.best];
    const cells = find(`score-${player}`).querySelectorAll("td");
    for (const [k, value] of shown.entries()) cells[k].textContent = value === null ? "–" : Number(value.toFixed(1));
  }
}

/** The table of every cell's learned and exact action values, and how far they are from each other. */
export function drawTriangle(env, learned, exact) {
  let s = 0;
  let most = 0;
  let wrong = 0;
  for (const [i, numbers] of env.rows.slice(0, -1).entries()) {
    for (const [j, number] of numbers.entries()) {
      const [q, q_best] = [learned[s], exact[s]];
      const shown = [number, q[0], q_best[0], q[1], q_best[1]].map((value) => html("td", "", brief(value)));
      const name = html("th", "", `${i + 1}, ${j + 1}`);
      name.scope = "row";
      find("all").tBodies[0].append(html("tr", "", name, ...shown));
      most = Math.max(most, Math.abs(q[0] - q_best[0]), Math.abs(q[1] - q_best[1]));
      if (q_best[1 - greedy(q)] - q_best[greedy(q)] > 1e-6) wrong += 1;
      s += 1;
    }
  }
  find("errors").textContent =
    "A line leads from each cell where its greedy action aims: red where that is a mistake, with the better one " +
    `dashed (${wrong} of ${s} cells). Action values differ from the exact ones by ${brief(most)} at most.`;
}
