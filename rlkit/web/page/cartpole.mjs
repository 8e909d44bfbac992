// CartPole-v1 as Gymnasium computes it, in the same order of operations, so that float64 rounds the same way.

const GRAVITY = 9.8; // m/s^2
const MASS_POLE = 0.1; // kg
const MASS_TOTAL = 1.1; // kg, with the cart's 1.0
const HALF_POLE = 0.5; // m
const FORCE = 10.0; // N
const TAU = 0.02; // s between two states
const MASS_LENGTH = MASS_POLE * HALF_POLE;

export const X_LIMIT = 2.4; // m
export const ANGLE_LIMIT = (12 * 2 * Math.PI) / 360; // rad
export const POLE = 2 * HALF_POLE;

export class CartPole {
  /**
   * @param {{sutton_barto_reward?: boolean}} options the env's arguments
   * @param {number | null} limit steps after which an episode is truncated
   * @param {() => number} random uniform in [0, 1)
   */
  constructor({ sutton_barto_reward: sparse = false } = {}, limit = 500, random = Math.random) {
    this.sparse = sparse;
    this.limit = limit ?? Infinity;
    this.random = random;
    this.reset();
  }

  /** Begin an episode with each of x, its speed, the angle and its speed in [-0.05, 0.05). */
  reset() {
    this.state = Array.from({ length: 4 }, () => -0.05 + 0.1 * this.random());
    this.steps = 0;
    this.ended = false;
    return this.observation();
  }

  /** x (m), its speed (m/s), the pole's angle (rad, to the right) and its speed (rad/s), as float32. */
  observation() {
    return Float32Array.from(this.state);
  }

  /** One step of 20 ms: action 0 pushes the cart to the left, 1 to the right. */
  step(action) {
    if (this.ended) throw new Error("the episode has ended: call reset()");
    if (action !== 0 && action !== 1) throw new Error(`action ${action}, expected 0 (left) or 1 (right)`);
    let [x, speed, angle, turn] = this.state;
    const force = action === 1 ? FORCE : -FORCE;
    const cos = Math.cos(angle);
    const sin = Math.sin(angle);
    const temp = (force + MASS_LENGTH * (turn * turn) * sin) / MASS_TOTAL;
    const turned = (GRAVITY * sin - cos * temp) / (HALF_POLE * (4 / 3 - (MASS_POLE * (cos * cos)) / MASS_TOTAL));
    const sped = temp - (MASS_LENGTH * turned * cos) / MASS_TOTAL;
    x += TAU * speed;
    speed += TAU * sped;
    angle += TAU * turn;
    turn += TAU * turned;
    this.state = [x, speed, angle, turn];
    this.steps += 1;
    const terminated = Math.abs(x) > X_LIMIT || Math.abs(angle) > ANGLE_LIMIT;
    const truncated = this.steps >= this.limit;
    this.ended = terminated || truncated;
    const reward = this.sparse ? (terminated ? -1 : 0) : 1;
    return { observation: this.observation(), reward, terminated, truncated };
  }

  /** Knock the pole: change the speed of its angle, in rad/s. */
  push(strength) {
    this.state[3] += strength;
  }
}
