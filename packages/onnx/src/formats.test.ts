import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

it.each(['formats.ts', 'graph-formats.ts'])('naming the formats loads nothing of the reader: %s', (file) => {
  const source = readFileSync(new URL(file, import.meta.url), 'utf8');
  const loaded = Array.from(source.matchAll(/^import (?!type).* from '(.*)';$/gm), ([, name]) => name);
  expect(loaded).toEqual(file === 'formats.ts' ? ['./graph-formats.js'] : []);
});
