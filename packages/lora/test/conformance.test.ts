import { testMethod } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';

testMethod(lora, {
  configs: {
    default: {},
    uneven: { r: 3, rankPattern: { value: 1 }, alphaPattern: { 'ffn.in': 4 }, useRslora: true, loraDropout: 0.2 },
    embeddings: { r: 3, targetModules: ['embeddings', 'query'], initLoraWeights: 'gaussian' },
    dora: { r: 3, useDora: true },
    pissa: { r: 2, initLoraWeights: 'pissa' },
    eva: { r: 2, initLoraWeights: 'eva' },
    'lora-fa': { r: 4, loraFa: true },
    'biases of adapted modules': { r: 2, bias: 'lora_only', loraBias: true, targetModules: ['query', 'ffn.in'] },
  },
  detached: { dora: "DoRA's norm" },
  budgets: { dora: [3], pissa: [4], 'biases of adapted modules': [4] },
  rewritten: ['initLoraWeights', 'useRslora'],
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { loraAlpha: 'much' }, field: 'loraAlpha' },
    { options: { loraDropout: 1 }, field: 'loraDropout' },
    { options: { bias: 'some' }, field: 'bias' },
    { options: { initLoraWeights: 'loftq' }, field: 'initLoraWeights' },
    { options: { initLoraWeights: 3 }, field: 'initLoraWeights' },
    { options: { initLoraWeights: 'pissa_niter_many' }, field: 'initLoraWeights' },
    { options: { rankPattern: { value: -1 } }, field: 'rankPattern.value' },
    { options: { alphaPattern: { value: Infinity } }, field: 'alphaPattern.value' },
    { options: { initLoraWeights: 'eva', evaConfig: { rho: 0.5 } }, field: 'evaConfig.rho' },
    { options: { initLoraWeights: 'lora_ga', loraGaConfig: { scale: 'much' } }, field: 'loraGaConfig.scale' },
    { options: { loraplusLrRatio: 0 }, field: 'loraplusLrRatio' },
    { options: { loraBias: true, useDora: true }, field: 'loraBias' },
    { options: { loraBias: true, initLoraWeights: 'olora' }, field: 'loraBias' },
    { options: { loraFa: true, useDora: true }, field: 'loraFa' },
    { options: { loraFa: true, initLoraWeights: 'orthogonal' }, field: 'loraFa' },
    { options: { r: 3, initLoraWeights: 'orthogonal' }, field: 'r' },
  ],
});
