import { findExecutors } from './executors.js';
import { testParity } from './parity.js';
import { methodSubjects } from './subjects.js';

await testParity(await findExecutors('test'), methodSubjects);
