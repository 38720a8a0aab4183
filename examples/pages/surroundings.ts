// The environment of code blocks: an empty folder, and a recorded console.
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, onTestFinished, vi, type MockInstance } from 'vitest';

/** The tests of a file run in an empty folder. */
export function useFolder(): void {
  const before = process.cwd();
  let folder = '';
  beforeAll(async () => {
    folder = await realpath(await mkdtemp(join(tmpdir(), 'peftjs-pages-')));
    process.chdir(folder);
  });
  afterAll(async () => {
    process.chdir(before);
    await rm(folder, { recursive: true });
  });
}

/** Records what a test prints; the console stays silent until the test ends. */
export function heard(method: 'log' | 'error'): MockInstance {
  const spy = vi.spyOn(console, method).mockImplementation(() => undefined);
  onTestFinished(() => {
    spy.mockRestore();
  });
  return spy;
}
