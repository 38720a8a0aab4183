// More of conformance.test.ts: the other initial values, and combinations of options.
import { testMethod } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';

const norm = "DoRA's norm";

testMethod(lora, {
  configs: {
    random: { r: 2, initLoraWeights: false, loraplusLrRatio: 4 },
    orthogonal: { r: 4, initLoraWeights: 'orthogonal' },
    'dora of embeddings': { r: 2, targetModules: ['embeddings', 'value'], useDora: true, loraDropout: 0.1 },
    'pissa with dora': { r: 2, initLoraWeights: 'pissa_niter_4', useDora: true },
    olora: { r: 3, initLoraWeights: 'olora', loraAlpha: 3 },
    'lora-ga': { r: 2, initLoraWeights: 'lora_ga' },
    'lora-ga with dora': { r: 2, initLoraWeights: 'lora_ga', useDora: true, loraDropout: 0.1 },
    'all biases': { r: 2, bias: 'all', targetModules: ['query', 'value'] },
  },
  randomAtInit: ['random'],
  detached: { 'dora of embeddings': norm, 'pissa with dora': norm, 'lora-ga with dora': norm },
  budgets: {
    orthogonal: [4],
    'dora of embeddings': [3],
    'pissa with dora': [5],
    olora: [4],
    'lora-ga': [4],
    'lora-ga with dora': [4.5],
    'all biases': [],
  },
  rewritten: ['initLoraWeights'],
  invalid: [],
});
