import { describe, expect, it } from 'vitest';
import { ConfigError, TargetModuleError } from '../errors.js';
import { matches, patternValue, selectSites } from './targets.js';
import type { TargetConfig } from '../contracts/method.js';
import { toyModel } from '@peftjs/conformance';

const model = toyModel();
const from = { kinds: ['linear'] as const, head: model.head, defaults: model.defaultTargetModules };
const none: TargetConfig = { targetModules: null, excludeModules: null, layersToTransform: null, modulesToSave: null };
const select = (config: Partial<TargetConfig>) => selectSites(model.sites, { ...none, ...config }, from);
const paths = (config: Partial<TargetConfig>): string[] => select(config).matched.map(({ path }) => path);

describe('selectSites', () => {
  it.each<[string, Partial<TargetConfig>, string[]]>([
    [
      'a dotted suffix',
      { targetModules: ['attention.query'] },
      ['encoder.layer.0.attention.query', 'encoder.layer.1.attention.query'],
    ],
    ['an exact path', { targetModules: ['encoder.layer.1.ffn.in'] }, ['encoder.layer.1.ffn.in']],
    [
      'a whole-path pattern',
      { targetModules: '.*layer\\.0\\.ffn\\.(in|out)' },
      ['encoder.layer.0.ffn.in', 'encoder.layer.0.ffn.out'],
    ],
    [
      'a list with a layer number',
      { targetModules: ['query', 'value'], layersToTransform: [1] },
      ['encoder.layer.1.attention.query', 'encoder.layer.1.attention.value'],
    ],
    [
      'targets without excluded modules',
      { targetModules: ['query', 'value'], excludeModules: ['value'], layersToTransform: [0] },
      ['encoder.layer.0.attention.query'],
    ],
    [
      'targets without modulesToSave',
      { targetModules: ['in', 'out'], modulesToSave: ['ffn.out'], layersToTransform: [0] },
      ['encoder.layer.0.ffn.in'],
    ],
  ])('selects %s', (_, config, expected) => {
    expect(paths(config)).toEqual(expected);
  });

  it('skips modules of modulesToSave, matched by the end of a name as in PEFT', () => {
    expect(paths({ targetModules: ['in', 'out'], modulesToSave: ['fn.in', '0.ffn'] })).toEqual([
      'encoder.layer.1.ffn.out',
    ]);
  });

  it('selects every linear module but the head with all-linear, in upper or lower case', () => {
    expect(paths({ targetModules: 'ALL-Linear' })).toHaveLength(10);
    expect(paths({ targetModules: 'all-linear' })).not.toContain('classifier');
  });

  it('does not match a suffix without its dot', () => {
    expect(() => paths({ targetModules: ['uery'] })).toThrow(TargetModuleError);
  });

  it('names the nearest modules when nothing matches', () => {
    expect(() => paths({ targetModules: ['attention.qury'] })).toThrow(
      /'attention\.qury'.*encoder\.layer\.0\.attention\.query/,
    );
  });

  it.each<[string, Partial<TargetConfig>]>([
    ['layersToTransform', { layersToTransform: 9 }],
    ['excludeModules', { excludeModules: '.*' }],
    ['modulesToSave', { modulesToSave: ['query'] }],
  ])('names %s if it leaves none of the modules that match', (field, config) => {
    const message = `none of the 2 modules that targetModules match, e.g. encoder.layer.0.attention.query, is left: change ${field}`;
    expect(() => paths({ targetModules: ['query'], ...config })).toThrow(
      expect.objectContaining({ code: 'PEFT_TARGET_MODULES', path: field, message }),
    );
  });

  it('says that modules of the head are not matched', () => {
    expect(() => paths({ targetModules: ['classifier'] })).toThrow(
      "'classifier' match no linear module outside the head;",
    );
  });

  it.each<[string, string[] | null, string]>([
    ['an empty list', [], 'it is empty'],
    ['no list if the model has no default', null, 'the model has no default'],
  ])('rejects %s', (_, targetModules, problem) => {
    expect(() => selectSites(model.sites, { ...none, targetModules }, { ...from, defaults: [] })).toThrow(
      `targetModules must name modules: ${problem}`,
    );
  });

  it.each<Partial<TargetConfig>>([{ excludeModules: '(' }, { layersPattern: '(', layersToTransform: 1 }])(
    'shows the broken pattern of %o as it was given, and blames no other field',
    (config) => {
      expect(() => paths({ targetModules: ['query'], ...config })).toThrow(
        expect.objectContaining({ message: "'(' is not a regular expression", path: undefined }),
      );
    },
  );

  it('reports the names that match nothing', () => {
    expect(select({ targetModules: ['query', 'q_proj'] }).unmatchedNames).toEqual(['q_proj']);
  });

  it('rejects a layer number with a pattern, and a broken pattern', () => {
    expect(() => paths({ targetModules: '.*query', layersToTransform: [0] })).toThrow(ConfigError);
    expect(paths({ targetModules: '.*', layersToTransform: [0] }).every((path) => path.includes('layer.0.'))).toBe(
      true,
    );
    expect(() => paths({ targetModules: '(' })).toThrow(ConfigError);
  });
});

describe('patternValue', () => {
  it.each([
    ['encoder.layer.0.ffn.in', 3],
    ['ffn.in', 5],
    ['layer\\.[01]\\.ffn\\.in', 7],
  ])('finds a module by %s', (pattern, value) => {
    expect(patternValue({ [pattern]: value }, 'encoder.layer.0.ffn.in')).toBe(value);
  });
  it("accepts Python's flags, named groups and comments", () => {
    expect(patternValue({ '(?i)(?P<block>FFN)(?#.)\\.in': 9 }, 'encoder.layer.0.ffn.in')).toBe(9);
  });
  it('does not match a part of a name', () => {
    expect(patternValue({ in: 2 }, 'encoder.layer.0.ffn.main')).toBeUndefined();
  });
});

describe('matches', () => {
  it('matches only linear modules with all-linear', () => {
    const embedding = model.sites.find(({ kind }) => kind === 'embedding');
    expect(embedding && matches(embedding, 'all-linear')).toBe(false);
  });
});
