import { findExecutors } from './executors.js';
import { testParity } from './parity.js';
import { methodSubjects, networkSubjects } from './subjects.js';

const networks = await networkSubjects();
await testParity(await findExecutors({ isOptional: true }), (found) => [...methodSubjects(found), ...networks(found)]);
