import { testMethod } from '@peftjs/conformance';
import { oft } from '@peftjs/oft';

testMethod(oft, {
  configs: {
    'by the series': { oftBlockSize: 4, targetModules: ['query', 'ffn.in', 'embeddings'] },
    'by the transform, one rotation for all blocks': {
      r: 2,
      blockShare: true,
      useCayleyNeumann: false,
      bias: 'all',
      targetModules: ['query'],
    },
  },
  budgets: { 'by the series': [1.08], 'by the transform, one rotation for all blocks': [] },
  learningRate: 0.05,
  invalid: [
    { options: { r: 2, oftBlockSize: 4 }, field: 'oftBlockSize' },
    { options: { oftBlockSize: 0 }, field: 'oftBlockSize' },
    { options: { numCayleyNeumannTerms: 1 }, field: 'numCayleyNeumannTerms' },
    { options: { numCayleyNeumannTerms: 1e9 }, field: 'numCayleyNeumannTerms' },
    { options: { eps: -1 }, field: 'eps' },
    { options: { coft: 'yes' }, field: 'coft' },
    { options: { blockShare: 1 }, field: 'blockShare' },
    { options: { useCayleyNeumann: null }, field: 'useCayleyNeumann' },
    { options: { bias: 'lora_only' }, field: 'bias' },
    { options: { initWeights: 'yes' }, field: 'initWeights' },
  ],
});
