import { expect, it } from 'vitest';
import { program } from './main.js';

it('the help shows which arguments are required', () => {
  const help = program().helpInformation();
  expect(help).toContain('predict [options] <adapter> [text...]');
  expect(help).toContain('report [options] <folder>');
});
