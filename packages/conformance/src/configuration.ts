import { expect, it } from 'vitest';
import { activeAdapter, attach } from '@peftjs/core';
import { ConfigError, type CallableMethod, type TargetConfig } from '@peftjs/core/method';
import { toyModel } from './toy-model.js';
import type { ConformanceOptions } from './suite.js';

/** Tests options: defaults, JSON, unknown and impossible ones. */
export function testConfiguration<C extends TargetConfig>(
  method: CallableMethod<C>,
  { configs, invalid }: ConformanceOptions<C>,
): void {
  it('fills in defaults, and every configuration survives JSON', () => {
    for (const options of [{}, ...Object.values(configs)]) {
      const parsed = method.parseConfig(options);
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
  it.each(invalid.map(({ options, field }) => [JSON.stringify(options), options, field] as const))(
    'rejects %s',
    (_, options, field) => {
      expect(() => method.parseConfig(options)).toThrow(
        expect.objectContaining({ code: new ConfigError('').code, path: field }),
      );
    },
  );
}
