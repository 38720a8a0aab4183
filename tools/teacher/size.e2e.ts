import { activeAdapter, activeRanks, attach, train, type EvaluationData, type Model } from '@peftjs/core';
import { createRng } from '@peftjs/core/method';
import type { Sizing } from '@peftjs/core/runtime';
import { referenceExecutor } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { sora } from '@peftjs/sora';
import { beforeAll, describe, expect, it } from 'vitest';
import { adaptedModules, randomEncoder } from './encoder.js';
import { argmax, batchesOf, drawnRows, labelledBatch, logitsOf, type Rows } from './rows.js';
import { makeTeacher } from './teacher.js';

const executor = compiled({ threads: 1 });
const TRAINING = 2048;
const BATCH = 64;
let model: Model;
let path: string;
beforeAll(async () => {
  await referenceExecutor();
  model = await randomEncoder({ layers: 2, hidden: 16, heads: 2, vocabulary: 64, outputs: 8 });
  path = adaptedModules(model).find(({ role }) => role === 'attention.value')?.path ?? '';
});

/**
 * Trains SoRA with 16 ranks and an automatic budget on the one module that a teacher changed, with the teacher's
 * classes or random ones as labels.
 */
async function sized(trueRank: number, { drawn = false } = {}): Promise<{ found: number; sizing: Sizing }> {
  const rng = createRng(5);
  const probed = drawnRows(model, 256, rng.fork('probed'));
  const teacher = await makeTeacher(model, { [path]: trueRank }, 0.2, rng.fork('changes'), (changed) =>
    logitsOf(changed, probed, executor),
  );
  const rowsOf = async (name: string, count: number): Promise<Rows> => {
    const ids = drawnRows(model, count, rng.fork(name));
    const noise = rng.fork(`${name} labels`);
    const clean = drawn
      ? ids.map(() => Float32Array.from({ length: 8 }, () => noise.normal()))
      : await logitsOf(teacher, ids, executor);
    return { ids, clean, logits: clean };
  };
  const training = await rowsOf('training', TRAINING);
  const peft = attach(model, sora({ budget: 'auto', r: 16, loraAlpha: 32, targetModules: [path] }), { seed: 1 });
  const { sizing } = await train(
    peft,
    {
      kind: 'classification',
      batchesPerEpoch: TRAINING / BATCH,
      epoch(index) {
        const order = createRng(1).fork(String(index)).permutation(TRAINING);
        return batchesOf([...order], BATCH, (own) => labelledBatch(own, training, 'classes'));
      },
    },
    { executor, epochs: 12, learningRate: 0.01, selection: { data: judgedOn(await rowsOf('selection', 2048)) } },
  );
  const { layers, values } = activeAdapter(peft);
  return { found: activeRanks(layers, values)[path] ?? 0, sizing: sizing ?? expect.fail('expected a chosen size') };
}

function judgedOn(rows: Rows): EvaluationData {
  const actual = rows.clean.map(argmax);
  const accuracy = (predicted: readonly unknown[], of: readonly number[]): Record<string, number> => ({
    accuracy: of.filter((row) => predicted[row] === actual[row]).length / of.length,
  });
  return {
    batches: batchesOf([...rows.ids.keys()], 256, (own) => labelledBatch(own, rows, 'classes')),
    primaryMetric: 'accuracy',
    score: (outputs) => accuracy(outputs.map(argmax), [...outputs.keys()]),
    predictions: (outputs) => ({ predicted: outputs.map(argmax), actual }),
    scoreRows: ({ predicted }, of) => accuracy(predicted, of),
  };
}

describe("the size that SoRA chooses with budget: 'auto'", () => {
  it.each([2, 4])("is within one of the teacher's rank of %i", async (rank) => {
    const { found } = await sized(rank);
    expect(Math.abs(found - rank)).toBeLessThanOrEqual(1);
  });

  it('is at most 2 for random labels, and the reason says so', async () => {
    const { found, sizing } = await sized(1, { drawn: true });
    expect(found).toBeLessThanOrEqual(2);
    expect(sizing.reason).toContain('teach an adapter next to nothing');
  });
});
