import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { comparable, TINY_MODEL } from '../../tools/faults/bench.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { peftBench } from './in-process.js';

const folder = temporaryFolder();

const run = async (out: string, ...flags: string[]) =>
  peftBench([
    'run',
    '--preset',
    'smoke',
    '--model',
    TINY_MODEL,
    '--method',
    'head,lora',
    '--seeds',
    '2',
    ...flags,
    '--out',
    join(folder, out),
  ]);

describe('the shards of a run, one after another', () => {
  it('write the result files of one run, and report joins them', async () => {
    expect((await run('whole')).code).toBe(0);
    const first = await run('shared', '--shard', '0/2');
    expect(first.code).toBe(0);
    expect(first.stderr).toMatch(
      /2 trials of share 0\/2 are in .*shared; once all shares are there, run peft-bench report .*shared/,
    );
    expect((await run('shared', '--shard', '1/2')).code).toBe(0);
    expect(await comparable(join(folder, 'shared'))).toEqual(await comparable(join(folder, 'whole')));

    const report = await peftBench(['report', join(folder, 'shared')]);
    expect(report.code).toBe(0);
    for (const method of ['head', 'lora']) expect(report.stderr).toMatch(new RegExp(`^${method} `, 'm'));
  });
});
