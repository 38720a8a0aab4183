import { findExecutor } from './executors.js';
import { moreNetworks, parityNetworks } from './networks.js';
import { testRecomputed } from './recomputed.js';
import { methodSubjects, networkSubjects } from './subjects.js';

const networks = await networkSubjects([...parityNetworks, ...moreNetworks]);
for (const name of ['compiled on the CPU', 'compiled on WebGPU', 'compiled on WebAssembly']) {
  const found = await findExecutor(name);
  testRecomputed(found, found.cases === 'all' ? [...methodSubjects(found), ...networks(found)] : networks(found));
}
