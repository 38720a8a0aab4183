import { attach, train, type TrainOptions } from '@peftjs/core';
import type { TrainingSnapshot } from '@peftjs/core/runtime';
import { toyModel, toyTrainingData } from '@peftjs/conformance';
import { sora } from '@peftjs/sora';
import { expect, it } from 'vitest';
import { findExecutor } from './executors.js';
import { testRecomputed } from './recomputed.js';
import { methodSubjects, networkSubjects } from './subjects.js';

const found = { ...(await findExecutor('compiled on the CPU')), cases: 'one of each family' } as const;
const networks = await networkSubjects();
const methods = ['lora', 'sora', "lora with the network's dropout"];

testRecomputed(found, [...methodSubjects(found).filter(({ name }) => methods.includes(name)), ...networks(found)]);

it('a run resumes with another setting, to the same bits', async () => {
  const run = async (options: Partial<TrainOptions>) => {
    const snapshots: TrainingSnapshot[] = [];
    const { last } = await train(attach(toyModel(), sora({ r: 2, loraDropout: 0.1 }), { seed: 1 }), toyTrainingData(), {
      ...{ executor: found.executor as never, epochs: 2, learningRate: 0.01, saveEvery: 3 },
      onSnapshot: (snapshot) => void snapshots.push(snapshot),
      ...options,
    });
    return { values: last.values, resume: snapshots[0] as TrainingSnapshot };
  };
  const off = await run({ gradientCheckpointing: false });
  const on = await run({ gradientCheckpointing: true });
  expect(on.values).toEqual(off.values);
  for (const [gradientCheckpointing, { resume }] of [
    [true, off],
    [false, on],
  ] as const) {
    expect((await run({ gradientCheckpointing, resume })).values).toEqual(off.values);
  }
});
