import { defineMethod, parseOptions, targetEntries, type CallableMethod, type TargetConfig } from '@peftjs/core/method';

/** Options of the head-only baseline: the modules to train whole beside the head. */
export type HeadConfig = TargetConfig;

/**
 * Trains the task head alone, on a frozen network: what every adapter has to beat.
 *
 * @example attach(model, head())
 */
export const head: CallableMethod<HeadConfig> = defineMethod<HeadConfig>({
  name: 'head',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: [] },
  parseConfig: (input): HeadConfig => parseOptions('head', targetEntries, input),
  adapt: () => ({}),
  peftTypes: ['HEAD'],
  toFile: () => ({ config: { peft_type: 'HEAD', target_modules: [] }, tensors: {} }),
  fromFile: () => ({ config: {}, values: {} }),
});
