// Runs a graph model: a line of inputs as JSON on stdin, a line of outputs on stdout.
// Arguments: the folder that has @tensorflow/tfjs installed, and the model's.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

console.log = console.info = console.warn = () => {}; // stdout is for answers
const [packages, folder] = process.argv.slice(2);
const tf = createRequire(join(packages, "index.js"))("@tensorflow/tfjs");
await tf.setBackend("cpu");

const { modelTopology, weightsManifest, ...rest } = JSON.parse(readFileSync(join(folder, "model.json"), "utf8"));
const shards = weightsManifest.flatMap((group) => group.paths.map((path) => readFileSync(join(folder, path))));
const bytes = Buffer.concat(shards);
const model = await tf.loadGraphModel({
  load: async () => ({
    ...rest,
    modelTopology,
    weightSpecs: weightsManifest.flatMap((group) => group.weights),
    weightData: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length),
  }),
});
const { inputs, outputs } = rest.signature;

for await (const line of createInterface({ input: process.stdin })) {
  const fed = {};
  for (const [name, { shape, dtype, data }] of Object.entries(JSON.parse(line))) {
    const raw = Uint8Array.from(Buffer.from(data, "base64")).buffer;
    fed[inputs[name].name] = tf.tensor(dtype === "int32" ? new Int32Array(raw) : new Float32Array(raw), shape, dtype);
  }
  const names = Object.keys(outputs);
  const found = await model.executeAsync(fed, names.map((name) => outputs[name].name));
  const answer = {};
  for (const [i, tensor] of [found].flat().entries()) {
    const data = Buffer.from((await tensor.data()).buffer.slice(0)).toString("base64");
    answer[names[i]] = { shape: tensor.shape, dtype: tensor.dtype, data };
    tensor.dispose();
  }
  Object.values(fed).forEach((tensor) => tensor.dispose());
  process.stdout.write(JSON.stringify(answer) + "\n");
}
