import { packageBuild } from '../../tsup.shared.js';

export default packageBuild(['src/registrations.js'], {
  external: ['#registrations'], // the name that package.json gives them
  noExternal: [/^@tensorflow\/tfjs-core\/dist\//], // Node cannot read these modules
});
