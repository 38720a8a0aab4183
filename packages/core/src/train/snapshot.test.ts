import { readSafetensors, writeSafetensors } from '@peftjs/safetensors';
import { describe, expect, it } from 'vitest';
import { CheckpointError } from '../errors.js';
import { NUMERICS } from '../numerics.js';
import { readSnapshot, writeSnapshot, type TrainingSnapshot } from './snapshot.js';

const snapshot: TrainingSnapshot = {
  ...{ step: 3, optimizerStart: 0, adapter: {}, slots: { moment1: {} } },
  training: {
    loss: { name: 'cross-entropy' },
    optimizer: { name: 'adamw', settings: { beta1: 0.9 } },
    schedule: { name: 'linear' },
  },
  ...{ controller: null, selected: null, stored: 8, storedSum: 24, compileMs: 5 },
};

describe('a snapshot', () => {
  const run = JSON.stringify({ ...snapshot, adapter: undefined, slots: ['moment1'] });
  const withNumerics = (numerics: object): Uint8Array =>
    writeSafetensors(new Map(), { format: 'peftjs-training-2', run, ...numerics });

  it('is read where it was written by the same numerics', async () => {
    expect(readSafetensors(writeSnapshot(snapshot)).size).toBe(0);
    expect(await readSnapshot(writeSnapshot(snapshot))).toEqual(snapshot);
    expect(await readSnapshot(withNumerics({ numerics: String(NUMERICS) }))).toEqual(snapshot);
  });

  it.each([
    ['of other numerics', { numerics: String(NUMERICS + 1) }, NUMERICS + 1],
    ['from before there were numerics', {}, 0],
  ])('%s is refused', async (_, numerics, named) => {
    const reading = readSnapshot(withNumerics(numerics), 'run.safetensors');
    await expect(reading).rejects.toThrow(CheckpointError);
    await expect(reading).rejects.toThrow(
      `run.safetensors cannot be resumed: its numerics are ${named}, expected ${NUMERICS}`,
    );
  });
});
