import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { writeLargeCheckpoint } from './large-checkpoint.js';

const folder = temporaryFolder();

/** The memory that loading a folder takes, in a separate process. */
function loaded(path: string, way = '', dtype = 'fp32'): { readonly weights: number; readonly peak: number } {
  const child = fileURLToPath(new URL('memory-child.ts', import.meta.url));
  const flags = ['--expose-gc', '--import', 'tsx', '--conditions', '@peftjs/source'];
  const { stdout, stderr } = spawnSync(process.execPath, [...flags, child, path, way, dtype], { encoding: 'utf8' });
  expect(stderr).toBe('');
  return JSON.parse(stdout) as { weights: number; peak: number };
}

describe('200 MB of weights are never in memory twice', () => {
  it.each(['F32', 'BF16'] as const)('from a %s file', async (dtype) => {
    const path = join(folder, dtype);
    const bytes = await writeLargeCheckpoint(path, dtype);
    expect(bytes).toBeGreaterThan(200e6);
    const { weights: held, peak } = loaded(path);
    expect(held).toBe(bytes);
    expect(peak / held).toBeGreaterThan(0.99);
    expect(peak / held).toBeLessThan(1.3);
  });

  it.each([
    ['q8', 0.5],
    ['q4', 0.4],
  ] as const)('and never in memory at all as %s, which is filled piece by piece', async (dtype, share) => {
    const path = join(folder, 'BF16');
    const bytes = await writeLargeCheckpoint(path, 'BF16');
    expect(loaded(path, '', dtype).peak / bytes).toBeLessThan(share);
  });

  it('this test would notice: a storage that reads whole files takes twice as much', async () => {
    const path = join(folder, 'F32');
    await writeLargeCheckpoint(path, 'F32');
    const { weights: held, peak } = loaded(path, 'whole');
    expect(peak / held).toBeGreaterThan(1.8);
  });
});
