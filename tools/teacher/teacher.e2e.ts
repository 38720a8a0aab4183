import { hostTensor, mergeAndUnload, type Model, type PeftModel } from '@peftjs/core';
import { referenceExecutor } from '@peftjs/conformance';
import { createRng, floats, tensorAt, type HostTensor } from '@peftjs/core/method';
import { truncatedSvd } from '@peftjs/core/linalg';
import { compiled } from '@peftjs/engine';
import * as tf from '@tensorflow/tfjs-core';
import { standardDeviation } from 'simple-statistics';
import { beforeAll, describe, expect, it } from 'vitest';
import { ARMS, type Arm } from './arms.js';
import { adaptedModules, randomEncoder } from './encoder.js';
import { average, recovery } from './measures.js';
import { logitError, runStudent } from './student.js';
import { ALLOCATIONS, trueRanks } from './allocations.js';
import { logitsOf, meanSquaredError } from './rows.js';
import { makeTask, type Task, type TaskSettings } from './tasks.js';
import { makeTeacher } from './teacher.js';

const EASY: TaskSettings = { allocation: 'early', labels: 'logits', noise: 0, teacher: 1, effect: 0.1, rows: 4096 };
const executor = compiled({ threads: 1 });
let model: Model;
let easy: Task;
beforeAll(async () => {
  await referenceExecutor();
  model = await randomEncoder({ layers: 2, hidden: 16, heads: 2, vocabulary: 64, outputs: 8 });
  easy = await makeTask(model, EASY, executor);
});

const logitsOfTest = (changed: Model | PeftModel) => logitsOf(changed, easy.test.ids.slice(0, 256), executor);

describe('a teacher', () => {
  it.each(ALLOCATIONS)('has one rank per module on average with the allocation %s', (allocation) => {
    const ranks = trueRanks(adaptedModules(model), allocation, createRng(1));
    expect(Object.keys(ranks)).toHaveLength(12);
    expect(Object.values(ranks).reduce((sum, rank) => sum + rank, 0)).toBe(12);
  });

  it('changes its model by exactly the true ranks', async () => {
    const [path] = Object.keys(easy.ranks) as [string];
    const teacher = await makeTeacher(model, { [path]: 3 }, 0.1, createRng(1), logitsOfTest);
    const merged = mergeAndUnload(teacher);
    const [before, after] = [model, merged].map(({ weights }) => tensorAt(weights, `${path}.weight`));
    const change = floats(after as HostTensor).map((value, at) => value - (before?.data[at] as number));
    const { s } = truncatedSvd(hostTensor(change, (before as HostTensor).shape), 4);
    expect(s[2]).toBeGreaterThan(0.1);
    expect(s[3]).toBeLessThan(1e-5);
  });

  it.each(['query', 'value'])('changes the logits by the requested effect with a rank of the %s', async (module) => {
    const path = Object.keys(easy.ranks).find((name) => name.endsWith(module)) as string;
    const teacher = await makeTeacher(model, { [path]: 1 }, 0.1, createRng(1), logitsOfTest);
    const untouched = await logitsOfTest(model);
    const effect = Math.sqrt(meanSquaredError(await logitsOfTest(teacher), untouched));
    const deviation = standardDeviation(untouched.flatMap((row) => [...row]));
    expect(effect / deviation).toBeCloseTo(0.1, 3);
  });

  it('labels test rows with its own logits, and training rows with noise of the requested size', async () => {
    expect(easy.training.logits).toBe(easy.training.clean);
    const noisy = await makeTask(model, { ...EASY, noise: 2 }, executor);
    expect(noisy.training.clean).toEqual(easy.training.clean);
    expect(noisy.test.logits).toBe(noisy.test.clean);
    const variance = meanSquaredError(noisy.training.logits, noisy.training.clean);
    expect(variance / noisy.signal).toBeGreaterThan(3.9);
    expect(variance / noisy.signal).toBeLessThan(4.1);
  });
});

it('the loss on logits is the mean squared error over outputs and weighted rows, relative to the signal', () => {
  const batch = { labels: tf.tensor3d([[[1, 2]], [[0, 0]]]), rowWeights: tf.tensor1d([1, 0]), inputs: {} };
  expect(logitError(3).loss(tf.tensor2d([[4, 2], [9, 9]]), batch).dataSync()[0]).toBeCloseTo(9 / 2 / 3, 6); // oxfmt-ignore
});

describe('recovery of an easy teacher', () => {
  const armNamed = (name: string): Arm => ARMS.find((arm) => arm.name === name) as Arm;
  const small = (arm: Arm): Arm => ({ ...arm, options: { ...arm.options, r: 4, loraAlpha: 8 } });

  it('is nearly complete with the oracle', async () => {
    const { ranks, loss } = await runStudent(model, easy, small(armNamed('oracle')), { steps: 120, seed: 1 }, executor);
    expect(recovery(ranks, easy.ranks).correlation).toBeGreaterThan(0.9);
    expect(loss).toBeLessThan(0.1);
  });

  it("is high with SoRA in a run too short for the paper's gates", async () => {
    const found = async (name: string): Promise<number> => {
      const arm = { ...armNamed(name), learningRate: 5e-3 };
      const { ranks } = await runStudent(model, easy, arm, { steps: 200, seed: 1 }, executor);
      return recovery(ranks, easy.ranks).correlation ?? NaN;
    };
    expect(await found('sora')).toBeGreaterThan(0.8);
    expect(await found('sora-paper')).toBeLessThan(0.5);
  });

  it('is near zero with random gates', async () => {
    const correlations: (number | null)[] = [];
    for (const seed of [1, 2, 3, 4]) {
      const { ranks } = await runStudent(model, easy, small(armNamed('sora-random')), { steps: 10, seed }, executor);
      correlations.push(recovery(ranks, easy.ranks).correlation);
    }
    expect(Math.abs(average(correlations)?.mean ?? 1)).toBeLessThan(0.3);
  });
});
