import { expect, it } from 'vitest';
import { activeAdapter, attach, mergeAndUnload, withAdapter, type Model } from '@peftjs/core';
import { ConfigError, type CallableMethod, type TargetConfig } from '@peftjs/core/method';
import type { SiteKind } from '@peftjs/core/model';
import { toyModel } from './toy-model.js';
import {
  attached,
  expectApart,
  expectClose,
  outputsOf,
  suiteOf,
  trainInSuite,
  type ConformanceOptions,
  type Suite,
} from './suite.js';

/** Tests options: defaults, JSON, unknown and impossible ones; and targets of every kind. */
export function testConfiguration<C extends TargetConfig>(
  method: CallableMethod<C>,
  options: ConformanceOptions<C>,
): void {
  const { configs, invalid } = options;
  it('fills in defaults, and every configuration survives JSON', () => {
    for (const given of [{}, ...Object.values(configs)]) {
      const parsed = method.parseConfig(given);
      expect(method.parseConfig(JSON.parse(JSON.stringify(parsed)))).toEqual(parsed);
    }
  });
  it('rejects an unknown option', () => {
    expect(() => method.parseConfig({ noSuchOption: 1 })).toThrow(
      expect.objectContaining({ code: new ConfigError('').code, path: 'noSuchOption' }),
    );
  });
  const { atSparsity } = method;
  if (atSparsity) {
    it('keeps its layers at every level of sparsity', () => {
      const at = (level: number) => attach(toyModel(), { method, config: atSparsity(method.parseConfig({}), level) });
      expect(activeAdapter(at(1)).values).toEqual(activeAdapter(at(0)).values);
    });
  }
  const ofToy = new Set(toyModel().sites.map(({ kind }) => kind));
  it.each(method.capabilities.kinds.filter((kind) => ofToy.has(kind)))(
    'adapts every module of kind %s',
    async (kind) => {
      await adaptsKind(kind, suiteOf(method, Object.keys(configs)[0] ?? '', options));
    },
  );
  it.each(invalid.map(({ options: given, field }) => [JSON.stringify(given), given, field] as const))(
    'rejects %s',
    (_, given, field) => {
      expect(() => method.parseConfig(given)).toThrow(
        expect.objectContaining({ code: new ConfigError('').code, path: field }),
      );
    },
  );
}

/** Trains on all modules of one kind, one of the linear ones without a bias, for an epoch. Their outputs must be finite and, where the method merges, merge. */
async function adaptsKind<C extends TargetConfig>(kind: SiteKind, suite: Suite<C>): Promise<void> {
  const model = withoutBias(toyModel(), 'encoder.layer.0.attention.output');
  const targetModules = model.sites
    .filter((site) => site.kind === kind && site.role !== 'head')
    .map(({ path }) => path);
  const peft = await attached({ ...suite, config: { ...suite.config, targetModules } }, { model });
  await trainInSuite(peft, suite, { epochs: 1 });
  const adapted = await outputsOf(peft, suite);
  expect(adapted.every(Number.isFinite)).toBe(true);
  expectApart(adapted, await outputsOf(withAdapter(peft, { layers: {} }), suite));
  if (suite.method.capabilities.mergeable) expectClose(await outputsOf(mergeAndUnload(peft), suite), adapted);
}

/** Returns a model in which a linear module has no bias. */
function withoutBias(model: Model, path: string): Model {
  const { [`${path}.bias`]: _, ...weights } = model.weights;
  const sites = model.sites.map((site) => (site.path === path ? { ...site, hasBias: false } : site));
  return { ...model, sites, weights };
}
