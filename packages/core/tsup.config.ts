import { packageBuild } from '../../tsup.shared.js';

export default packageBuild(['src/index.ts', 'src/method.ts', 'src/runtime.ts', 'src/nn/index.ts']);
