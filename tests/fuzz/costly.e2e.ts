import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { costly } from './costly.js';
import { TYPESCRIPT } from './watched.js';

interface Cost {
  /** What became of each file. */
  readonly outcomes: readonly string[];
  /** The most memory of the process beyond that of its start, in bytes. It includes that of making the files. */
  readonly growth: number;
  /** The time that the processor was busy. */
  readonly seconds: number;
}

/** What the costly files of a reader cost in a process of their own. */
function costOf(...args: readonly string[]): Cost {
  const child = fileURLToPath(new URL('costly-child.ts', import.meta.url));
  const { stdout, stderr } = spawnSync(process.execPath, ['--expose-gc', ...TYPESCRIPT, child, ...args], {
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  return JSON.parse(stdout) as Cost;
}

const BYTES = 16e6;

it.each([...new Set(costly.map(([reader]) => reader))])(
  'files of 16 MB of as many parts as possible cost a few times as much memory: %s',
  { timeout: 300_000 },
  (reader) => {
    const { growth, outcomes } = costOf(reader, String(BYTES));
    expect(growth, outcomes.join('\n')).toBeLessThan(30 * BYTES);
  },
);

it('an ONNX file of 40 MB of empty fields is refused within 5 seconds and 500 MB', { timeout: 300_000 }, () => {
  const { growth, outcomes, seconds } = costOf('ONNX', String(40e6), 'fields that nobody reads');
  expect(outcomes).toEqual([expect.stringContaining('expected an ONNX model: the file has no graph')]);
  expect(seconds).toBeLessThan(5);
  expect(growth).toBeLessThan(500e6);
});
