export { bitfit, type BitfitConfig } from './bitfit.js';
export type { BottleneckConfig } from './bottleneck/config.js';
export type { NonLinearity } from './bottleneck/layer.js';
export { full, type FullConfig } from './full.js';
export { head, type HeadConfig } from './head.js';
export { houlsby } from './houlsby.js';
export { ia3, type Ia3Config } from './ia3.js';
export { pfeiffer } from './pfeiffer.js';
