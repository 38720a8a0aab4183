import {
  biasLayer,
  defineMethod,
  fileFormat,
  layersByPath,
  parseOptions,
  targetEntries,
  type CallableMethod,
  type Site,
  type TargetConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';
import { placed, withTargets, type PlacementRule } from './placement.js';

/** The options of BitFit. */
export interface BitfitConfig extends TargetConfig {
  /**
   * Which biases are trained if `targetModules` is not set. `'all'`: all in the transformer layers, including layer
   * norms; `'opendelta'`: all but that of the first feed-forward module, which is what OpenDelta's names match in
   * DeBERTa. Default 'all'.
   */
  readonly biases: 'all' | 'opendelta';
}

const entries = { ...targetEntries, biases: v.optional(v.picklist(['all', 'opendelta']), 'all') };

/**
 * BitFit (Ben Zaken et al., 2022, arXiv 2106.10199): trains only b of y = x W0 + b. Biases of embeddings, pooler and
 * head are excluded.
 *
 * @example attach(model, bitfit())
 */
export const bitfit: CallableMethod<BitfitConfig> = defineMethod<BitfitConfig>({
  name: 'bitfit',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear', 'layerNorm'] },
  defaultLearningRate: 3e-3,
  parseConfig: (input): BitfitConfig => withTargets(parseOptions('bitfit', entries, input)),
  adapt: (sites, config, { frozen }) =>
    layersByPath(biasSites(sites, config).map((site) => biasLayer(site, frozen(site.path), 'default'))),
  ...fileFormat<BitfitConfig>({ peftType: 'BITFIT', tensors: { bias: ['.bias', 'out'] } }), // as in the model
});

function biasSites(sites: readonly Site[], config: BitfitConfig): readonly Site[] {
  const left = config.biases === 'opendelta' ? 'ffn.in' : undefined;
  const rule: PlacementRule = {
    picks: ({ layer, role }) => layer !== undefined && role !== left,
    words: 'with a bias in a transformer layer',
  };
  const biased = sites.filter(({ hasBias }) => hasBias);
  return placed(biased, config, rule);
}
