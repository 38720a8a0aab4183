import { expect, it } from 'vitest';
import { program } from './main.js';

it('the help shows which arguments are required', async () => {
  const help = (await program()).helpInformation();
  expect(help).toContain('predict [options] <adapter> [text...]');
  expect(help).toContain('report [options] <folder>');
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
