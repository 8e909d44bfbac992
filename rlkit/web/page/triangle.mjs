// rlkit/NumberTriangle-v0: a path from the top of a triangle to its bottom row, and the numbers on it added up.

/** The number of cell j of row i, counted from the top. */
export const cell = (i, j) => (i * (i + 1)) / 2 + j;

export class NumberTriangle {
  /**
   * @param {{rows: number[][], slip: number}} triangle its rows from the top; the chance that the other action happens
   * @param {number | null} limit steps after which an episode is truncated
   * @param {() => number} random uniform in [0, 1), drawn once a step
   */
  constructor({ rows, slip }, limit = null, random = Math.random) {
    this.rows = rows;
    this.slip = slip;
    this.limit = limit ?? Infinity;
    this.random = random;
    this.reset();
  }

  /** Begin an episode at the top. */
  reset() {
    this.path = [[0, 0]];
    this.slipped = false;
    this.ended = false;
    return this.observation();
  }

  /** The cell's number, as int32. */
  observation() {
    return Int32Array.of(cell(...this.path.at(-1)));
  }

  /** One step: action 0 goes down, 1 goes right; with the chance `slip` it is the other one. */
  step(action) {
    if (this.ended) throw new Error("the episode has ended: call reset()");
    if (action !== 0 && action !== 1) throw new Error(`action ${action}, expected 0 (down) or 1 (right)`);
    const [i, j] = this.path.at(-1);
    this.slipped = this.random() < this.slip;
    const below = [i + 1, j + (this.slipped ? 1 - action : action)];
    const reward = this.rows[below[0]][below[1]] + (i === 0 ? this.rows[0][0] : 0);
    this.path.push(below);
    const terminated = this.path.length === this.rows.length;
    const truncated = this.path.length > this.limit;
    this.ended = terminated || truncated;
    return { observation: this.observation(), reward, terminated, truncated };
  }
}
