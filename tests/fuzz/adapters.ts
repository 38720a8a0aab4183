import { adalora } from '@peftjs/adalora';
import { alora } from '@peftjs/alora';
import * as baselines from '@peftjs/baselines';
import { bayesLora } from '@peftjs/bayes-lora';
import { attach, loadPretrained, memoryStorage, PeftError, savePretrained } from '@peftjs/core';
import type { ConfiguredMethod, PeftMethod } from '@peftjs/core/method';
import { toyModel } from '@peftjs/conformance';
import { dynamicDora } from '@peftjs/dynamic-dora';
import { elaLora } from '@peftjs/ela-lora';
import { gora } from '@peftjs/gora';
import { l1ra } from '@peftjs/l1ra';
import { lnTuning } from '@peftjs/ln-tuning';
import { loha } from '@peftjs/loha';
import { lokr } from '@peftjs/lokr';
import { lora, truncatedLora } from '@peftjs/lora';
import { oft } from '@peftjs/oft';
import { sora } from '@peftjs/sora';
import { vera } from '@peftjs/vera';
import fc from 'fast-check';

/** The two files of an adapter folder. */
export interface AdapterFiles {
  readonly config: Uint8Array;
  readonly weights: Uint8Array;
}

/** The file that is damaged. */
export type Damaged = keyof AdapterFiles;

const model = toyModel();
const methods: readonly PeftMethod[] = [
  lora,
  truncatedLora,
  adalora,
  sora,
  l1ra,
  dynamicDora,
  alora,
  bayesLora,
  elaLora,
  vera,
  loha,
  lokr,
  oft,
  lnTuning,
  ...Object.values(baselines),
];

const configured: readonly ConfiguredMethod[] = [
  ...methods.map((method) => ({ method, config: method.parseConfig({}) })),
  lora({ useDora: true, bias: 'all' }),
  lora({ loraFa: true, r: 4 }),
  lora({ targetModules: ['embeddings', 'query'] }),
  lora({ initLoraWeights: 'pissa', r: 4 }),
  adalora({ parametrization: 'lora', compact: true }),
  gora({ initLoraWeights: 'stored', r: 4 }),
  vera({ saveProjection: false, r: 6 }),
  lokr({ r: 1, decomposeBoth: true }),
  oft({ oftBlockSize: 4, coft: true, useCayleyNeumann: false, targetModules: ['embeddings', 'query'] }),
] as readonly ConfiguredMethod[];

/** One adapter per method, both as published and as saved for further training. */
export const originals: readonly AdapterFiles[] = await Promise.all(
  configured.flatMap((each) => [true, false].map((pruned) => saved(each, pruned))),
);

async function saved(method: ConfiguredMethod, pruned: boolean): Promise<AdapterFiles> {
  const storage = memoryStorage();
  await savePretrained(attach(model, method, { seed: 1 }), 'a', { storage, pruned });
  return {
    config: storage.files.get('a/adapter_config.json') as Uint8Array,
    weights: storage.files.get('a/adapter_model.safetensors') as Uint8Array,
  };
}

/** Whether the adapter is read, rather than rejected on purpose. @throws any other error. */
export async function reading({ config, weights }: AdapterFiles): Promise<'read' | 'refused'> {
  const files = new Map([
    ['a/adapter_config.json', config],
    ['a/adapter_model.safetensors', weights],
  ]);
  try {
    await loadPretrained(model, 'a', { methods: [...methods, gora], storage: memoryStorage(files) });
    return 'read';
  } catch (error) {
    if (error instanceof PeftError) return 'refused';
    throw error;
  }
}

/** Damaged copies of one of an adapter's files. */
export function damagedFiles(damaged: Damaged): fc.Arbitrary<AdapterFiles> {
  return fc.constantFrom(...originals).chain((original) =>
    (damaged === 'config' ? damagedConfig(original.config) : damagedWeights(original.weights)).map((bytes) => ({
      ...original,
      [damaged]: bytes,
    })),
  );
}

/** Patterns on which a backtracking engine takes exponential time. */
const PATTERNS = [
  '(([\\w.])+)+!',
  '(a+)+$',
  '(.*)*\\.(.*)*!',
  '(\\w|\\w\\w)*!',
  '((((.?){50}){50}){50}){50}',
  '(?=.*)+',
  '(.)\\1+',
];
const PATTERN_FIELDS = ['target_modules', 'exclude_modules', 'rank_pattern', 'alpha_pattern', 'feedforward_modules'];
const NUMBERS = ['-1', '0', '0.5', '1e6', '3e8', '1e999', '-1e999', 'NaN', '9007199254740993', '4294967296', '-0'];
const NAMES = ['__proto__', 'constructor', 'toString', 'length', 'r', 'init_r', 'budget', 'bias', 'modules_to_save'];

const pattern = fc.constantFrom(...PATTERNS).map((each) => JSON.stringify(each));
/** Depths up to 100,000, as many of each order of magnitude. */
const deep = fc
  .double({ min: Math.log10(5), max: 5, noNaN: true })
  .map((power) => Math.round(10 ** power))
  .chain((depth) =>
    fc
      .constantFrom(['[', ']'], ['{"a":', '}'])
      .map(([open = '', close = '']) => `${open.repeat(depth)}1${close.repeat(depth)}`),
  );
const table = fc
  .dictionary(fc.constantFrom(...PATTERNS, 'query', '^encoder', '__proto__'), fc.constantFrom(...NUMBERS, 'true', '4'))
  .map(
    (entries) =>
      `{${Object.entries(entries)
        .map(([key, value]) => `${JSON.stringify(key)}:${value}`)
        .join()}}`,
  );
const value = fc.oneof(
  pattern,
  fc.array(pattern, { maxLength: 3 }).map((items) => `[${items.join()}]`),
  table,
  fc.constantFrom(...NUMBERS),
  fc.constantFrom('null', 'true', '""', '[]', '{}', '{"toString":1}', '{"__proto__":{"r":1e9}}', '[null]', '[[]]'),
  fc.json({ maxDepth: 3 }),
  { arbitrary: deep, weight: 1 },
);

function damagedConfig(original: Uint8Array): fc.Arbitrary<Uint8Array> {
  const fields = JSON.parse(new TextDecoder().decode(original)) as Record<string, unknown>;
  const field = fc.oneof(
    fc.constantFrom(...Object.keys(fields)),
    fc.constantFrom(...PATTERN_FIELDS),
    fc.constantFrom(...NAMES),
  );
  const edits = fc.array(fc.tuple(field, value, fc.boolean()), { minLength: 1, maxLength: 3 });
  const edited = edits.map((all) => {
    const lines = Object.entries(fields).map(([key, own]) => [key, JSON.stringify(own)] as const);
    for (const [key, raw, twice] of all) {
      const at = lines.findIndex(([name]) => name === key);
      lines.splice(at < 0 ? lines.length : at, at < 0 || twice ? 0 : 1, [key, raw]);
    }
    return new TextEncoder().encode(`{${lines.map(([key, raw]) => `${JSON.stringify(key)}:${raw}`).join()}}`);
  });
  return fc.oneof({ arbitrary: edited, weight: 4 }, damagedBytes(original));
}

/** Numbers that a header can be made to claim. */
const SIZES = [0, 1, 2, 7, 8, 1e4, 1e6, 2 ** 31, 2 ** 32, 2 ** 53 - 1, -1, 0.5];
const RENAMED = ['__proto__', 'base_model.model.(([\\w.])+)+!.lora_A.weight', 'base_model.vera_A', '', 'a.b.c.weight'];

function damagedWeights(original: Uint8Array): fc.Arbitrary<Uint8Array> {
  const headerEnd = 8 + Number(new DataView(original.buffer, original.byteOffset).getBigUint64(0, true));
  const header = new TextDecoder().decode(original.subarray(8, headerEnd));
  const shapes = fc
    .tuple(fc.nat(), fc.array(fc.constantFrom(...SIZES), { maxLength: 4 }), fc.boolean())
    .map(([which, shape, isFitted]) => {
      const all = JSON.parse(header) as Record<string, { shape: number[]; data_offsets: number[] }>;
      const names = Object.keys(all).filter((name) => name !== '__metadata__');
      const tensor = all[names[which % names.length] as string];
      if (!tensor) return withHeader(original, headerEnd, header);
      const size = shape.reduce((product, axis) => product * axis, 4);
      // A shape that the data fill, with numbers taken from the other tensors.
      return withHeader(
        original,
        headerEnd,
        JSON.stringify({
          ...all,
          [names[which % names.length] as string]: { ...tensor, shape, ...(isFitted && { data_offsets: [0, size] }) },
        }),
      );
    });
  const renamed = fc.tuple(fc.nat(), fc.constantFrom(...RENAMED), fc.boolean()).map(([which, name, isDouble]) => {
    const names = [...header.matchAll(/"([^"]+)":\{"dtype"/g)].map(([, each]) => each as string);
    const old = `"${names[which % names.length] ?? ''}":`;
    const next = `${JSON.stringify(isDouble ? (names[0] ?? '') : name)}:`;
    return withHeader(
      original,
      headerEnd,
      header.replace(old, () => next),
    );
  });
  return fc.oneof(
    { arbitrary: shapes, weight: 3 },
    { arbitrary: rankless(original, headerEnd, header), weight: 1 },
    { arbitrary: renamed, weight: 2 },
    damagedBytes(original),
    damagedBytes(original.subarray(0, headerEnd)).map((start) => joined(start, original.subarray(headerEnd))),
  );
}

/** Every tensor of a file with two axes, one of length 0 and one of any length, which costs no bytes. */
function rankless(original: Uint8Array, headerEnd: number, header: string): fc.Arbitrary<Uint8Array> {
  return fc.tuple(fc.constantFrom(...SIZES.filter((size) => size > 0)), fc.boolean()).map(([size, isFirst]) => {
    const all = JSON.parse(header) as Record<string, { shape?: number[]; data_offsets?: number[] }>;
    const emptied = Object.entries(all).map(([name, tensor]) =>
      tensor.shape
        ? [name, { ...tensor, shape: isFirst ? [size, 0] : [0, size], data_offsets: [0, 0] }]
        : [name, tensor],
    );
    return withHeader(original.subarray(0, headerEnd), headerEnd, JSON.stringify(Object.fromEntries(emptied)));
  });
}

function withHeader(original: Uint8Array, headerEnd: number, header: string): Uint8Array {
  const text = new TextEncoder().encode(header);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(text.length), true);
  return joined(joined(length, text), original.subarray(headerEnd));
}

/** A copy that is truncated, or has some bytes changed. */
function damagedBytes(original: Uint8Array): fc.Arbitrary<Uint8Array> {
  const place = fc.integer({ min: 0, max: Math.max(0, original.length - 1) });
  const cut = place.map((end) => original.slice(0, end));
  const flips = fc.array(fc.tuple(place, fc.integer({ min: 0, max: 7 })), { minLength: 1, maxLength: 4 }).map((all) => {
    const bytes = original.slice();
    for (const [at, bit] of all) bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
    return bytes;
  });
  return fc.oneof(cut, flips);
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
