import type { Encoding } from '@peftjs/models';
import { beforeEach, describe, expect, it } from 'vitest';
import type { AdapterChoice } from './inference.js';
import { sharing, type Compute } from './shared-batches.js';

/** A batch that was started: the first token of each text, and its adapter. */
interface Started {
  readonly texts: readonly number[];
  readonly choice: AdapterChoice;
}

const UNKNOWN = 404;

let started: Started[] = [];
/** Returns the first token of each text. A batch with the unknown one fails. */
const compute: Compute<Float32Array> = async (texts, choice) => {
  const own = texts.map(({ ids }) => ids[0] as number);
  started.push({ texts: own, choice });
  await Promise.resolve();
  if (own.includes(UNKNOWN)) throw new RangeError('an unknown token');
  return own.map((token) => Float32Array.of(token));
};
const shared = sharing({ shareBatches: true, batchSize: 3 }, compute);

const text = (token: number, length = 1): Encoding => ({
  ids: new Array<number>(length).fill(token),
  truncated: false,
});
const ask = async (token: number, length?: number, adapter?: string): Promise<number | undefined> =>
  (await shared([text(token, length)], adapter))[0]?.[0];

beforeEach(() => void (started = []));

describe('concurrent calls', () => {
  it('start at once if nothing runs, and share the batches after it', async () => {
    const first = ask(1);
    expect(started).toEqual([{ texts: [1], choice: undefined }]);
    expect(await Promise.all([first, ask(2), ask(3)])).toEqual([1, 2, 3]);
    expect(started.slice(1)).toEqual([{ texts: [2, 3], choice: undefined }]);
  });

  it('share a batch with those most similar in length to the one that has waited longest', async () => {
    await Promise.all([ask(1), ask(2, 5), ask(3, 1), ask(4, 6), ask(5, 9), ask(6, 4)]);
    expect(started.slice(1).map(({ texts }) => texts)).toEqual([
      [2, 4, 6],
      [3, 5],
    ]);
  });

  it('only share a batch with calls of the same adapter', async () => {
    await Promise.all([ask(1), ask(2, 1, 'a'), ask(3, 1, 'b'), ask(4, 1, 'a')]);
    expect(started.slice(1)).toEqual([
      { texts: [2, 4], choice: 'a' },
      { texts: [3], choice: 'b' },
    ]);
  });

  it('of several texts get the outputs in the order of their texts', async () => {
    const calls = [ask(1), shared([text(2, 9), text(3)], ['b', 'b']), shared([text(4, 9), text(5)], 'a')];
    expect((await Promise.all(calls)).slice(1)).toEqual([
      [Float32Array.of(2), Float32Array.of(3)],
      [Float32Array.of(4), Float32Array.of(5)],
    ]);
  });

  it('fail alone', async () => {
    const results = await Promise.allSettled([ask(1), ask(2), ask(UNKNOWN), ask(3)]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
    expect(await ask(4)).toBe(4);
  });

  it.each([
    ['of a whole batch', [2, 3, 4], 'a'],
    ['of several adapters', [2, 3], ['a', 'b']],
  ])('%s are computed as they are', async (_, tokens, choice) => {
    await Promise.all([
      ask(1, 1, 'a'),
      ask(9, 1, 'a'),
      shared(
        tokens.map((token) => text(token)),
        choice,
      ),
    ]);
    expect(started).toContainEqual({ texts: tokens, choice });
  });
});

it('leaves the computation as it is if the option is off', () => {
  expect(sharing({ shareBatches: false, batchSize: 3 }, compute)).toBe(compute);
});
