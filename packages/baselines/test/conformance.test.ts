import { bitfit, full, head, houlsby, ia3, pfeiffer } from '@peftjs/baselines';
import { testMethod } from '@peftjs/conformance';

testMethod(head, {
  configs: { default: {} },
  learningRate: 0.05,
  invalid: [{ options: { modulesToSave: 3 }, field: 'modulesToSave' }],
});

testMethod(full, {
  configs: { default: {}, 'layer norms': { targetModules: ['norm'] } },
  invalid: [{ options: { targetModules: 3 }, field: 'targetModules' }],
});

testMethod(bitfit, {
  configs: { default: {}, opendelta: { biases: 'opendelta' }, named: { targetModules: ['ffn.in', 'norm'] } },
  rewritten: ['biases'],
  learningRate: 0.05,
  invalid: [{ options: { biases: 'some' }, field: 'biases' }],
});

/**
 * The default start is near the identity: for the suite neither unchanged nor clearly changed. See bottleneck.test.ts.
 */
const initStd = 0.1;

for (const method of [houlsby, pfeiffer]) {
  testMethod(method, {
    configs: {
      default: { initStd },
      uneven: { initStd, bottleneck: 3, bottleneckPattern: { 'layer.0.ffn.out': 1 }, nonLinearity: 'gelu' },
      'without some biases': { initStd, bottleneck: 2, withoutBias: ['layer.1.ffn.out'] },
      excluded: { initStd, excludeModules: ['layer.0.ffn.out'], nonLinearity: 'swish' },
    },
    rewritten: ['bottleneck', 'initStd'],
    invalid: [
      { options: { bottleneck: 0 }, field: 'bottleneck' },
      { options: { bottleneckPattern: { out: 1.5 } }, field: 'bottleneckPattern.out' },
      { options: { nonLinearity: 'sine' }, field: 'nonLinearity' },
      { options: { initStd: 0 }, field: 'initStd' },
    ],
  });
}

testMethod(ia3, {
  configs: {
    default: {},
    named: { targetModules: ['query', 'ffn.in', 'ffn.out'], feedforwardModules: ['ffn.in'] },
  },
  learningRate: 0.05,
  invalid: [{ options: { feedforwardModules: 3 }, field: 'feedforwardModules' }],
});
