import { readFile } from 'node:fs/promises';
import {
  adamW,
  attach,
  evaluate,
  hostTensor,
  loadPretrained,
  memoryStorage,
  savePretrained,
  train,
  withReference,
  type Batch,
  type PeftModel,
  type TrainingData,
} from '@peftjs/core';
import { dpo, orpo } from '@peftjs/core/losses';
import { DataError, hostFilled, hostIntegers, type HostTensors } from '@peftjs/core/method';
import { ADAPTER_WEIGHTS } from '@peftjs/core/model';
import { farthestTensor } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { preferenceEvaluation, type PreferenceData } from '@peftjs/tasks';
import { beforeAll, describe, expect, it } from 'vitest';
import { load, tiny } from '../models/tiny.js';
import { executor, fixtures, readJson, tensorsOf, TOLERANCE } from './bert.js';

/** Written by tools/golden/preferences.py: ten steps of TRL's trainers with torch's AdamW. */
const expected = readJson('preferences/expected.json') as {
  rate: number;
  batches: Readonly<Record<'inputIds' | 'attentionMask' | 'labels', number[][]>>[];
  runs: Readonly<Record<'dpo' | 'orpo', { losses: number[]; metrics: Readonly<Record<string, number>> }>>;
};
const ROWS = 4;

function batchOf({ inputIds, attentionMask, labels }: (typeof expected.batches)[number], number: number): Batch {
  const shape = [2 * ROWS, inputIds[0]?.length ?? 0];
  return {
    inputs: {
      inputIds: hostIntegers(Int32Array.from(inputIds.flat()), shape),
      attentionMask: hostTensor(Float32Array.from(attentionMask.flat()), shape),
    },
    labels: hostIntegers(Int32Array.from(labels.flat()), shape),
    rowWeights: hostFilled([ROWS], 1),
    rows: Array.from({ length: ROWS }, (_, row) => number * ROWS + row),
    columns: 2,
  };
}

const batches = expected.batches.map(batchOf);
const data: TrainingData = { kind: 'preferences', batchesPerEpoch: batches.length, epoch: () => batches };

/** The rows of the last batch, encoded. */
function lastRows(): PreferenceData {
  const { inputIds, attentionMask, labels } = expected.batches.at(-1) as (typeof expected.batches)[number];
  const text = (at: number) => {
    const length = (attentionMask[at] as number[]).filter((is) => is === 1).length;
    const part = (of: number[][]) => Int32Array.from((of[at] as number[]).slice(0, length));
    return { ids: part(inputIds), labels: part(labels) };
  };
  const rows = Array.from({ length: ROWS }, (_, row) => ({ texts: [text(row), text(ROWS + row)] as const }));
  return { name: 'last', kind: 'preferences', rows, maxTokens: 16, truncated: 0, dropped: 0 };
}

async function onDisk(peft: PeftModel): Promise<HostTensors> {
  const storage = memoryStorage();
  await savePretrained(peft, 'adapter', { storage, pruned: false });
  return tensorsOf(await storage.read(`adapter/${ADAPTER_WEIGHTS}`));
}

describe.each([
  ['dpo', dpo()],
  ['orpo', orpo()],
] as const)("ten steps of TRL's %s", (name, loss) => {
  const { losses, metrics } = expected.runs[name];
  const found: number[] = [];
  let peft: PeftModel;
  beforeAll(async () => {
    const model = await load(tiny('llama'), 'next');
    peft = await loadPretrained(model, `${fixtures}/preferences/${name}`, { methods: [lora] });
    await train(peft, data, {
      executor,
      loss,
      epochs: 1,
      learningRate: expected.rate,
      schedule: 'constant',
      warmupRatio: 0,
      optimizer: adamW({ weightDecay: 0 }),
      clipNorm: null,
      onStep: (step) => found.push(step.loss),
    });
  });

  it('have the same losses', () => {
    expect(found).toEqual(losses.map((value) => expect.closeTo(value, 4) as number));
  });

  it('end with the same tensors', async () => {
    const theirs = tensorsOf(await readFile(`${fixtures}/preferences/${name}/after.safetensors`));
    expect(farthestTensor(await onDisk(peft), theirs).distance).toBeLessThan(TOLERANCE);
  });

  it('end with the same rewards', async () => {
    const plain = preferenceEvaluation(lastRows(), { batchSize: ROWS });
    const judged = name === 'dpo' ? await withReference(plain, peft, { executor }) : plain;
    const scores = await evaluate(peft, judged, { executor });
    const close = (metric: string) => expect.closeTo(metrics[metric] ?? NaN, 4) as number;
    expect(scores).toMatchObject({
      rewardAccuracy: close('rewards/accuracies'),
      rewardMargin: close('rewards/margins'),
      rewardChosen: close('rewards/chosen'),
      rewardRejected: close('rewards/rejected'),
      ...(name === 'dpo' && { logpsChosen: close('logps/chosen'), logpsRejected: close('logps/rejected') }),
    });
  });
});

describe('a reference is refused', () => {
  const [first, second] = batches as [Batch, Batch];
  it.each<[string, TrainingData['epoch'], RegExp]>([
    ['for a row that the first epoch lacks', (index) => [index === 0 ? second : first], /have a row 0 that is not in/],
    ['for rows numbered batch by batch', () => [first, { ...second, rows: first.rows }], /two rows .* the number 0:/],
  ])('%s', async (_, epoch, message) => {
    const model = await load(tiny('llama'), 'next');
    const training = train(
      attach(model, lora({ r: 1 })),
      { kind: 'preferences', batchesPerEpoch: epoch(0).length, epoch },
      { executor, loss: dpo(), epochs: 2 },
    );
    await expect(training).rejects.toThrow(DataError);
    await expect(training).rejects.toThrow(message);
  });
});
