import { methods } from 'peftjs';
import { expect, it } from 'vitest';
import { textOf } from '../workspace/repository.js';

it('the command-line reference lists the default learning rate of every method', () => {
  const [, section = ''] = textOf('docs/reference/cli.md').split('### Default learning rates\n');
  const rows = [...(section.split('\n### ')[0] ?? '').matchAll(/^\| (`.+`|all others) +\| +([\d.]+) \|$/gm)];
  const shown = new Map(rows.flatMap(([, names = '', rate]) => names.split(', ').map((name) => [name, Number(rate)])));
  const others = shown.get('all others');
  const rates = methods.map(({ name, defaultLearningRate = 1e-3 }) => [name, defaultLearningRate]);
  expect(methods.map(({ name }) => [name, shown.get(`\`${name}\``) ?? others])).toEqual(rates);
});
