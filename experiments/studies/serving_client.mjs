// A client of TensorFlow Serving's REST API plays CartPole, in JavaScript without any package.
//
//     rlkit serve RUN
//     node experiments/studies/serving_client.mjs [http://127.0.0.1:8501] [default]
//
// RUN is an agent of CartPole-v1. The env is Gymnasium's: the same equations, constants and limits.

const [url = "http://127.0.0.1:8501", name = "default"] = process.argv.slice(2);

const GRAVITY = 9.8, CART = 1.0, POLE = 0.1, HALF_LENGTH = 0.5, FORCE = 10.0, SECONDS = 0.02;
const LIMIT = 2.4, ANGLE = (12 * 2 * Math.PI) / 360, STEPS = 500;

// The next state of [position, velocity, angle, angular velocity], by Euler's method.
function transition([x, v, angle, spin], action) {
  const force = action === 1 ? FORCE : -FORCE;
  const cos = Math.cos(angle), sin = Math.sin(angle), mass = CART + POLE, moment = POLE * HALF_LENGTH;
  const push = (force + moment * spin ** 2 * sin) / mass;
  const turn = (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4 / 3 - (POLE * cos ** 2) / mass));
  const pull = push - (moment * turn * cos) / mass;
  return [x + SECONDS * v, v + SECONDS * pull, angle + SECONDS * spin, spin + SECONDS * turn];
}

// The greedy action for an observation, by the server.
async function act(observation) {
  const response = await fetch(`${url}/v1/models/${name}:predict`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ instances: [observation] }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer.predictions[0].action;
}

let state = [0.02, -0.01, 0.03, 0.01], total = 0;
while (total < STEPS) {
  state = transition(state, await act(state));
  total += 1;
  if (Math.abs(state[0]) > LIMIT || Math.abs(state[2]) > ANGLE) break;
}
console.log(`over REST: return ${total}`);
