import { NUMERICS } from '@peftjs/core/runtime';
import { composeStudy, type Study, type StudyInput } from '../src/study/study.js';
import type { TrialContext } from '../src/study/trials.js';

/** A study of one arm, task, budget and seed, with changes. */
export function smallStudy(changes: StudyInput = {}): Study {
  const small = { model: 'any', tasks: ['mine'], methods: ['lora'], budgets: ['r=1'], seeds: 1, protocol: {} };
  return composeStudy([small, changes]);
}

/** What the trials of a study have in common, as planned without loading anything; with changes. */
export function contextOf(study: Study, changes: Partial<TrialContext> = {}): TrialContext {
  return {
    study,
    data: { kind: 'embedded' },
    engine: { executor: 'compiled', backend: 'cpu', threads: 1, dtype: 'fp32' },
    versions: { numerics: NUMERICS },
    methodVersions: new Map(),
    fingerprints: { model: '', data: {} },
    lengths: Object.fromEntries(study.tasks.map((task) => [task, { maxTokens: 24, epochs: 2 }])),
    budgeted: new Set(['lora', 'adalora', 'sora']),
    headOnly: new Set(['head']),
    ...changes,
  };
}
