import { expect, it } from 'vitest';
import { program } from '../../packages/cli/src/commands/main.js';
import { textOf } from './repository.js';

const page = textOf('docs/reference/cli.md');
const [introduction = ''] = page.split('\n## ');
/** Workers have a page of their own. */
const scaleOut = textOf('docs/reference/scale-out.md');
const bench = await program();

/** The first group of each match, sorted, without repetitions. */
function found(text: string, pattern: RegExp): string[] {
  return [...new Set([...text.matchAll(pattern)].map(([, name]) => name ?? ''))].sort();
}

it('docs/reference/cli.md describes each command of peft-bench, and no other', () => {
  const declared = bench.commands.map((command) => command.name()).sort();
  expect(declared).toContain('run');
  expect(found(introduction, /^\| `([a-z]+)\b/gm)).toEqual(declared);
});

it('docs/reference/cli.md and scale-out.md describe each option of peft-bench, cli.md no other', () => {
  const option = /(--[a-z][a-z-]*)/g;
  const declared = [bench, ...bench.commands].flatMap(({ options }) => options.map(({ long }) => long));
  expect(declared).toContain('--budget');
  expect(found(page + scaleOut, option)).toEqual(expect.arrayContaining(declared));
  expect(declared).toEqual(expect.arrayContaining(found(page, option)));
});
