import { readSafetensors, writeSafetensors } from '@peftjs/safetensors';
import { describe, expect, it } from 'vitest';
import { CheckpointError } from '../errors.js';
import { NUMERICS } from '../numerics.js';
import { hostTensor } from '../tensors.js';
import { readSnapshot, writeSnapshot, type TrainingSnapshot } from './snapshot.js';

const snapshot: TrainingSnapshot = {
  ...{ step: 3, optimizerStart: 0, adapter: {}, slots: { moment1: {} } },
  training: { epochs: 3, optimizer: 'adamw', 'optimizer.beta1': 0.9 },
  ...{ controller: null, selected: null, stopping: null, stored: 8, storedSum: 24, compileMs: 5 },
};

describe('a snapshot', () => {
  const run = JSON.stringify({ ...snapshot, adapter: undefined, slots: ['moment1'] });
  const withNumerics = (numerics: object): Uint8Array =>
    writeSafetensors(new Map(), { format: 'peftjs-training-3', run, ...numerics });

  it('is read if it was written with the same numerics', async () => {
    expect(readSafetensors(writeSnapshot(snapshot)).size).toBe(0);
    expect(await readSnapshot(writeSnapshot(snapshot))).toEqual(snapshot);
    expect(await readSnapshot(withNumerics({ numerics: String(NUMERICS) }))).toEqual(snapshot);
  });

  it('keeps the tensors of both the best and the selected checkpoint', async () => {
    const checkpoint = (step: number) => ({
      ...{ step, metrics: { accuracy: 0.5 }, storedParameters: 1, ranks: { query: 1 } },
      values: { 'query.weight': hostTensor(Float32Array.of(step), [1]) },
    });
    const both = { ...snapshot, selected: checkpoint(2), stopping: { best: checkpoint(1), record: 0.5, waited: 1 } };
    expect(await readSnapshot(writeSnapshot(both))).toEqual(both);
  });

  it('copies each tensor out of the file, whose alignment would change the last bits of a resumed run', async () => {
    const adapter = { 'a.gate': hostTensor(new Float32Array(1), [1]), 'b.gate': hostTensor(new Float32Array(3), [3]) };
    const read = await readSnapshot(writeSnapshot({ ...snapshot, adapter }));
    expect(Object.values(read.adapter).map(({ data }) => data.byteOffset)).toEqual([0, 0]);
  });

  it('keeps metrics that are not finite', async () => {
    const metrics = { pearson: NaN, perplexity: Infinity };
    const selected = { ...{ step: 2, metrics, storedParameters: 1, ranks: {} }, values: {} };
    const diverged = { ...snapshot, selected, stopping: { best: null, record: -Infinity, waited: 0 } };
    expect(await readSnapshot(writeSnapshot(diverged))).toEqual(diverged);
  });

  it('of an older version is rejected with the reason', async () => {
    const older = writeSafetensors(new Map(), { format: 'peftjs-training-2', numerics: String(NUMERICS), run });
    await expect(readSnapshot(older, 'run.safetensors')).rejects.toThrow(
      'run.safetensors cannot be resumed: another version of peftjs wrote it in format peftjs-training-2, this one reads peftjs-training-3; start the run again',
    );
  });

  it.each([
    ['with another numerics version', { numerics: String(NUMERICS + 1) }, NUMERICS + 1],
    ['without a numerics version', {}, 0],
  ])('%s is rejected', async (_, numerics, named) => {
    const reading = readSnapshot(withNumerics(numerics), 'run.safetensors');
    await expect(reading).rejects.toThrow(CheckpointError);
    await expect(reading).rejects.toThrow(
      `run.safetensors cannot be resumed: its numerics are ${named}, expected ${NUMERICS}`,
    );
  });
});
