import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, onTestFinished } from 'vitest';

/**
 * Returns the path of an empty folder of the calling file, or of the `describe` that calls this. It is made before the
 * tests and the hooks that stand below the call, and removed after all of them.
 */
export function temporaryFolder(): string {
  const folder = join(realpathSync(tmpdir()), `peftjs-${randomUUID()}`);
  beforeAll(() => {
    mkdirSync(folder);
  });
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

/** Makes an empty folder for the running test, also from its `beforeEach`. It is removed after the test and its hooks. */
export function folderOfTest(): string {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'peftjs-'));
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}
