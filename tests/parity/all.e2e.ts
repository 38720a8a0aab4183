import { findExecutors } from './executors.js';
import { testParity } from './parity.js';
import { moreNetworks, parityNetworks } from './networks.js';
import { methodSubjects, networkSubjects } from './subjects.js';

const networks = await networkSubjects([...parityNetworks, ...moreNetworks]);
await testParity(await findExecutors('e2e'), (found) => [...methodSubjects(found), ...networks(found)]);
