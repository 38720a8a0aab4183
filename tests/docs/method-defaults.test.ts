import { HEAD_LEARNING_RATE, LEARNING_RATE } from '@peftjs/core/runtime';
import { methods } from 'peftjs';
import { expect, it } from 'vitest';
import { filesBelow, textOf } from '../workspace/repository.js';

/** Returns the text of a section of the command-line reference. */
function sectionOf(title: string): string {
  const [, section = ''] = textOf('docs/reference/cli.md').split(`### ${title}\n`);
  return section.split('\n### ')[0] ?? '';
}

it('the command-line reference lists the default learning rate of every method', () => {
  const rows = [...sectionOf('Default learning rates').matchAll(/^\| (`.+`|all others) +\| +([\d.]+) \|$/gm)];
  const shown = new Map(rows.flatMap(([, names = '', rate]) => names.split(', ').map((name) => [name, Number(rate)])));
  const others = shown.get('all others');
  const rates = methods.map(({ name, defaultLearningRate = LEARNING_RATE }) => [name, defaultLearningRate]);
  expect(methods.map(({ name }) => [name, shown.get(`\`${name}\``) ?? others])).toEqual(rates);
});

it('the command-line reference lists the options for short runs of every method that has some', () => {
  const shown = [...sectionOf('Default options').matchAll(/`([a-z-]+)`\s+has\s+((?:`\w+: \d+`(?: and )?)+)/g)].map(
    ([, name, options = '']) => [name, options.match(/\w+: \d+/g)],
  );
  const recommended = methods.flatMap(({ name, shortRunOptions }) =>
    shortRunOptions
      ? [[name, Object.entries(shortRunOptions).map(([option, value]) => `${option}: ${JSON.stringify(value)}`)]]
      : [],
  );
  expect(shown).toEqual(recommended);
});

it('the page that helps to choose lists the default learning rates', () => {
  const rates = new Map<string, number>(
    methods.map(({ name, defaultLearningRate = LEARNING_RATE }) => [name, defaultLearningRate]),
  );
  rates.set('head', HEAD_LEARNING_RATE);
  const [, table = ''] = textOf('docs/guides/choose.md').split('## Methods\n');
  const rows = table.split('\n').filter((line) => line.startsWith('| [`'));
  const shown = rows.flatMap((row) => {
    const [, names = '', , , rate] = row.split('|');
    return [...names.matchAll(/`([a-z0-9-]+)`/g)].map(([, name = '']) => [name, Number(rate)]);
  });
  expect(shown).toEqual(shown.map(([name]) => [name, rates.get(String(name))]));
  expect(shown.length).toBeGreaterThan(8);
});

/** Where a program names a learning rate nevertheless. */
const NAMED: Readonly<Record<string, string>> = {
  'docs/benchmarks/defaults.md': 'a study file',
  'docs/contributing/add-a-method.md': 'the toy of the conformance suite',
  'docs/reference/training.md': 'shows the option',
  'examples/chat-tools.ts': 'a language model',
  'examples/chat.ts': 'a language model',
  'examples/gguf.ts': 'a language model',
  'examples/own-model.ts': 'BERT-base',
  'examples/preferences.ts': 'a language model',
  'examples/sora.ts': 'gates in runs of a few epochs',
  'examples/train-method.ts': 'a method without a default',
  'packages/bench/README.md': 'a study file',
  'packages/conformance/README.md': 'the toy of the conformance suite',
  'packages/sora/README.md': "the paper's scripts",
};

it('pages and examples leave the learning rate to the method', () => {
  const programs = [
    'README.md',
    ...filesBelow('docs').filter((path) => path.endsWith('.md')),
    ...filesBelow('packages').filter((path) => path.endsWith('/README.md')),
    ...filesBelow('examples').filter((path) => /^examples\/[^/]+(?<!\.test)\.ts$/.test(path)),
  ];
  const naming = programs.filter((path) => /\blearningRate"?: \d/.test(textOf(path)));
  expect(naming.sort()).toEqual(Object.keys(NAMED));
});
