import { describe } from 'vitest';
import type { CallableMethod, TargetConfig } from '@peftjs/core/method';
import { testBudget } from './budget.js';
import { testConfiguration } from './configuration.js';
import { testExchange } from './exchange.js';
import { testFiles } from './files.js';
import { testInitialState } from './initial-state.js';
import { testMerging } from './merging.js';
import { testSeveralAdapters } from './several.js';
import { suiteOf, type ConformanceOptions } from './suite.js';
import { testTraining } from './training.js';

/** Registers the tests that every method must pass, once for each of its configurations. */
export function testMethod<C extends TargetConfig>(method: CallableMethod<C>, options: ConformanceOptions<C>): void {
  describe(`conformance of ${method.name}`, () => {
    testConfiguration(method, options);
    for (const name of Object.keys(options.configs)) {
      describe(name, () => {
        const suite = suiteOf(method, name, options);
        testInitialState(suite);
        testTraining(suite);
        testFiles(suite);
        testSeveralAdapters(suite);
        testMerging(suite);
        testExchange(suite);
        testBudget(suite);
      });
    }
  });
}
