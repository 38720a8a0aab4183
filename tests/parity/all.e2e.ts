import { findExecutors, type Found } from './executors.js';
import { measureOnce, testParity } from './parity.js';
import { moreNetworks, parityNetworks } from './networks.js';
import { testRecomputed } from './recomputed.js';
import { methodSubjects, networkSubjects } from './subjects.js';

const networks = await networkSubjects([...parityNetworks, ...moreNetworks]);
const subjectsFor = (found: Found) => [...methodSubjects(found), ...networks(found)];
const executors = await findExecutors('e2e');
const measured = measureOnce();
await testParity(executors, subjectsFor, measured);
for (const found of executors.filter(({ name }) => name.startsWith('compiled'))) {
  testRecomputed(found, found.cases === 'all' ? subjectsFor(found) : networks(found), measured);
}
