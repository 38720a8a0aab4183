import {
  biasLayers,
  defineMethod,
  layersByPath,
  type AdapterLayer,
  type AdapterLayers,
  type CallableMethod,
  type Init,
  type Site,
} from '@peftjs/core/method';
import { fitBudget } from './budget.js';
import { parseOftConfig, type OftConfig } from './config.js';
import { oftFile, readOftFile } from './file.js';
import { oftLayer } from './layer.js';

/**
 * OFT (Qiu et al., 2023): rotates a module's input in blocks of features, and adds nothing to its weight.
 *
 * @example attach(model, oft({ oftBlockSize: 32 }))
 */
export const oft: CallableMethod<OftConfig> = defineMethod<OftConfig>({
  name: 'oft',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear', 'embedding'] },
  parseConfig: parseOftConfig,
  fitBudget,
  adapt,
  peftTypes: ['OFT'],
  readByPeft: ['OFT'],
  toFile: oftFile,
  fromFile: readOftFile,
});

function adapt(sites: readonly Site[], config: OftConfig, init: Init): AdapterLayers {
  const layer = (site: Site): AdapterLayer => oftLayer(site, config, init.rng.fork(site.path), init.frozen(site.path));
  const adapted = layersByPath(sites.map(layer));
  return config.bias === 'all' ? { ...adapted, ...biasLayers(adapted, init) } : adapted;
}

export type { OftConfig } from './config.js';
