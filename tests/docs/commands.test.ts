import { basename } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesBelow, textOf } from '../workspace/repository.js';
import { actionsOf } from './followed.js';
import { faultOf, type Place } from './our-commands.js';
import { commandsOf, started } from './typed.js';

/** The pages with commands, except those of starters, which are typed in another folder: create.test.ts has these. */
const pages = filesBelow('.').filter(
  (path) => path.endsWith('.md') && !path.includes('/templates/') && /^ *```(?:sh|bash|shell)$/m.test(textOf(path)),
);

/** Returns the faults of a page's commands. */
async function faultsOf(markdown: string): Promise<string[]> {
  const written = actionsOf(markdown).flatMap((action) => ('file' in action ? [basename(action.file)] : []));
  const place: Place = { written, made: new Set() };
  const faults: string[] = [];
  for (const command of await commandsOf(markdown)) {
    const fault = await faultOf(command, place);
    if (fault !== undefined) faults.push(fault);
  }
  return faults;
}

describe('every command on a page exists', () => {
  it.each(pages)('%s', async (page) => {
    expect(await faultsOf(textOf(page))).toEqual([]);
  });

  it.each([
    ['npx peft-bench run --out a --sedes 3', "unknown option '--sedes'"],
    ['npx peft-bench run --method head', '--out'],
    ['npx peft-bench run --out a --preset none', "--preset is 'none'"],
    ['npx peft-bench run --out a --method lora,none', 'there is no none'],
    ['npx peft-bench run --out a --task none', 'there is no none'],
    ['npx peft-bench train --out a --method lora --budget 4r', "--budget is '4r'"],
    ['npx peft-bench nothing', 'nothing'],
    ['npx tsx --conditions @peftjs/source tools/none.ts 3', 'there is no tools/none.ts'],
    ['npx vitest run packages/none', 'there is no packages/none'],
    ['npx nx g @peftjs/tools:none a', "no generator '@peftjs/tools:none'"],
    ["npx -p node@24 -c 'npx vitest run none'", 'there is no none'],
    ['npm run none', "no script 'none'"],
    ['npm create none a', 'there is no create-none'],
    ['npm create peftjs a -- --template none', "there is no starter 'none'"],
    ['npm install @peftjs/core @peftjs/none', 'nothing here depends on @peftjs/none'],
    ['node none.mjs', 'there is no none.mjs'],
    ['npx none', "npx finds no 'none' here"],
  ])('finds the fault of "%s"', async (line, fault) => {
    expect(await faultsOf(`\`\`\`sh\n${line}\n\`\`\`\n`)).toEqual([expect.stringContaining(fault)]);
  });
});

it('no page trains two adapters into one folder, by a command or a program', async () => {
  const twice = [];
  for (const page of pages) {
    const text = textOf(page);
    const commands = (await commandsOf(text)).filter((words) => words.includes('train') && words.includes('--out'));
    const folders = [
      ...commands.map((words) => words[words.indexOf('--out') + 1]),
      ...[...text.matchAll(/savePretrained\(peft, '([^']+)'/g)].map(([, folder]) => folder),
    ];
    if (commands.length > 0 && new Set(folders).size < folders.length) twice.push(page);
  }
  expect(twice).toEqual([]);
});

it('a shell expands loops, functions and variables, and starts nothing', async () => {
  const script = `
    run() { npx tsx "tools/$1.ts" "\${@:2}" | jq .; } # a function
    MODEL=$(venv/bin/python -c "print('a')")
    mkdir a && cd a
    for part in 0 1; do run perf --shard $part/2 >results/$part.json; done
    npx b --model $MODEL \\
      --name 'two words' > job.yaml`;
  expect((await started(script)).filter(([name]) => name === 'npx')).toEqual([
    ['npx', 'tsx', 'tools/perf.ts', '--shard', '0/2'],
    ['npx', 'tsx', 'tools/perf.ts', '--shard', '1/2'],
    ['npx', 'b', '--model', 'answer', '--name', 'two words'],
  ]);
});

it('the Kubernetes Job starts the shares that it has pods for, with options that exist', async () => {
  const job = textOf('examples/kubernetes-job.yaml');
  const shares = /^ {2}completions: (\d+)$/m.exec(job)?.[1];
  expect(job).toContain('command: [peft-bench, run]');
  const args = (/args: \[(.*)\]/.exec(job)?.[1] ?? '').replaceAll("'", '').split(', ');
  expect(args.at(-1)).toBe(`$(SHARD)/${shares}`);
  const command = ['npx', 'peft-bench', 'run', ...args.map((arg) => arg.replace('$(SHARD)', '0'))];
  expect(await faultOf(command, { written: [], made: new Set() })).toBeUndefined();
});
