export { bitfit, type BitfitConfig } from './bitfit.js';
export type { BottleneckConfig } from './bottleneck.js';
export type { NonLinearity } from './bottleneck.js';
export { full, type FullConfig } from './full.js';
export { head, type HeadConfig } from './head.js';
export { houlsby } from './bottleneck.js';
export { ia3, type Ia3Config } from './ia3.js';
export { pfeiffer } from './bottleneck.js';
