import { train } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { fromPretrained } from '@peftjs/models';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { onModel, randomData } from './cases.js';
import { writeRandomModel } from './checkpoint.js';
import { models, type TimedModel } from './models.js';

const SMALL = { num_hidden_layers: 1, hidden_size: 36, intermediate_size: 8, vocab_size: 8000 };

const byType = new Map(Object.values<TimedModel>(models).map((model) => [model.config.model_type, model]));

it.each([...byType])('a small random %s loads and trains', async (_, { config, task }) => {
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-random-'));
  try {
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
  } finally {
    await rm(folder, { recursive: true });
  }
});
