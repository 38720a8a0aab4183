import { adalora } from '@peftjs/adalora';
import { ia3 } from '@peftjs/baselines';
import { activeAdapter, attach, loadPretrained, memoryStorage, savePretrained, type PeftModel } from '@peftjs/core';
import type { ConfiguredMethod, PeftMethod } from '@peftjs/core/method';
import { toyModel } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { vera } from '@peftjs/vera';
import { describe, expect, it } from 'vitest';

const model = toyModel();

/** An adapter that has been saved, with a changed adapter_config.json. */
async function changed(configured: ConfiguredMethod, fields: object): Promise<PeftModel> {
  const storage = memoryStorage();
  await savePretrained(attach(model, configured, { seed: 1 }), 'a', { storage, pruned: false });
  const path = 'a/adapter_config.json';
  const config = JSON.parse(new TextDecoder().decode(storage.files.get(path))) as object;
  storage.files.set(path, new TextEncoder().encode(JSON.stringify({ ...config, ...fields })));
  return loadPretrained(model, 'a', { methods: [configured.method], storage });
}

const configure = (method: PeftMethod, options: object): ConfiguredMethod => ({
  method,
  config: method.parseConfig(options),
});
const plain = configure(lora, { r: 2, targetModules: ['query', 'in'] });
const paths = (peft: PeftModel): string[] => Object.keys(activeAdapter(peft).layers);

/** Values that take hours, or all memory, if they are believed. */
const ENDLESS = '(([\\w.])+)+!';

describe('the tensors of a file count, not what adapter_config.json says about modules', () => {
  it.each([
    { target_modules: ENDLESS },
    { exclude_modules: ENDLESS },
    { exclude_modules: ['query'] },
    { target_modules: 7 },
  ])('%o', async (fields) => {
    expect(paths(await changed(plain, fields))).toEqual(paths(attach(model, plain)));
  });

  it('nor what it says about the modules whose input IA3 scales', async () => {
    const peft = await changed(configure(ia3, {}), { feedforward_modules: ENDLESS });
    expect(paths(peft)).toEqual(paths(attach(model, configure(ia3, {}))));
  });
});

it('patterns of alphas are matched in bounded time', async () => {
  const peft = await changed(plain, { alpha_pattern: { [ENDLESS]: 9, 'ffn\\..*': 3 }, rank_pattern: { [ENDLESS]: 1 } });
  expect(activeAdapter(peft).config).toMatchObject({ alphaPattern: { 'encoder.layer.0.ffn.in': 3 } });
});

it('a pattern with look-ahead is rejected by name', async () => {
  await expect(changed(plain, { alpha_pattern: { '(?=q)query': 3 } })).rejects.toThrow(
    'alpha_pattern: the pattern "(?=q)query" cannot be read from "(?=q)query" on',
  );
});

describe('ranks without tensors are rejected before memory is allocated for them', () => {
  it.each<[string, ConfiguredMethod, object, RegExp]>([
    ['AdaLoRA', configure(adalora, {}), { init_r: 3e8 }, /init_r is 300000000; with the 120 ranks .* at most 832/],
    ['AdaLoRA', configure(adalora, {}), { init_r: 13 }, /12 ranks in the tensors, but 13 in init_r/],
    ['VeRA', configure(vera, { r: 8 }), { r: 1e6 }, /r is 1000000, but the tensors hold 8 ranks/],
    [
      'VeRA without saved matrices',
      configure(vera, { r: 8, saveProjection: false }),
      { r: 1e6 },
      /the tensors hold 8 ranks/,
    ],
  ])('%s %#', async (_, method, fields, problem) => {
    await expect(changed(method, fields)).rejects.toThrow(problem);
  });
});

it('VeRA does not draw matrices larger than memory', () => {
  expect(() => attach(model, configure(vera, { r: 1e9 }))).toThrow(/r is 1000000000; .* allow at most/);
});

it('a configuration with too deep nesting or too many names is rejected', async () => {
  const nested = JSON.parse(`${'['.repeat(1000)}${']'.repeat(1000)}`) as unknown;
  await expect(changed(plain, { anything: nested })).rejects.toThrow(/nested more than/);
  await expect(changed(plain, { modules_to_save: Array<string>(20_000).fill('a') })).rejects.toThrow(/more than 10000/);
});
