import { packageBuild } from '../../tsup.shared.js';

const doors = ['src/index.ts', 'src/method.ts', 'src/runtime.ts', 'src/nn/index.ts', 'src/testing/index.ts'];

/** `gradients` is bundled with what it imports of tfjs-core, and imported by the name that package.json gives it. */
export default {
  ...packageBuild([...doors, 'src/gradients.ts'], doors),
  external: ['#gradients'],
  noExternal: [/register_all_gradients/],
};
