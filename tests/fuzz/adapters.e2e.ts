import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const COUNT = 10_000;
/** The milliseconds after which a silent process counts as hanging. */
const SILENCE_MS = 10_000;
const MAX_BYTES = 500e6;
const LOOK_MS = 50;

const folder = mkdtempSync(join(tmpdir(), 'peftjs-fuzz-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Resident memory of a process; 0 if the system does not report it. */
function residentBytes({ pid }: ChildProcess): number {
  try {
    return 1024 * Number(/VmRSS:\s*(\d+)/.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/**
 * Runs a child until it ends, or kills it when it is silent or large. @returns what is wrong with it, '' for nothing
 */
async function watched(child: ChildProcess): Promise<string> {
  let [heard, problem, complaints] = [Infinity, '', '']; // a busy machine may need long to start the child
  child.stdout?.on('data', () => (heard = Date.now()));
  child.stderr?.on('data', (text) => (complaints += String(text)));
  const watch = setInterval(() => {
    const bytes = residentBytes(child);
    if (bytes > MAX_BYTES) problem ||= `has ${bytes} bytes`;
    if (Date.now() - heard > SILENCE_MS) problem ||= `is silent for ${SILENCE_MS} ms`;
    if (problem !== '') child.kill('SIGKILL');
  }, LOOK_MS);
  const [code] = (await once(child, 'close')) as [number | null];
  clearInterval(watch);
  return problem || (code === 0 ? '' : `ends with ${String(code)}: ${complaints}`);
}

describe('10,000 damaged copies are each read or rejected, in bounded time and memory', () => {
  it.each(['config', 'weights'])('%s', { timeout: 600_000 }, async (damaged) => {
    const file = join(folder, damaged);
    const flags = ['--expose-gc', '--max-old-space-size=384', '--import', 'tsx', '--conditions', '@peftjs/source'];
    const script = fileURLToPath(new URL('adapters-child.ts', import.meta.url));
    const child = spawn(process.execPath, [...flags, script, damaged, String(COUNT), '2', file]);
    const problem = await watched(child);
    expect(problem && `${problem}; on ${readFileSync(file).toString('base64').slice(0, 4000)}`).toBe('');
  });
});
