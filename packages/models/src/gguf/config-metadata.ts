/** The metadata of a GGUF file for the config.json of transformers: config.ts, backwards. */
import { fromFloat32, type GgufTensor, type MetadataValue } from '@peftjs/gguf';
import { field, fileError, shown } from '../json.js';
import type { ConfigFile, ModelType } from '../transformers/config.js';
import { configOf, OPTIONAL, REPEATED } from './config.js';
import type { Family } from './families.js';
import { llama3Factors, LLAMA3_FACTORS, scalingSettings, type DescribedFile } from './rope.js';
import type { Heads } from './tensors.js';

/** The settings that llama.cpp reads as float32; the others are uint32. */
const FLOATS = /(?:epsilon|scale|softcapping|freq_base(?:_swa)?)$/;

/** Returns the numbers of heads in config.json. */
export function headsIn({ settings }: ConfigFile): Heads {
  const queries = field(settings, 'num_attention_heads') ?? field(settings, 'n_head');
  return { queries, keys: field(settings, 'num_key_value_heads') ?? queries };
}

/**
 * Returns the metadata that describe the network.
 * @throws CheckpointError for a setting that is missing.
 */
export function configMetadata(config: ConfigFile, name: string, family: Family): Map<string, MetadataValue> {
  const settings = completed(config, family);
  const keys = { ...family.settings, ...(family.isRotary ? REPEATED : { vocab_size: 'vocab_size' }) };
  const entries = Object.entries(keys).flatMap(([key, setting]): [string, MetadataValue][] => {
    const value = settings[setting];
    if ((value ?? null) === null && OPTIONAL.includes(key)) return [];
    if (typeof value === 'number')
      return [[`${name}.${key}`, { type: FLOATS.test(key) ? 'float32' : 'uint32', value }]];
    throw fileError(config.file, `'${setting}' must be a number to write a GGUF file, got ${shown(value)}`);
  });
  const scaling = family.isRotary ? Object.entries(scalingSettings(ropeIn(config))) : [];
  return new Map([
    ['general.architecture', { type: 'string', value: name }],
    ...entries,
    ...scaling.map(([key, value]) => [`${name}.${key}`, value] as const),
  ]);
}

/** Returns the settings with those that transformers computes from others. */
function completed(config: ConfigFile, { isRotary }: Family): Readonly<Record<string, unknown>> {
  const settings = config.settings as Readonly<Record<string, unknown>>;
  if (!isRotary) return { ...settings, n_inner: settings['n_inner'] ?? 4 * Number(settings['n_embd']) };
  const { queries, keys } = headsIn(config);
  return {
    ...settings,
    num_key_value_heads: keys,
    head_dim: headWidth(config),
    rope_theta: settings['rope_theta'] ?? field(ropeIn(config), 'rope_theta') ?? 10_000,
    rope_local_base_freq:
      settings['rope_local_base_freq'] ?? field(field(settings['rope_parameters'], 'sliding_attention'), 'rope_theta'),
    num_attention_heads: queries,
  };
}

function headWidth(config: ConfigFile): number {
  const { settings } = config;
  return Number(
    field(settings, 'head_dim') ?? Number(field(settings, 'hidden_size')) / Number(headsIn(config).queries),
  );
}

/** Returns how positions rotate, in Gemma 3 without a window, by the names of any version of transformers. */
function ropeIn({ settings }: ConfigFile): unknown {
  const rope = field(settings, 'rope_parameters') ?? field(settings, 'rope_scaling');
  return field(rope, 'full_attention') ?? rope;
}

/** Returns the tensors that a file has besides weights: the factors of scaled positions. */
export function ropeTensors(config: ConfigFile, family: Family): Map<string, GgufTensor> {
  const rope = ropeIn(config);
  const factor = field(rope, 'factor');
  const isLlama3 = (field(rope, 'rope_type') ?? field(rope, 'type')) === 'llama3';
  if (!family.isRotary || !isLlama3 || typeof factor !== 'number') return new Map();
  const count = headWidth(config) / 2;
  const theta = Number(completed(config, family)['rope_theta']);
  return new Map([[LLAMA3_FACTORS, fromFloat32('F32', [count], llama3Factors(factor, { theta, count }))]]);
}

/** The tolerance of settings, which a file holds in float32. */
const TOLERANCE = 1e-6;

/**
 * Checks that a file says the same about a network as its config.json.
 * @throws CheckpointError naming a setting that a GGUF file cannot hold.
 */
export async function assertSameNetwork(
  content: DescribedFile,
  config: ConfigFile,
  { own, read }: { readonly own: ModelType; readonly read: ModelType },
): Promise<void> {
  const identity = (type: ModelType, settings: unknown): Readonly<Record<string, number>> =>
    type.architecture({ file: config.file, settings, read: new Set() }, 'causal-lm').settings ?? {};
  const expected = identity(own, config.settings);
  const held = identity(read, await configOf(content, config.file));
  const names = [...new Set([...Object.keys(expected), ...Object.keys(held)])];
  const lost = names.find((name) => !isNear(expected[name], held[name]));
  if (lost === undefined) return;
  throw fileError(
    config.file,
    `the network has '${lost}' ${shown(expected[lost])}, which a GGUF file of llama.cpp cannot hold (it would be ${shown(held[lost])})`,
  );
}

function isNear(a = NaN, b = NaN): boolean {
  return Math.abs(a - b) <= TOLERANCE * Math.abs(a);
}
