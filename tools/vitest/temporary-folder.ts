import { randomUUID } from 'node:crypto';
import { mkdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';

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
