import { expect, it } from 'vitest';
import { filesBelow, textOf } from './repository.js';

const page = textOf('docs/reference/cli.md');
const [introduction = ''] = page.split('\n## ');
/** Workers and manifests have a page of their own. */
const scaleOut = textOf('docs/reference/scale-out.md');
const commands = ['packages/bench/src/cli.ts', ...filesBelow('packages/bench/src/commands')].map(textOf).join('\n');

/** The first group of each match, sorted, without repetitions. */
function found(text: string, pattern: RegExp): string[] {
  return [...new Set([...text.matchAll(pattern)].map(([, name]) => name ?? ''))].sort();
}

it('docs/reference/cli.md describes each command of peft-bench, and no other', () => {
  const declared = found(commands, /\.command\('([a-z]+)'\)/g);
  expect(declared).toContain('run');
  expect(found(introduction, /^\| `([a-z]+)\b/gm)).toEqual(declared);
});

it('docs/reference/cli.md and scale-out.md describe each option of peft-bench, cli.md no other', () => {
  const option = /(--[a-z][a-z-]*)/g;
  const declared = found(commands, /(?:ption\(\s*|version\(\w+, )'(--[a-z-]+)/g);
  expect(declared).toContain('--budget');
  expect(found(page + scaleOut, option)).toEqual(expect.arrayContaining(declared));
  expect(declared).toEqual(expect.arrayContaining(found(page, option)));
});
