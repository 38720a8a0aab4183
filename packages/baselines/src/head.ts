import { defineMethod, parseOptions, targetEntries, type CallableMethod, type TargetConfig } from '@peftjs/core/method';

/**
 * The options of the head-only baseline. `modulesToSave` names modules that are fully trained in addition to the head.
 */
export type HeadConfig = TargetConfig;

/**
 * The head-only baseline: trains the task head on a frozen network. Every adapter should score higher.
 *
 * The training of a text classifier computes the features of each text once, unless the network has dropout, and keeps
 * them in memory: texts x width floats.
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
