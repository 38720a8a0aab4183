/** A few of the cases that tools/golden/random-checkpoints.ts and random-adapters.ts generate by the hundred. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { compiled } from '@peftjs/engine';
import { methods } from 'peftjs';
import { describe, expect, it } from 'vitest';
import { adapterOutcome } from './adapter.js';
import { checkpointErrors } from './checkpoint.js';

const TOLERANCE = 1e-4;
const executor = compiled({ threads: 1 });

function cases(kind: string): [name: string, folder: string][] {
  const folder = fileURLToPath(new URL(`fixtures/${kind}`, import.meta.url));
  return readdirSync(folder).map((name) => [name, `${folder}/${name}`]);
}

describe('random checkpoints', () => {
  it.each(cases('checkpoints'))(
    '%s: outputs, gradients and 30 steps match transformers and PEFT',
    async (_, folder) => {
      for (const [measure, error] of Object.entries(await checkpointErrors(folder, executor))) {
        expect(error, measure).toBeLessThan(TOLERANCE);
      }
    },
  );
});

describe('random adapters', () => {
  it.each(cases('adapters'))('%s: outputs, unmerged and merged, match PEFT', async (_, folder) => {
    const { unmerged, merged } = await adapterOutcome(folder, { methods, executor });
    expect(unmerged).toBeLessThan(TOLERANCE);
    expect(merged).toBeLessThan(TOLERANCE);
  });
});
