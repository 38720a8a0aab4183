import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const child = fileURLToPath(new URL('worker-child.ts', import.meta.url));

/** The output of a process, which must end by itself and print nothing on stderr. */
async function printed(task: string): Promise<unknown> {
  const flags = ['--import', 'tsx', '--conditions', '@peftjs/source', '--expose-gc'];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [...flags, child, task], { timeout: 100_000 });
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

describe('a process whose graphs run in a thread', () => {
  it('waits for its runs, and ends by itself with open values and sessions', async () => {
    expect(await printed('exit')).toEqual([2, 4]);
  });

  it('exits in the middle of a run', async () => {
    expect(await printed('busy')).toBe('exits');
  });

  it('does not grow by released or unreachable values', async () => {
    expect(await printed('memory')).toBeLessThan(300); // of 1024 MB
  });

  it('ends the thread when all its objects are unreachable', async () => {
    expect(await printed('end')).toBe(0);
  });
});
