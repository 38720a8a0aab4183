import { train } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { fromPretrained } from '@peftjs/models';
import { expect, it } from 'vitest';
import { folderOfTest } from '../vitest/temporary-folder.js';
import { onModel, randomData } from './cases.js';
import { writeRandomModel } from './checkpoint.js';
import { models, type TimedModel } from './models.js';

const SMALL = { num_hidden_layers: 1, hidden_size: 36, intermediate_size: 8, vocab_size: 8000 };

const byType = new Map(Object.values<TimedModel>(models).map((model) => [model.config.model_type, model]));

it.each([...byType])('a small random %s loads and trains', async (_, { config, task }) => {
  const folder = folderOfTest();
  await writeRandomModel(folder, { ...config, ...SMALL }, task);
  const peft = onModel.lora(await fromPretrained(folder, { task }));
  const losses: number[] = [];
  await train(peft, randomData(peft.model, [2, 3], 2), {
    executor: compiled({ threads: 1 }),
    epochs: 1,
    learningRate: 1e-3,
    onStep: ({ loss }) => void losses.push(loss),
  });
  expect(losses[1]).toBeLessThan(losses[0] ?? NaN);
});
