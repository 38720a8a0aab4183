// The code block of @peftjs/engine's README that trains on a GPU.
import { activeAdapter, attach, train, type TrainingData } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { expect, it } from 'vitest';
import { findExecutor } from '../../tests/parity/executors.js';
import { batchesFor, smallBert } from './given.js';

const { skipped } = await findExecutor('compiled on WebGPU');

it.skipIf(skipped)(`the engine trains an adapter on a GPU${skipped ? ` (${skipped})` : ''}`, async () => {
  const model = await smallBert();
  const { train: all } = await batchesFor(model);
  const data: TrainingData = { kind: all.kind, batchesPerEpoch: 1, epoch: (index) => all.epoch(index).slice(0, 1) }; // the GPU may be emulated on the CPU
  const peft = attach(model, lora({ r: 2 }), { seed: 1 });
  const before = activeAdapter(peft).values;
  // #region webgpu
  const executor = compiled({ executionProviders: ['webgpu'] });
  await train(peft, data, { executor, epochs: 3 });
  // #endregion webgpu
  expect(activeAdapter(peft).values).not.toEqual(before);
});
