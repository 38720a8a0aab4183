import { describe, expect, it } from 'vitest';
import { ConfigError } from '@peftjs/core/method';
import { contextOf } from '../../test/studies.js';
import { parseBudget } from './budgets.js';
import { presetNamed } from './presets.js';
import { composeStudy } from './study.js';
import { planTrials, referenceOf, type TrialContext } from './trials.js';

const preset = presetNamed('quick').study;

describe('composeStudy', () => {
  it('lays flags over a preset and keeps what they do not name', () => {
    const study = composeStudy([preset, { methods: ['sora', 'head'], protocol: { epochs: 7 } }]);
    expect(Object.keys(study.methods)).toEqual(['sora', 'head']);
    expect(study.methods.sora?.tolerance).toBe(0.01);
    expect(study.protocol).toMatchObject({ epochs: 7, batchSize: 16 });
  });

  it('keeps the settings of a method that a study file leaves out', () => {
    const study = composeStudy([preset, { methods: { adalora: { learningRate: 0.01 } } }]);
    expect(study.methods.adalora).toMatchObject({ learningRate: 0.01, options: { loraAlpha: 32 } });
  });

  it('gives every arm its method: its name, unless the arm has another', () => {
    const { methods } = composeStudy([preset, { methods: { sora: {}, hard: { method: 'sora', options: { r: 2 } } } }]);
    expect(methods.sora?.method).toBe('sora');
    expect(methods.hard).toMatchObject({ method: 'sora', options: { r: 2 } });
  });

  it('picks arms of a preset by name', () => {
    const arms = { methods: { hard: { method: 'sora', options: { r: 2 } }, lora: {} } };
    const { methods } = composeStudy([preset, arms, { methods: ['hard', 'head'] }]);
    expect(methods).toMatchObject({ hard: { method: 'sora', options: { r: 2 } }, head: { method: 'head' } });
  });

  it('keeps only claims about arms that are run', () => {
    const claims = [{ arm: 'sora', noWorseThan: 'lora' }];
    expect(composeStudy([preset, { claims } as object]).claims).toEqual([
      { arm: 'sora', budget: null, noWorseThan: 'lora', itsBudget: null },
    ]);
    expect(composeStudy([preset, { claims } as object, { methods: ['lora'] }]).claims).toEqual([]);
  });

  it('drops claims about budgets that a layer above them replaces, and no others', () => {
    const claims = ['r=4', 'r=8'].map((budget) => ({ arm: 'sora', budget, noWorseThan: 'lora', itsBudget: budget }));
    const [below, above] = [{ claims } as object, { budgets: ['r=8'] }];
    const budgetsIn = (...layers: object[]) => composeStudy([preset, ...layers]).claims.map(({ budget }) => budget);
    expect(budgetsIn(below, above)).toEqual(['r=8']);
    expect(budgetsIn(above, below)).toEqual(['r=4', 'r=8']);
  });

  it.each<[object, string]>([
    [{ claims: [{ arm: 'sora', noWorseThan: 'lroa' }] }, 'claims.0.noWorseThan'],
    [{ claims: [{ arm: 'sora', noWorseThan: 'lora', margin: 0 }] }, 'claims.0.margin'],
    [{ margin: -0.1 }, 'margin'],
    [{ reference: 'lroa' }, 'reference'],
    [{ methods: null as never }, 'methods'],
    [{ protocol: [] as never }, 'protocol'],
    [{ protocol: { selectionRows: 0 } }, 'protocol.selectionRows'],
    [{ protocol: { flippedLabels: 1 } }, 'protocol.flippedLabels'],
    [{ methods: { sora: { learningrate: 1 } } }, 'methods.sora.learningrate'],
    [{ methods: { 'so ra': {} } }, 'methods.so ra'],
    [{ methods: [] }, 'methods'],
    [{ methods: { sora: 5 } }, 'methods.sora'],
    [{ budget: ['r=2'] }, 'budget'],
    [{ budgets: ['r=2', 'r=2'] }, 'budgets'],
    [{ protocol: { matchOn: 'counted' } }, 'protocol.matchOn'],
    [{ protocol: { epochs: 0 } }, 'protocol.epochs'],
    [{ protocol: { loss: 'cross entropy' as never } }, 'protocol.loss'],
    [{ protocol: { selectionShare: 0 } }, 'protocol.selectionShare'],
    [{ seeds: 1.5 }, 'seeds'],
    [{ methods: { sora: { learningRate: -1 } } }, 'methods.sora.learningRate'],
    [{ tasks: [] }, 'tasks'],
  ])('refuses %j and names the field', (above, path) => {
    const compose = () => composeStudy([preset, above]);
    expect(compose).toThrow(ConfigError);
    expect(compose).toThrow(expect.objectContaining({ path }));
  });
});

describe('parseBudget', () => {
  it.each([
    ['60000', 60_000],
    ['0.8%', 56_000],
    ['r=4', 4 * 13_056],
    ['auto', null],
    ['auto:.01', null],
  ])('%s', (text, count) => {
    const budget = parseBudget(text);
    expect(budget.kind === 'auto' ? null : budget.count({ base: 7_000_000, rankUnit: 13_056 })).toBe(count);
  });
  it.each(['', 'r=', 'r=0', '-5', '5k', '1e5', '%', '0%', 'r=2.5', '0x10', 'auto:', 'auto:x'])('refuses %j', (text) => {
    expect(() => parseBudget(text)).toThrow(ConfigError);
  });
});

describe('planTrials', () => {
  const context = contextOf(composeStudy([preset, { budgets: ['r=2', 'r=4'] }]), {
    versions: { numerics: 1, node: '20' },
    methodVersions: new Map([['sora', { '@peftjs/sora': '1.0.0' }]]),
    fingerprints: { model: 'm', data: { 'uci-sentiment': 'a', 'wordnet-supersense': 'b' } },
  });
  const idsOf = (changed: Partial<TrialContext>): string[] =>
    planTrials({ ...context, ...changed }).map(({ id }) => id);
  const shared = (changed: Partial<TrialContext>): number =>
    idsOf(changed).filter((id) => idsOf({}).includes(id)).length;

  it('runs a method without a budget once, and the others once per budget', () => {
    const trials = planTrials(context);
    expect(trials).toHaveLength(2 * 2 * (1 + 3 * 2));
    expect(new Set(trials.map(({ id }) => id)).size).toBe(trials.length);
    expect(new Set(trials.map(({ arm, method }) => arm === method))).toEqual(new Set([true]));
    expect(trials[0]?.id).toMatch(/^head-uci_sentiment-any-s1-[0-9a-f]{12}$/);
  });

  it.each([
    ['lora', ['head', 'sora', 'lora'], 'lora'],
    ['lora', ['sora', 'head'], 'head'],
    ['lora', ['sora'], 'sora'],
    [null, ['head', 'sora', 'lora'], 'sora'],
  ])('compares with %s, or what is run of it: %j', (reference, methods, expected) => {
    const study = { ...composeStudy([preset, { methods, budgets: ['r=4'] }]), reference };
    expect(referenceOf({ ...context, study })).toBe(expected);
  });

  it.each([
    [3e-4, 3e-4],
    [null, 2e-3],
  ])("trains every arm's head alike: a study's rate of %s is %s", (learningRate, expected) => {
    const study = composeStudy([preset, { methods: ['head', 'lora', 'sora'], protocol: { learningRate } }]);
    const rates = planTrials({ ...context, study }).map(({ arm, protocol }) => `${arm} ${protocol.learningRate}`);
    expect(new Set(rates)).toEqual(new Set(['head', 'lora', 'sora'].map((arm) => `${arm} ${expected}`)));
  });

  it('names trials of two arms of one method after the arms', () => {
    const study = composeStudy([
      preset,
      { methods: { sora: {}, hard: { method: 'sora', options: { r: 2 } } }, seeds: 1 },
    ]);
    const trials = planTrials({ ...context, study }).filter(({ task }) => task === 'uci-sentiment');
    expect(trials.map(({ arm, method, settings }) => [arm, method, settings.options])).toEqual([
      ['sora', 'sora', {}],
      ['hard', 'sora', { r: 2 }],
    ]);
    expect(trials.map(({ id }) => id.slice(0, 5))).toEqual(['sora-', 'hard-']);
    expect(trials[1]?.versions).toHaveProperty('@peftjs/sora');
  });

  it('gives ids that are file names whatever the names of arms', () => {
    const methods = { β: { method: 'lora' }, '.-': { method: 'lora' }, 'é-lora': { method: 'lora' } };
    const study = composeStudy([preset, { methods, seeds: 1, tasks: ['uci-sentiment'] }]);
    const ids = planTrials({ ...context, study }).map(({ id }) => id.replace(/-[0-9a-f]{12}$/, ''));
    expect(ids).toEqual(['arm', 'arm', 'lora'].map((arm) => `${arm}-uci_sentiment-r_4-s1`));
  });

  it('gives the same trials the same names', () => {
    expect(shared({})).toBe(28);
    expect(shared({ data: { kind: 'folder', folder: 'elsewhere' } })).toBe(28);
  });

  it('does not change names for unused new settings, or for one that changes no result', () => {
    const unused = { selectionRows: null, flippedLabels: null, dropout: 0, scaling: null, earlyStoppingPatience: null };
    for (const protocol of [unused, { gradientCheckpointing: true }])
      expect(shared({ study: composeStudy([preset, { budgets: ['r=2', 'r=4'], margin: 0.01, protocol }]) })).toBe(28);
  });

  it('gives new names to the trials that a change affects, and to no others', () => {
    expect(shared({ fingerprints: { model: 'other', data: context.fingerprints.data } })).toBe(0);
    expect(shared({ versions: { numerics: 1, node: '22' } })).toBe(0);
    expect(shared({ versions: { numerics: 2, node: '20' } })).toBe(0);
    expect(shared({ engine: { ...context.engine, threads: 2 } })).toBe(0);
    expect(shared({ fingerprints: { model: 'm', data: { ...context.fingerprints.data, 'uci-sentiment': 'c' } } })).toBe(
      14,
    );
    expect(shared({ methodVersions: new Map([['sora', { '@peftjs/sora': '1.0.1' }]]) })).toBe(28 - 8);
    const trained = composeStudy([preset, { budgets: ['r=2', 'r=4'], protocol: { matchOn: 'trained' } }]);
    expect(shared({ study: trained })).toBe(0);
    for (const protocol of [{ dropout: 'config' as const }, { scaling: 2 }])
      expect(shared({ study: composeStudy([preset, { methods: ['lora'], budgets: ['r=2', 'r=4'], protocol }]) })).toBe(
        0,
      );
    for (const changed of [
      { maxTokens: 32, epochs: 2 },
      { maxTokens: 24, epochs: 9 },
    ])
      expect(shared({ lengths: { ...context.lengths, 'wordnet-supersense': changed } })).toBe(14);
  });
});
