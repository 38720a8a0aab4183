import { readFile } from 'node:fs/promises';
import { referenceExecutor } from '@peftjs/conformance';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Loss } from './loss.js';
import { dpo, orpo, type DpoOptions } from './preferences.js';

/** Written by tools/golden/preferences.py: four rows of two answers. */
interface Fixture {
  readonly inputIds: number[][];
  readonly attentionMask: number[][];
  readonly labels: number[][];
  readonly logits: number[][][];
  readonly reference: number[][];
  readonly cases: Readonly<Record<string, { options: Options; loss: number; gradient: number[] }>>;
}

/** TRL's options. */
interface Options {
  readonly beta?: number;
  readonly loss_type?: NonNullable<DpoOptions['lossType']>;
  readonly label_smoothing?: number;
}

const golden = JSON.parse(
  await readFile(new URL('../../test/fixtures/preferences.json', import.meta.url), 'utf8'),
) as Fixture;
const ROWS = 4;

beforeAll(async () => {
  await referenceExecutor();
});

function lossOf(name: string, { beta, loss_type: lossType, label_smoothing: labelSmoothing }: Options): Loss {
  const shared = beta === undefined ? {} : { beta };
  if (name.startsWith('orpo')) return orpo(shared);
  return dpo({ ...shared, ...(lossType && { lossType }), ...(labelSmoothing !== undefined && { labelSmoothing }) });
}

/** The answers of some rows, the chosen ones first. */
function ofRows<T>(values: readonly T[], rows: readonly number[]): T[] {
  return [...rows, ...rows.map((row) => ROWS + row)].map((row) => values[row] as T);
}

/** The loss and its gradient with respect to the logits, for some rows with their weights. */
function computed(loss: Loss, rows: readonly number[], weights: readonly number[]) {
  const batch = {
    labels: tf.tensor2d(ofRows(golden.labels, rows), undefined, 'int32'),
    rowWeights: tf.tensor1d([...weights]),
    inputs: {
      inputIds: tf.tensor2d(ofRows(golden.inputIds, rows), undefined, 'int32'),
      attentionMask: tf.tensor2d(ofRows(golden.attentionMask, rows)),
      referenceLogps: tf.tensor2d(rows.map((row) => golden.reference[row] as number[])),
    },
  };
  const logits = tf.tensor3d(ofRows(golden.logits, rows));
  const { value, grad } = tf.valueAndGrad((x: Tensor) => loss.loss(x, batch))(logits);
  return { loss: value.dataSync()[0] as number, gradient: [...grad.dataSync()] };
}

const ALL = [0, 1, 2, 3];
const ONES = [1, 1, 1, 1];

describe.each(Object.entries(golden.cases))("TRL's %s", (name, { options, loss, gradient }) => {
  it('has this value and gradient', () => {
    const found = computed(lossOf(name, options), ALL, ONES);
    expect(found.loss / loss).toBeCloseTo(1, 6);
    expect(found.gradient).toHaveLength(gradient.length);
    found.gradient.forEach((value, at) => expect(Math.abs(value - (gradient[at] as number))).toBeLessThan(1e-6));
  });

  it('is not changed by rows that only fill the batch, and is 0 without others', () => {
    const { loss: alone } = computed(lossOf(name, options), [0, 1], [1, 1]);
    const filled = computed(lossOf(name, options), ALL, [1, 1, 0, 0]);
    expect(filled.loss).toBeCloseTo(alone, 5);
    const perAnswer = filled.gradient.length / 8;
    const ofRow = (row: number) => filled.gradient.slice(row * perAnswer, (row + 1) * perAnswer);
    for (const row of [2, 3, 6, 7]) expect(ofRow(row).every((value) => value === 0)).toBe(true);
    const none = computed(lossOf(name, options), ALL, [0, 0, 0, 0]);
    expect(none.loss).toBe(0);
    expect(none.gradient.every((value) => value === 0)).toBe(true);
  });
});

it.each([
  [() => dpo({ beta: 0 }), "option 'beta' is 0; expected >0"],
  [() => dpo({ lossType: 'robust', labelSmoothing: 0.5 }), "option 'labelSmoothing' is 0.5; expected <0.5"],
  [() => dpo({ labelSmoothing: 0.1 }), "labelSmoothing is for lossType 'robust', got 'sigmoid'"],
  [() => dpo({ lossType: 'exo' as 'ipo' }), "option 'lossType' is 'exo'"],
  [() => orpo({ beta: -1 }), "option 'beta' is -1; expected >0"],
])('options out of their range are rejected: %s', (make, message) => {
  expect(make).toThrow(message);
});
