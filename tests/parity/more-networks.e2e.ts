import { findExecutors } from './executors.js';
import { moreNetworks } from './networks.js';
import { testParity } from './parity.js';
import { networkSubjects } from './subjects.js';

await testParity(await findExecutors({ isOptional: false }), await networkSubjects(moreNetworks));
