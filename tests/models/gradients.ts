/** The gradients that tools/golden/architectures.py computed with PEFT, and ours. */
import { activeAdapter, adamW, train, type Batch, type Executor, type PeftModel } from '@peftjs/core';
import { floats, tensorAt, type HostTensor, type HostTensors } from '@peftjs/core/method';
import { replaceAdapter } from '@peftjs/core/model';
import { transposed } from '@peftjs/core/linalg';
import type { TrainingSnapshot } from '@peftjs/core/runtime';
import { relativeDistance } from '@peftjs/conformance';
import { expect } from 'vitest';
import { golden, goldenValues, heads, type HeadName, type Tiny } from './tiny.js';

/** The number of the batch of PEFT's gradients. */
export const GRADIENTS = 1;

/** What is compared, and how closely. */
interface Comparison {
  readonly batch: Batch;
  readonly executor: Executor;
  readonly tolerance: number;
  readonly lossTolerance: number;
}

type Expected = Pick<Tiny, 'expected'>;

/** Checks the loss and the gradients of LoRA with PEFT's values. */
export async function expectGradientsOfPeft(
  peft: PeftModel,
  from: Expected,
  head: HeadName,
  { batch, executor, tolerance, lossTolerance }: Comparison,
): Promise<void> {
  replaceAdapter(peft, { values: { ...activeAdapter(peft).values, ...goldenFactors(from) } });
  const { loss, gradients } = await firstStep(peft, batch, head, executor);
  expect(relativeDistance([loss], goldenValues(from, `${head}/loss`))).toBeLessThan(lossTolerance);
  for (const name of Object.keys(goldenFactors(from))) {
    const expected = goldenValues(from, `${head}/gradient/${inPeft(name)}`);
    const actual = floats(transposed(tensorAt(gradients, name)));
    expect(relativeDistance(actual, expected), name).toBeLessThan(tolerance);
  }
}

/** PEFT's key for one of our tensors. */
function inPeft(name: string): string {
  return name.replace(/\.lora([AB])$/, '.lora_$1.weight');
}

/** PEFT's A and B, with our names and orientation. */
function goldenFactors(from: Expected): HostTensors {
  const keys = [...from.expected.keys()].filter((key) => key.startsWith('lora/'));
  return Object.fromEntries(
    keys.map((key) => [
      key.slice('lora/'.length).replace(/\.lora_([AB])\.weight$/, '.lora$1'),
      transposed(golden(from, key) as HostTensor),
    ]),
  );
}

/** The loss and the gradients of one batch, read from Adam's first moment after the first of two steps. */
export async function firstStep(
  peft: PeftModel,
  batch: Batch,
  head: HeadName,
  executor: Executor,
): Promise<{ loss: number; gradients: HostTensors }> {
  const losses: number[] = [];
  const snapshots: TrainingSnapshot[] = [];
  const adapter = activeAdapter(peft);
  await train(
    peft,
    { kind: heads[head].kind, batchesPerEpoch: 2, epoch: () => [batch, batch] },
    {
      executor,
      epochs: 1,
      learningRate: 1e-3,
      optimizer: adamW({ beta1: 0.5 }),
      clipNorm: null,
      saveEvery: 1,
      onStep: ({ loss }) => losses.push(loss),
      onSnapshot: (snapshot) => void snapshots.push(snapshot),
    },
  );
  replaceAdapter(peft, adapter);
  const moments = snapshots[0]?.slots['moment1'] ?? expect.fail('no snapshot');
  const gradients = Object.fromEntries(
    Object.entries(moments).map(([name, moment]) => [name, { ...moment, data: floats(moment).map((m) => 2 * m) }]),
  );
  return { loss: losses[0] ?? NaN, gradients };
}
