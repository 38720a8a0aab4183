import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const folder = fileURLToPath(new URL('../../.github/workflows', import.meta.url));
const used = readdirSync(folder).flatMap((file) =>
  [...readFileSync(join(folder, file), 'utf8').matchAll(/\buses: +(.+)/g)].map(
    ([, action = '']) => [file, action] as const,
  ),
);

describe('workflows', () => {
  it.each(used)('%s pins %s by its commit, and names its version', (_, action) => {
    expect(action).toMatch(/@[0-9a-f]{40} # v\d+\.\d+\.\d+$/); // a tag can be moved
  });
});
