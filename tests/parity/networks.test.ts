import { readdir } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { variants } from '../models/tiny.js';
import { findExecutors } from './executors.js';
import { moreNetworks, parityNetworks } from './networks.js';
import { testParity } from './parity.js';
import { networkSubjects } from './subjects.js';

const subjects = await networkSubjects();

await testParity(await findExecutors('test'), subjects);

it('has a case for every network with weights', async () => {
  const folders = await readdir(new URL('../models/fixtures/', import.meta.url));
  const all = folders.filter((folder) => folder.endsWith('-tiny')).map((folder) => folder.replace('-tiny', ''));
  const networks = all.filter((name) => !(variants as readonly string[]).includes(name));
  const cases = [...parityNetworks, ...moreNetworks];
  expect(cases.map(({ name }) => name.split(' ')[0])).toEqual(expect.arrayContaining(networks));
});
