// The cart and its pole, in metres.

import { ANGLE_LIMIT, POLE, X_LIMIT } from "./cartpole.mjs";
import { place, set, svg } from "./svg.mjs";

const CART = { width: 0.5, height: 0.3 };
const AXLE = -CART.height; // the pole's foot; y goes down
const ARROW_FADES = 400; // ms

const degrees = (angle) => (angle * 180) / Math.PI;

export class CartPoleView {
  constructor(env) {
    this.env = env;
    this.before = env.state;
    const stick = svg("line", { class: "pole", y1: 0, y2: -POLE });
    this.pole = svg("g", {}, stick, svg("circle", { class: "axle", r: 0.06 }));
    this.arrow = svg("path", { class: "push", d: "M -0.45 0 H -0.12 m -0.1 -0.09 l 0.12 0.09 l -0.12 0.09" });
    const { width, height } = CART;
    this.cart = svg(
      "g",
      {},
      svg("rect", { class: "cart", x: -width / 2, y: -height, width, height, rx: 0.05 }),
      svg("path", { class: "limit", d: limits() }),
      this.pole,
      this.arrow,
    );
    set(this.arrow, { opacity: 0 });
    const ends = [-X_LIMIT, X_LIMIT].map((x) => svg("line", { class: "limit", x1: x, x2: x, y1: -1.5, y2: 0.12 }));
    const track = svg("line", { class: "track", x1: -2.75, x2: 2.75, y1: 0.02, y2: 0.02 });
    this.root = svg("svg", { viewBox: "-2.8 -1.6 5.6 1.85", role: "img" }, track, ...ends, this.cart);
  }

  /** Remember where a step begins, to draw what is between it and the next state. */
  stepping() {
    this.before = this.env.state;
  }

  /** Draw the share `part` of the way from the state before to the present one; an episode's first is drawn whole. */
  draw(session, part) {
    const now = this.env.state;
    const from = session.steps ? this.before : now;
    const [x, , angle] = now.map((value, k) => from[k] + (value - from[k]) * part);
    set(this.cart, { transform: `translate(${x.toFixed(4)} 0)` });
    set(this.pole, { transform: `translate(0 ${AXLE}) rotate(${degrees(angle).toFixed(3)})` });
    set(this.cart.firstChild, { class: session.ended === "terminated" ? "cart fallen" : "cart" });
  }

  /** Show a push by an arrow beside the pole's top. */
  pushed(strength) {
    const [, , angle] = this.env.state;
    const x = POLE * Math.sin(angle);
    const y = AXLE - POLE * Math.cos(angle);
    set(this.arrow, { transform: `translate(${x} ${y}) scale(${Math.sign(strength)} 1)` });
    this.arrow.animate([{ opacity: 1 }, { opacity: 0 }], ARROW_FADES);
  }

  /** The state in words. */
  words() {
    const [x, , angle] = this.env.state;
    const side = (value) => (value < 0 ? "left" : "right");
    return (
      `The cart is ${Math.abs(x).toFixed(2)} m to the ${side(x)} of the middle, ` +
      `the pole ${Math.abs(degrees(angle)).toFixed(1)} degrees to the ${side(angle)} of upright.`
    );
  }

  /** On which side of the pole a pointer is: -1 left, 1 right. */
  side(event) {
    const [x, , angle] = this.env.state;
    const at = place(this.root, event);
    const along = Math.min(Math.max(AXLE - at.y, 0), POLE); // how high up the pole
    return at.x < x + along * Math.tan(angle) ? -1 : 1;
  }
}

function limits() {
  const x = 1.2 * POLE * Math.sin(ANGLE_LIMIT);
  const y = AXLE - 1.2 * POLE * Math.cos(ANGLE_LIMIT);
  return `M ${-x} ${y} L 0 ${AXLE} L ${x} ${y}`;
}
