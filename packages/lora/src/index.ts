import { defineMethod, type AdapterLayers, type CallableMethod, type Init, type Site } from '@peftjs/core';
import { biasLayers } from './bias.js';
import { fittedToBudget } from './budget.js';
import { parseLoraConfig, type LoraConfig } from './config.js';
import { LORA_GA, loraAdapterFile, readLoraAdapterFile } from './file.js';
import { startsOf } from './starts.js';
import { loraLayer } from './variants.js';

/**
 * LoRA: a frozen weight is changed by the product of two thin matrices (Hu et al., 2021), with its variants as options.
 *
 * @example attach(model, lora({ r: 8, targetModules: 'all-linear' }))
 */
export const lora: CallableMethod<LoraConfig> = defineMethod<LoraConfig>({
  name: 'lora',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear', 'embedding'] },
  parseConfig: parseLoraConfig,
  calibration: ({ evaConfig, loraGaConfig }) => (evaConfig ? 'activations' : loraGaConfig ? 'gradients' : null),
  fitBudget: fittedToBudget,
  adapt,
  peftTypes: ['LORA', LORA_GA],
  toFile: loraAdapterFile,
  fromFile: readLoraAdapterFile,
});

function adapt(sites: readonly Site[], config: LoraConfig, init: Init): AdapterLayers {
  const starts = startsOf(sites, config, init);
  const adapted = Object.fromEntries(
    sites.flatMap((site) => {
      const start = starts[site.path];
      return start ? [[site.path, loraLayer(site, config, start, init.frozen(site.path))]] : [];
    }),
  );
  return config.bias === 'all' ? { ...adapted, ...biasLayers(adapted, config, init) } : adapted;
}

export { truncatedLora } from './truncated/method.js';
export type { TruncatedLoraConfig } from './truncated/config.js';
export type { EvaConfig, InitLoraWeights, LoraConfig, LoraGaConfig } from './config.js';
