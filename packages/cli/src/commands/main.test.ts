import { expect, it } from 'vitest';
import { program } from './main.js';

it('the help shows which arguments are required', async () => {
  const help = (await program()).helpInformation();
  expect(help).toContain('predict [options] <adapter> [text...]');
  expect(help).toContain('report [options] <folder>');
});
