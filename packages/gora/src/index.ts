import type { CallableMethod, LoraFileContents, Site } from '@peftjs/core/method';
import { moduleRank, rankMethod, rankPatterns, withRanksForBudget } from '@peftjs/core/ranks';
import { checked, goraOptions, type GoraConfig } from './config.js';
import { chosenRanks } from './ranks.js';
import { initialTensors } from './start.js';

/*
 * GoRA (He et al., 2025, arXiv 2502.12171), in row vectors. G [in, out] is the loss's gradient at W0, averaged over
 * some batches:
 *
 *   y  = x W0 + b + s (x A) B                      x [rows, in]   A [in, r]   B [r, out]
 *   s  = alpha / sqrt(r)                           r is the module's own rank, by the gradients: ranks.ts
 *   dW = s A B
 *   A  ~ U(-1/sqrt(in), 1/sqrt(in))                start
 *   B0 = -xi (A^T A)^-1 A^T G                      xi = gamma sqrt(in) / alpha: start.ts
 *
 * At the start dW = -gamma sqrt(in / r) P G, where P projects onto the columns of A: a step down the gradient with a
 * size of about gamma ||G|| for any r.
 */

/**
 * GoRA (He et al., 2025): LoRA that distributes ranks by the gradients over some batches and starts with a step down
 * these gradients.
 *
 * @example attach(model, gora(), { calibration: await calibrate(model, gora(), data, { executor }) })
 */
export const gora: CallableMethod<GoraConfig> = rankMethod<GoraConfig>({
  name: 'gora',
  identityAtInit: false,
  defaults: { r: 8, loraAlpha: 16 },
  options: goraOptions,
  complete: checked,
  calibration: ({ initLoraWeights }) => (initLoraWeights === 'gora' ? 'gradients' : null),
  ranks: chosenRanks,
  start(site, count, config, rng, init) {
    const gradient = config.initLoraWeights === 'gora' ? init?.calibrated('gradients', site.path) : undefined;
    return initialTensors(site, count, config, rng, gradient);
  },
  divisor: Math.sqrt,
  train: ({ loraplusLrRatio }) => ({ loraA: {}, loraB: { rateFactor: loraplusLrRatio } }),
  fitBudget,
  fromLora,
});

/** Sets the budget and its average rank. Adapts fewer modules if one rank for each is too much. */
function fitBudget(sites: readonly Site[], budget: number, config: GoraConfig): GoraConfig {
  const { rankPattern, ...fitted } = withRanksForBudget(sites, budget, config);
  return { ...fitted, budget, rankPattern: config.initLoraWeights === 'stored' ? rankPattern : {} };
}

/** Converts the alpha of a LoRA, which is divided by r, to one that is divided by sqrt(r). */
function fromLora(lora: Omit<LoraFileContents, 'values'>): Partial<GoraConfig> {
  const modules = Object.fromEntries(
    lora.targetModules.map((path) => {
      const { r, alpha } = moduleRank({ ...lora, alpha: lora.loraAlpha }, path);
      return [path, { r, alpha: Number((alpha / Math.sqrt(r)).toPrecision(12)) }];
    }),
  );
  const loraAlpha = Object.values(modules)[0]?.alpha ?? lora.loraAlpha;
  return { ...lora, loraAlpha, ...rankPatterns(modules, { r: lora.r, alpha: loraAlpha }), initLoraWeights: 'stored' };
}

export type { GoraConfig } from './config.js';
