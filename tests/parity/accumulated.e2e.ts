import { adamW, train, type Batch, type TrainOptions } from '@peftjs/core';
import { sizeOf, type HostTensor, type HostTensors } from '@peftjs/core/method';
import { farthestTensor } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { describe, expect, it } from 'vitest';
import type { Subject } from '../../packages/cli/src/run/parity.js';
import { parityMethods } from './methods.js';
import { parityNetworks } from './networks.js';
import { methodSubject, networkSubject } from './subjects.js';

const TOLERANCE = 1e-4;
const executor = compiled({ threads: 1 });
/** Dropout is random for each batch, so parts cannot have the dropout of a larger batch. */
const dry = parityMethods.filter(({ name }) => /^(full|houlsby|lora|lora-fa|adalora|sora|dora from .*)$/.test(name));
const ofTokens = parityNetworks.filter(({ name }) => /^(roberta|gpt2) /.test(name));
const subjects = [
  ...dry.map(methodSubject),
  ...(await Promise.all(ofTokens.map((network) => networkSubject(network, 0)))),
];

/** The rows of a batch in a range. */
function rowsOf(batch: Batch, from: number, to: number): Batch {
  const cut = ({ dtype, shape: [, ...rest], data }: HostTensor): HostTensor => {
    const width = sizeOf(rest);
    return { dtype, shape: [to - from, ...rest], data: data.slice(from * width, to * width) };
  };
  return {
    inputs: Object.fromEntries(Object.entries(batch.inputs).map(([name, tensor]) => [name, cut(tensor)])),
    labels: cut(batch.labels),
    rowWeights: cut(batch.rowWeights),
    rows: batch.rows.slice(from, to),
  };
}

/** One row of a batch, and the others. */
function uneven(batch: Batch): Batch[] {
  return [rowsOf(batch, 0, 1), rowsOf(batch, 1, batch.rows.length)];
}

/** The values after five steps. */
async function trained(
  { attach, batches, kind }: Subject,
  options: Pick<TrainOptions, 'gradientAccumulationSteps'> = {},
): Promise<{ values: HostTensors; losses: number[] }> {
  const losses: number[] = [];
  const peft = await attach();
  const { last } = await train(
    peft,
    { kind, batchesPerEpoch: batches.length, epoch: () => batches },
    {
      executor,
      epochs: 1,
      learningRate: 0.02,
      optimizer: adamW({ epsilon: 1e-4, weightDecay: 0.1 }),
      onStep: ({ loss }) => losses.push(loss),
      ...options,
    },
  );
  return { values: last.values, losses };
}

describe('gradients accumulated over uneven parts of a batch equal those of the batch', () => {
  it.each(subjects.map((subject) => [subject.name, subject] as const))('%s', async (_, subject) => {
    const whole = await trained(subject);
    const inParts = { ...subject, batches: subject.batches.flatMap(uneven) };
    const accumulated = await trained(inParts, { gradientAccumulationSteps: 2 });
    const { name, distance } = farthestTensor(accumulated.values, whole.values);
    expect(distance, name).toBeLessThan(TOLERANCE);
    expect(accumulated.losses).toEqual(whole.losses.map((loss) => expect.closeTo(loss, 4) as number));
  });
});
