// The run's policy, model.tflite, run by LiteRT.js in WebAssembly.

import { loadAndCompile, loadLiteRt, Tensor } from "./vendor/litert/index.js";

const RUNTIME = "vendor/litert/litert_wasm_compat_internal";
const WARMING = 100; // calls after which the browser has compiled the most of it

/** A file that is kept compressed, as a blob: URL; servers that inflate .gz files themselves do no harm. */
async function inflated(url, type) {
  const bytes = new Uint8Array(await (await fetched(url)).arrayBuffer());
  let stream = new Blob([bytes]).stream();
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) stream = stream.pipeThrough(new DecompressionStream("gzip"));
  return URL.createObjectURL(new Blob([await new Response(stream).arrayBuffer()], { type }));
}

/** A file, or an Error that names it. */
export async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} cannot be loaded: ${response.status} ${response.statusText}`);
  return response;
}

/** The policy of a .tflite file with one input, an observation, and the output q_values, [1, A]. */
export async function loadPolicy(url) {
  const [script, binary, model] = await Promise.all([
    inflated(`${RUNTIME}.js.gz`, "text/javascript"),
    inflated(`${RUNTIME}.wasm.gz`, "application/wasm"),
    fetched(url).then((response) => response.arrayBuffer()),
  ]);
  const said = []; // the runtime tells what it does as if it were errors; it is of use if it fails
  globalThis.Module = { locateFile: () => binary, printErr: (line) => said.push(line) };
  try {
    await loadLiteRt(`${script}#.js`); // it tells a file from a folder by how the name ends
    const policy = new Policy(await loadAndCompile(new Uint8Array(model), { accelerator: "wasm" }));
    await policy.warm();
    return policy;
  } catch (error) {
    throw new Error([error.message, ...said].join("\n"), { cause: error });
  } finally {
    URL.revokeObjectURL(script);
    URL.revokeObjectURL(binary);
  }
}

export class Policy {
  constructor(model) {
    this.model = model;
    this.input = model.getInputDetails()[0];
    this.milliseconds = 0; // of a call, mean over the last hundred or so
  }

  /** Call it as often as a browser needs to see that it matters. */
  async warm() {
    const { dtype, shape } = this.input;
    const blank = new (dtype === "int32" ? Int32Array : Float32Array)(shape.reduce((size, length) => size * length, 1));
    for (let call = 0; call < WARMING; call += 1) await this.values(blank);
    this.milliseconds = 0;
  }

  /** The action values of an observation, [A] float32. */
  async values(observation) {
    const begun = performance.now();
    const tensor = new Tensor(observation, [...this.input.shape]);
    const outputs = await this.model.run({ [this.input.name]: tensor });
    const values = outputs.q_values.toTypedArray();
    for (const used of [tensor, ...Object.values(outputs)]) used.delete();
    this.milliseconds += (this.milliseconds ? 0.01 : 1) * (performance.now() - begun - this.milliseconds);
    return values;
  }
}

/** The first of the best actions. */
export const greedy = (values) => values.indexOf(Math.max(...values));
