import { onWarning } from '@peftjs/core';
import { expect, it, onTestFinished } from 'vitest';
import { program } from './main.js';

it('the help shows which arguments are required', async () => {
  const help = (await program()).helpInformation();
  expect(help).toContain('predict [options] <adapter> [text...]');
  expect(help).toContain('report [options] <folder>');
});

it('the help of train asks for one method, budget and task, that of run for several; both name every format', async () => {
  const { commands } = await program();
  const [train = '', run = ''] = ['train', 'run'].map((name) =>
    commands
      .find((command) => command.name() === name)
      ?.helpInformation()
      .replace(/\s+/g, ' '),
  );
  for (const flag of ['--method <name>', '--budget <budget>', '--task <name>']) {
    expect(train).toContain(`${flag} `);
    expect(run).toContain(flag.replace('>', 's> '));
  }
  expect(train).not.toContain('separated by commas');
  for (const format of [
    'TSV',
    'CSV',
    'JSONL',
    'Parquet',
    'CoNLL',
    '.txt',
    'score',
    'negative',
    'messages',
    'rejected',
  ]) {
    for (const help of [train, run]) expect(help.slice(0, help.indexOf('--model'))).toContain(format);
  }
});

it('the help of a command begins with what most users need, and ends with an example', async () => {
  const helps = new Map<string, string>();
  for (const command of (await program()).commands) {
    command.configureOutput({
      writeOut: (text) => helps.set(command.name(), (helps.get(command.name()) ?? '') + text),
    });
    command.outputHelp();
  }
  expect([...helps.keys()]).toEqual(['train', 'predict', 'export', 'inspect', 'doctor', 'run', 'report', 'worker']);
  for (const [name, help] of helps) expect(help).toMatch(new RegExp(`\nExample:\n  \\S+ ${name}\\b`));
  for (const name of ['train', 'run']) {
    const [first, second] = [...(helps.get(name) ?? '').matchAll(/^(\w[\w ]*):$/gm)].map(([, group]) => group);
    expect([first, second]).toEqual(['Most used', 'Your data']);
  }
});

it('a list that is given twice is warned of', async () => {
  const warnings: string[] = [];
  onTestFinished(onWarning((line) => warnings.push(line)));
  const line = 'run --task reviews --task mine'; // without --out
  await expect((await program()).parseAsync(line.split(' '), { from: 'user' })).rejects.toThrow('--out');
  expect(warnings).toEqual(['--task is given twice, and only the last counts: separate values by commas']);
});
