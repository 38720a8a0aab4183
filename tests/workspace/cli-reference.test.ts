import { expect, it } from 'vitest';
import { filesBelow, textOf } from './repository.js';

const page = textOf('docs/reference/cli.md');
const commands = filesBelow('packages/bench/src/commands').map(textOf).join('\n');

/** The first group of each match, sorted, without repetitions. */
function found(text: string, pattern: RegExp): string[] {
  return [...new Set([...text.matchAll(pattern)].map(([, name]) => name ?? ''))].sort();
}

it('docs/reference/cli.md describes each command of peft-bench, and no other', () => {
  const declared = found(commands, /\.command\('([a-z]+)'\)/g);
  expect(declared).toContain('run');
  expect(found(page, /^\| `([a-z]+)\b/gm)).toEqual(declared);
});

it('docs/reference/cli.md describes each option of peft-bench, and no other', () => {
  const declared = found(commands, /ption\(\s*'(--[a-z-]+)/g);
  expect(declared).toContain('--budget');
  expect(found(page, /(--[a-z][a-z-]*)/g)).toEqual(declared);
});
