import { packageBuild } from '../../tsup.shared.js';

const doors = [
  'src/index.ts',
  'src/method.ts',
  'src/ranks.ts',
  'src/model.ts',
  'src/linalg.ts',
  'src/runtime.ts',
  'src/losses/index.ts',
  'src/nn/index.ts',
];

export default packageBuild([...doors, 'src/registrations.js'], {
  external: ['#registrations'], // the name that package.json gives them
  noExternal: [/^@tensorflow\/tfjs-core\/dist\//], // Node cannot read these modules
});
