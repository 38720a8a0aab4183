import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { drawn } from './drawn.js';
import { startChild, watched } from './watched.js';

const COUNT = drawn(10_000);

const folder = temporaryFolder();

describe('damaged copies are each read or rejected, in bounded time and memory', () => {
  it.each(['config', 'weights'])('%s', { timeout: 600_000 }, async (damaged) => {
    const file = join(folder, damaged);
    const script = new URL('adapters-child.ts', import.meta.url);
    const { problem } = await watched(startChild(script, [damaged, String(COUNT), '2', file]));
    expect(problem && `${problem}; on ${readFileSync(file).toString('base64').slice(0, 4000)}`).toBe('');
  });
});
