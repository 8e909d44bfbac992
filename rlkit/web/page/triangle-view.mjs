// The triangle: each cell's number or value, the better step of each by what was learned, and the path taken.

import { greedy } from "./policy.mjs";
import { set, place, svg } from "./svg.mjs";
import { cell } from "./triangle.mjs";

const ROW = 0.92; // height of a row, in widths of a cell
const RADIUS = 0.4;
const LEGIBLE = 24; // rows up to which the cells have text
const TIED = 1e-6; // actions whose exact values differ by less are equally good

export class TriangleView {
  /**
   * @param {import("./triangle.mjs").NumberTriangle} env
   * @param {number[][]} learned action values of each cell, [S, 2]; 0 in the bottom row
   * @param {number[][]} exact the same, by the planner
   */
  constructor(env, learned, exact) {
    this.env = env;
    const inner = env.rows.slice(0, -1).flatMap((row, i) => row.map((_, j) => [i, j]));
    this.numbers = env.rows.flat();
    this.texts = {
      numbers: this.numbers,
      learned: this.values(learned),
      exact: this.values(exact),
    };
    this.texts.error = this.texts.learned.map((value, s) => Math.abs(value - this.texts.exact[s]));
    const lines = inner.flatMap(([i, j]) => this.choices(i, j, learned[cell(i, j)], exact[cell(i, j)]));
    this.trail = svg("path", { class: "trail" });
    this.cells = env.rows.flatMap((row, i) => row.map((_, j) => this.circle(i, j)));
    const width = env.rows.length;
    const view = `${-width / 2} -0.5 ${width} ${(width - 1) * ROW + 1}`;
    this.root = svg("svg", { viewBox: view, role: "img" }, ...lines, this.trail, ...this.cells);
    this.show("numbers");
  }

  /** What a cell is worth, its own number counted; at the top the first step's reward has it. */
  values(q) {
    return this.numbers.map((number, s) => (s ? number : 0) + Math.max(...q[s]));
  }

  at(i, j) {
    return [j - i / 2, i * ROW];
  }

  /** The lines from a cell to the one that its greedy action aims at and, if that is a mistake, to the better one. */
  choices(i, j, learned, exact) {
    const taken = greedy(learned);
    const wrong = exact[1 - taken] - exact[taken] > TIED;
    const line = (action, kind) => {
      const [x1, y1] = this.at(i, j);
      const [x2, y2] = this.at(i + 1, j + action);
      return svg("line", { class: `choice ${kind}`, x1, y1, x2, y2 });
    };
    return wrong ? [line(1 - taken, "better"), line(taken, "wrong")] : [line(taken, "right")];
  }

  circle(i, j) {
    const [x, y] = this.at(i, j);
    const text = svg("text", { "dominant-baseline": "central" });
    return svg("g", { class: "cell", transform: `translate(${x} ${y})` }, svg("circle", { r: RADIUS }), text);
  }

  /** Write numbers, learned, exact or error into the cells, and tint them by it. */
  show(what) {
    const shown = this.texts[what];
    const low = Math.min(...shown);
    const range = Math.max(...shown) - low || 1;
    for (const [s, group] of this.cells.entries()) {
      const [circle, text] = group.children;
      group.style.setProperty("--tint", `${(((shown[s] - low) / range) * 45).toFixed(1)}%`);
      const words = brief(shown[s]);
      text.textContent = this.env.rows.length > LEGIBLE ? "" : words;
      set(text, { "font-size": Math.min(0.38, 0.95 / words.length) });
      set(circle, { r: RADIUS });
    }
  }

  stepping() {}

  draw() {
    const { path } = this.env;
    if (this.drawn === path.length && this.from === path) return;
    this.drawn = path.length;
    this.from = path;
    set(this.trail, { d: `M ${path.map(([i, j]) => this.at(i, j).join(" ")).join(" L ")}` });
    for (const group of this.cells) set(group, { class: "cell" });
    for (const [i, j] of path) set(this.cells[cell(i, j)], { class: "cell passed" });
    set(this.cells[cell(...path.at(-1))], { class: "cell here" });
  }

  words() {
    const [i, j] = this.env.path.at(-1);
    const slip = this.env.slipped ? " It slipped." : "";
    const place = `row ${i + 1} of ${this.env.rows.length}, cell ${j + 1}`;
    return `At ${place}, with the number ${brief(this.env.rows[i][j])}.${slip}`;
  }

  /** On which side of the present cell a pointer is: -1 left, 1 right. */
  side(event) {
    return place(this.root, event).x < this.at(...this.env.path.at(-1))[0] ? -1 : 1;
  }
}

/** A number in few letters. */
export const brief = (value) => String(Number(value.toPrecision(Math.abs(value) < 1000 ? 3 : 4)));
