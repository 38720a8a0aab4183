export { attachLayers, detachLayers, loadLayers, mergeLayers, type LayersOptions } from './layers.js';
export type { FitOptions } from './run.js';
