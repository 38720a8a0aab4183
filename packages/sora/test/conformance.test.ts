import { testMethod } from '@peftjs/conformance';
import { sora } from '@peftjs/sora';

testMethod(sora, {
  configs: {
    default: {},
    // These lambdas are high enough to remove ranks within 16 steps, and all ranks of some modules.
    compacted: { r: 4, sparseLambda: 8, compactEvery: 4, loraDropout: 0.2 },
    'choosing, compacted': { r: 4, variant: 'choosing', sparseLambda: 24, compactEvery: 4 },
    uneven: { r: 3, rankPattern: { value: 2 }, alphaPattern: { 'ffn.in': 4 }, gateInit: 'ones' },
  },
  rewritten: ['r'],
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { sparseLambda: -1 }, field: 'sparseLambda' },
    { options: { thresholdMode: 'adaptive' }, field: 'thresholdMode' },
    { options: { proximal: 'hard' }, field: 'proximal' },
    { options: { gateInit: 'zeros' }, field: 'gateInit' },
    { options: { variant: 'best' }, field: 'variant' },
    { options: { separation: 'yes' }, field: 'separation' },
    { options: { l1Weight: -1 }, field: 'l1Weight' },
    { options: { loraDropout: 1 }, field: 'loraDropout' },
    { options: { rankPattern: { value: 0 } }, field: 'rankPattern.value' },
    { options: { budget: 0 }, field: 'budget' },
    { options: { selection: 'magnitude' }, field: 'selection' },
    { options: { compactEvery: 0.5 }, field: 'compactEvery' },
  ],
});
