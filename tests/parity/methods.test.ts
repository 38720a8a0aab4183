import { oneOfEachFamily, parityMethods } from './methods.js';
import { testParity } from './parity.js';
import { methodSubject } from './subjects.js';

await testParity(({ cases }) => (cases === 'all' ? parityMethods : oneOfEachFamily).map(methodSubject));
