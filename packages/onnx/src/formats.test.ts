import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

it('naming the formats loads nothing of the reader', () => {
  const source = readFileSync(new URL('formats.ts', import.meta.url), 'utf8');
  expect(source.match(/^import .*/gm)?.filter((line) => !line.startsWith('import type'))).toEqual([]);
});
