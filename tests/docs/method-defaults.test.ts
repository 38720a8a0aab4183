import { methods } from 'peftjs';
import { expect, it } from 'vitest';
import { textOf } from '../workspace/repository.js';

/** Returns the text of a section of the command-line reference. */
function sectionOf(title: string): string {
  const [, section = ''] = textOf('docs/reference/cli.md').split(`### ${title}\n`);
  return section.split('\n### ')[0] ?? '';
}

it('the command-line reference lists the default learning rate of every method', () => {
  const rows = [...sectionOf('Default learning rates').matchAll(/^\| (`.+`|all others) +\| +([\d.]+) \|$/gm)];
  const shown = new Map(rows.flatMap(([, names = '', rate]) => names.split(', ').map((name) => [name, Number(rate)])));
  const others = shown.get('all others');
  const rates = methods.map(({ name, defaultLearningRate = 1e-3 }) => [name, defaultLearningRate]);
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
