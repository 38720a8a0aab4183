import { adalora } from '@peftjs/adalora';
import type { TrainOptions } from '@peftjs/core';
import type { ConfiguredMethod, Controller } from '@peftjs/core/method';
import { lora } from '@peftjs/lora';
import { sora, type SoraConfig } from '@peftjs/sora';
import type { MethodName } from '../messages.js';

/** A method with the rates it is trained at. */
export interface Recipe {
  readonly configured: ConfiguredMethod;
  readonly rates: Pick<TrainOptions, 'learningRate' | 'learningRates'>;
}

/** Ranks that every module starts with. */
const RANKS = 8;

/** @param threshold what SoRA takes from every gate at the step that is being taken */
export function recipeFor(name: MethodName, threshold: () => number): Recipe {
  switch (name) {
    case 'sora': {
      const configured = sora({ r: RANKS, thresholdMode: 'constant', sparseLambda: threshold() });
      return {
        configured: steered(configured, threshold),
        rates: { learningRate: 2e-3, learningRates: { gate: 1e-2 } },
      };
    }
    case 'sora-auto':
      return {
        configured: sora({ r: RANKS, budget: 'auto' }),
        rates: { learningRate: 2e-3, learningRates: { gate: 1e-2 } },
      };
    case 'adalora': {
      const configured = adalora({ initR: RANKS, targetR: RANKS / 2, loraAlpha: 32, orthRegWeight: 0.1 });
      return { configured, rates: { learningRate: 4e-3 } };
    }
    case 'lora':
      return { configured: lora({ r: RANKS, loraAlpha: 16 }), rates: { learningRate: 2e-3 } };
  }
}

/** SoRA with a threshold that is asked for anew at every step, so that a slider moves it while it trains. */
function steered({ method, config }: ConfiguredMethod<SoraConfig>, threshold: () => number): ConfiguredMethod {
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
