import { readFile } from 'node:fs/promises';
import { referenceExecutor } from '@peftjs/conformance';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { contrastive, cosineSimilarity, multipleNegativesRanking, triplet } from './embeddings.js';
import type { Loss } from './loss.js';
import { binaryCrossEntropy, crossEntropy } from './losses.js';

interface Golden {
  readonly loss: number;
  readonly gradient: readonly number[];
}

type Values = Readonly<Record<'scores' | 'alike' | 'logits' | 'classes' | 'several' | 'weights', readonly number[]>>;
const golden = JSON.parse(
  await readFile(new URL('../../test/fixtures/losses.json', import.meta.url), 'utf8'),
) as Values & { readonly columns: readonly (readonly number[])[]; readonly smoothing: number };
const goldenOf = (name: string): Golden => (golden as unknown as Record<string, Golden>)[name] ?? expect.fail(name);

const ROWS = 4;
beforeAll(async () => {
  await referenceExecutor();
});

/** The loss of outputs and its gradient; rows have weight 1 unless weights are given. */
function computed(loss: Loss, outputs: Tensor, labels: Tensor, rowWeights = new Array<number>(ROWS).fill(1)): Golden {
  const batch = { labels, rowWeights: tf.tensor1d(rowWeights), inputs: {} };
  const { value, grad } = tf.valueAndGrad((x: Tensor) => loss.loss(x, batch))(outputs);
  return { loss: value.dataSync()[0] as number, gradient: [...grad.dataSync()] };
}

function expectClose(found: Golden, expected: Golden): void {
  expect(found.loss / expected.loss).toBeCloseTo(1, 5);
  expect(found.gradient).toHaveLength(expected.gradient.length);
  found.gradient.forEach((value, index) => expect(value).toBeCloseTo(expected.gradient[index] as number, 5));
}

/** A number for each embedding; the given columns are concatenated. */
const embeddings = (columns: number): Tensor =>
  tf.tensor2d(golden.columns.slice(0, columns).flat(), [columns * ROWS, 6]);
const nothing = (): Tensor => tf.zeros([ROWS]);

describe("sentence-transformers' value and gradient", () => {
  it.each([
    ['pairs', 2, multipleNegativesRanking(), nothing],
    ['hard-negatives', 3, multipleNegativesRanking({ scale: 5 }), nothing],
    ['cosine-similarity', 2, cosineSimilarity(), () => tf.tensor1d([...golden.scores])],
    ['triplet', 3, triplet({ margin: 0.8 }), nothing],
    ['contrastive', 2, contrastive(), () => tf.tensor1d([...golden.alike])],
  ] as const)('are those of %s', (name, columns, loss, labels) => {
    expectClose(computed(loss, embeddings(columns), labels()), goldenOf(name));
  });
});

describe("torch's value and gradient", () => {
  const logits = (): Tensor => tf.tensor2d([...golden.logits], [ROWS, 3]);
  const classes = (): Tensor => tf.tensor1d([...golden.classes], 'int32');
  const several = (): Tensor => tf.tensor2d([...golden.several], [ROWS, 3]);
  const { weights, smoothing } = golden;

  it.each([
    ['smoothed', crossEntropy({ labelSmoothing: smoothing }), classes],
    ['weighted', crossEntropy({ classWeights: weights }), classes],
    ['both', crossEntropy({ labelSmoothing: smoothing, classWeights: weights }), classes],
    ['binary', binaryCrossEntropy(), several],
    ['binary-weighted', binaryCrossEntropy({ positiveWeights: weights }), several],
  ] as const)('are those of %s', (name, loss, labels) => {
    expectClose(computed(loss, logits(), labels()), goldenOf(name));
  });
});

describe('a row that only fills the batch', () => {
  const half = [1, 1, 0, 0];

  it.each([
    ['multiple negatives', 3, multipleNegativesRanking()],
    ['cosine similarity', 2, cosineSimilarity()],
    ['triplets', 3, triplet()],
    ['contrast', 2, contrastive()],
  ] as const)('has no effect, neither in the loss of %s nor as a candidate', (_, columns, loss) => {
    const [outputs, labels] = [embeddings(columns), tf.tensor1d([...golden.alike])];
    const rows = (x: Tensor): Tensor => tf.slice(x, 0, ROWS / 2);
    const fewer = tf.concat(tf.split(outputs, columns, 0).map(rows));
    const { loss: alone } = computed(loss, fewer, rows(labels), [1, 1]);
    const { loss: filled, gradient } = computed(loss, outputs, labels, half);
    expect(filled).toBeCloseTo(alone, 6);
    const perColumn = ROWS * 6;
    for (let column = 0; column < columns; column++) {
      const unused = gradient.slice(column * perColumn + perColumn / 2, (column + 1) * perColumn);
      expect(unused.every((value) => value === 0)).toBe(true);
    }
    expect(computed(loss, outputs, labels, [0, 0, 0, 0]).loss).toBe(0);
  });
});

it('a row without others finds its positive among its own candidates', () => {
  const row = (columns: number): Tensor => tf.slice(embeddings(3), 0, columns);
  expect(computed(multipleNegativesRanking(), row(2), tf.zeros([1]), [1]).loss).toBe(0);
  expect(computed(multipleNegativesRanking(), row(3), tf.zeros([1]), [1]).loss).toBeGreaterThan(0);
});

describe('weights of classes', () => {
  it('make the mean of several batches that of one', () => {
    const loss = crossEntropy({ classWeights: golden.weights });
    const [logits, labels] = [tf.tensor2d([...golden.logits], [ROWS, 3]), tf.tensor1d([...golden.classes], 'int32')];
    const parts = [0, 1].map((half) => {
      const [x, y] = [tf.slice(logits, [2 * half, 0], [2, 3]), tf.slice(labels, 2 * half, 2)];
      const weight = loss.weight?.({
        inputs: {},
        labels: { data: Int32Array.from(y.dataSync()), shape: [2] },
        rowWeights: { data: Float32Array.of(1, 1), shape: [2] },
      } as never);
      return { value: computed(loss, x, y, [1, 1]).loss, weight: weight ?? NaN };
    });
    const whole = parts.reduce((sum, { weight }) => sum + weight, 0);
    const mean = parts.reduce((sum, { value, weight }) => sum + (value * weight) / whole, 0);
    expect(mean).toBeCloseTo(computed(loss, logits, labels).loss, 6);
  });

  it.each([
    [{ labelSmoothing: 1 }, "option 'labelSmoothing' is 1; expected <1"],
    [{ labelSmoothing: NaN }, "option 'labelSmoothing' is NaN; expected number"],
    [{ classWeights: [1, 0] }, "option 'classWeights.1' is 0; expected >0"],
  ])('and smoothing are rejected out of their range: %o', (options, message) => {
    expect(() => crossEntropy(options)).toThrow(message);
  });

  it('are rejected unless there is one per class', () => {
    const loss = crossEntropy({ classWeights: [1, 2] });
    expect(() => computed(loss, tf.zeros([ROWS, 3]), tf.zeros([ROWS], 'int32'))).toThrow(
      'classWeights must have one number for each of 3 classes, got 2',
    );
  });
});

it.each([
  [() => multipleNegativesRanking({ scale: 0 }), "option 'scale' is 0; expected >0"],
  [() => triplet({ margin: NaN }), "option 'margin' is NaN; expected number"],
  [() => contrastive({ margin: -1 }), "option 'margin' is -1; expected >0"],
])('the losses of embeddings reject options out of their range: %s', (make, message) => {
  expect(make).toThrow(message);
});
