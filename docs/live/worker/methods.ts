import { adalora } from '@peftjs/adalora';
import type { TrainOptions } from '@peftjs/core';
import type { ConfiguredMethod, Controller } from '@peftjs/core/method';
import { lora } from '@peftjs/lora';
import { sora, type SoraConfig } from '@peftjs/sora';
import type { MethodName } from '../messages.js';

/** A configured method with its learning rates. */
export interface Recipe {
  readonly configured: ConfiguredMethod;
  readonly rates: Pick<TrainOptions, 'learningRate' | 'learningRates'>;
}

/** The number of ranks that each module starts with. */
const RANKS = 8;

/**
 * Returns the recipe of a method.
 * @param threshold returns the amount by which SoRA shrinks each gate at the current step
 */
export function recipeFor(name: MethodName, threshold: () => number): Recipe {
  switch (name) {
    case 'sora': {
      const configured = sora({ r: RANKS, thresholdMode: 'constant', sparseLambda: threshold() });
      return {
        configured: withThreshold(configured, threshold),
        rates: { learningRate: 2e-3, learningRates: { gate: 1e-2 } },
      };
    }
    case 'sora-auto':
      return {
        configured: sora({ r: RANKS, budget: 'auto' }),
        rates: { learningRate: 2e-3, learningRates: { gate: 1e-2 } },
      };
    case 'adalora': {
      const configured = adalora({ initR: RANKS, targetR: RANKS / 2, loraAlpha: 32, orthRegWeight: 0 });
      return { configured, rates: { learningRate: 4e-3 } };
    }
    case 'lora':
      return { configured: lora({ r: RANKS, loraAlpha: 16 }), rates: { learningRate: 2e-3 } };
  }
}

/** Returns SoRA with a threshold that is read at every step, so that a slider can change it during training. */
function withThreshold({ method, config }: ConfiguredMethod<SoraConfig>, threshold: () => number): ConfiguredMethod {
  const controller = (): Controller => ({
    scalars: () => ({ threshold: threshold() }),
    reads: () => [],
    afterStep: () => undefined,
    holdsBudget: () => true,
    snapshot: () => ({}),
    restore: () => undefined,
  });
  return { config, method: { ...method, controller } };
}
