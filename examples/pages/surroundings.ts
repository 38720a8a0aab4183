// The environment of code blocks: an empty folder, and a recorded console.
import { afterAll, beforeAll, onTestFinished, vi, type MockInstance } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';

/** The tests of a file run in an empty folder. */
export function useFolder(): void {
  const before = process.cwd();
  const folder = temporaryFolder();
  beforeAll(() => {
    process.chdir(folder);
  });
  afterAll(() => {
    process.chdir(before);
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
