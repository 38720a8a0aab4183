import { beforeEach, describe, expect, it } from 'vitest';
import { activeAdapter } from './peft-model.js';
import { onWarning, parseOptions } from '../config.js';
import { attach, defineMethod } from './attach.js';
import type { PeftMethod, TargetConfig } from '../contracts/method.js';
import { ConfigError, TargetModuleError } from '../errors.js';
import { toyModel } from '@peftjs/conformance';
import { biasLayer } from './layers.js';
import { targetEntries } from './targets.js';

/** Trains the biases of its modules: the simplest possible method. */
const biases: PeftMethod = defineMethod<TargetConfig>({
  name: 'biases',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
  parseConfig: (input): TargetConfig => parseOptions('biases', targetEntries, input),
  adapt: (sites, _config, { frozen }) =>
    Object.fromEntries(sites.map((site) => [site.path, biasLayer(site, frozen(site.path), 'default')])),
  peftTypes: [],
  toFile: () => ({ config: {}, tensors: {} }),
  fromFile: () => ({ config: {}, values: {} }),
});

const model = toyModel();
const attached = (options: object, how: Parameters<typeof attach>[2] = {}) =>
  attach(model, { method: biases, config: biases.parseConfig(options) }, how);

describe('attach', () => {
  const warnings: string[] = [];
  beforeEach(() => {
    warnings.length = 0;
    return onWarning((message) => warnings.push(message));
  });

  it('warns about targets and exclusions that match nothing, with the nearest paths', () => {
    attached({ targetModules: ['query', 'vlue'], excludeModules: ['kee'] });
    expect(warnings).toEqual([
      expect.stringMatching(/^targetModules: 'vlue' .*attention\.value.*; excludeModules: 'kee' /) as string,
    ]);
  });

  it('rejects them in strict mode and names the field', () => {
    expect(() => attached({ targetModules: ['query', 'vlue'] }, { strict: true })).toThrow(
      expect.objectContaining({ code: new TargetModuleError('').code, path: 'targetModules' }),
    );
    expect(() => attached({ targetModules: ['query'], excludeModules: ['kee'] }, { strict: true })).toThrow(
      expect.objectContaining({ path: 'excludeModules' }),
    );
    expect(() => attached({ targetModules: ['query', 'embeddings'] }, { strict: true })).toThrow(
      "targetModules: 'embeddings' matches no module that is adapted",
    );
    expect(() => attached({ targetModules: ['query'] }, { strict: true })).not.toThrow();
  });

  it('rejects a budget larger than the modules can hold', () => {
    const budgeted = (budget: number) => ({ method: biases, config: { ...biases.parseConfig({}), budget } });
    expect(() => attach(model, budgeted(64))).not.toThrow();
    expect(() => attach(model, budgeted(1e9))).toThrow(
      expect.objectContaining({ path: 'budget', message: expect.stringMatching(/at most \d+/) as string }),
    );
  });

  it('trains the modules of modulesToSave in full, submodules included, and does not adapt them', () => {
    const adapter = activeAdapter(
      attached({ targetModules: ['in', 'out', 'norm'], modulesToSave: ['layer.1.ffn', 'norm'] }),
    );
    expect(Object.keys(adapter.saved)).toEqual([
      'encoder.layer.0.norm',
      'encoder.layer.1.norm',
      'encoder.layer.1.ffn.in',
      'encoder.layer.1.ffn.out',
      'classifier',
    ]);
    expect(Object.keys(adapter.layers)).toEqual(['encoder.layer.0.ffn.in', 'encoder.layer.0.ffn.out']);
    expect(() => attached({ modulesToSave: ['pooler'] })).toThrow(
      expect.objectContaining({ code: new ConfigError('').code, path: 'modulesToSave' }),
    );
  });

  it('keeps a frozen head unchanged and trains the other modules of modulesToSave', () => {
    const options = { targetModules: ['in'], modulesToSave: ['layer.1.ffn.out'] };
    const [trained, frozen] = [attached(options, { seed: 3 }), attached(options, { seed: 3, trainHead: false })];
    expect(activeAdapter(frozen).values).toEqual(activeAdapter(trained).values);
    const trains = (peft: typeof frozen) =>
      Object.entries(activeAdapter(peft).saved).map(([path, { params }]) => [path, params.weight?.trainable]);
    expect(trains(trained)).toEqual([
      ['encoder.layer.1.ffn.out', true],
      ['classifier', true],
    ]);
    expect(trains(frozen)).toEqual([
      ['encoder.layer.1.ffn.out', true],
      ['classifier', false],
    ]);
  });

  it('rejects a calibration that the configuration does not use', () => {
    expect(() => attached({}, { calibration: { kind: 'gradients', values: {} } })).toThrow(/needs no calibration/);
  });

  it.each(['', 'a/b', '..', '__base__', 'Adapter_config.json', 'README.md', '.peftjs-save'])(
    'rejects the name %j, which is no valid folder name',
    (adapterName) => {
      expect(() => attached({}, { adapterName })).toThrow(expect.objectContaining({ path: 'adapterName' }));
    },
  );
});
