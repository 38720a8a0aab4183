/** The config.json of transformers for the metadata of a GGUF file. */
import type { GgufFile } from '@peftjs/gguf';
import { fileError, shown } from '../json.js';
import { FAMILIES, type Config, type Family } from './families.js';
import { ropeScalingOf, type DescribedFile } from './rope.js';

/** Settings that repeat one of config.json. With another value they are refused. */
export const REPEATED: Readonly<Record<string, string>> = {
  vocab_size: 'vocab_size',
  'rope.dimension_count': 'head_dim',
  'attention.value_length': 'head_dim',
};

/** Settings of YaRN that are not converted, with their usual values. With another value they are refused. */
const ASSUMED: Readonly<Record<string, number>> = {
  'rope.scaling.yarn_beta_fast': 32,
  'rope.scaling.yarn_beta_slow': 1,
  'rope.scaling.yarn_ext_factor': 1,
};

/** Settings that may be missing; llama.cpp requires the others. */
export const OPTIONAL: readonly string[] = [
  'attention.head_count_kv',
  'attention.key_length',
  'attention.sliding_window',
  'attn_logit_softcapping',
  'final_logit_softcapping',
  'rope.freq_base',
  'rope.freq_base_swa',
  'rope.scaling.original_context_length',
];

/** The word embedding table. */
const WORDS = 'token_embd.weight';

/** A file, of which only the metadata are read. */
export type WithMetadata = Pick<GgufFile, 'metadata'>;

/** Returns a value of the metadata; undefined if it is missing. */
export function metadataValue(file: WithMetadata, key: string): unknown {
  return file.metadata.get(key)?.value;
}

/** The architecture of a file. */
export interface Architecture {
  readonly name: string;
  readonly family: Family;
}

/** Returns the architecture. @throws CheckpointError when it is not read. */
export function architectureOf(file: DescribedFile, path: string): Architecture {
  const name = metadataValue(file, 'general.architecture');
  const family = typeof name === 'string' && Object.hasOwn(FAMILIES, name) ? FAMILIES[name] : undefined;
  if (family) return { name: String(name), family };
  throw fileError(
    path,
    `'general.architecture' is ${shown(name)}; known ones are ${Object.keys(FAMILIES).join(', ')}; load the model's folder of transformers instead`,
  );
}

/**
 * Returns the settings of config.json.
 * @throws CheckpointError for a part of a model, for an architecture or a setting that is not supported, and for one
 * that is missing.
 */
export async function configOf(file: DescribedFile, path: string): Promise<Record<string, unknown>> {
  const parts = metadataValue(file, 'split.count');
  if (typeof parts === 'number' && parts > 1) {
    const part = Number(metadataValue(file, 'split.no')) + 1;
    throw fileError(path, `it is part ${part} of ${parts}; merge them first, with llama-gguf-split --merge`);
  }
  const { name, family } = architectureOf(file, path);
  const { read, unread } = settingsOf(file, name);
  const given = Object.entries(family.settings).flatMap(([key, setting]) => {
    const value = read(key);
    if (value !== undefined) return [[setting, value] as const];
    if (OPTIONAL.includes(key)) return [];
    throw fileError(path, `'${name}.${key}' is missing`);
  });
  const config: Record<string, unknown> = {
    model_type: family.modelType ?? name,
    vocab_size: file.names.includes(WORDS) ? file.spec(WORDS).shape[0] : undefined,
    ...(family.isRotary && { tie_word_embeddings: !file.names.includes('output.weight'), rope_theta: 10_000 }), // the default of llama.cpp
    ...(family.namesBiases && {
      attention_bias: file.names.includes('blk.0.attn_q.bias'),
      mlp_bias: file.names.includes('blk.0.ffn_up.bias'),
    }),
    ...Object.fromEntries(given),
    ...tokenIds(file),
  };
  if (family.isRotary) {
    config['head_dim'] ??= Number(config['hidden_size']) / Number(config['num_attention_heads']);
    config['num_key_value_heads'] ??= config['num_attention_heads'];
  }
  Object.assign(config, family.derived?.(config, read));
  const scaling = await ropeScalingOf(file, { theta: Number(config['rope_theta']), read, path });
  if (scaling) config['rope_scaling'] = scaling;
  const expected = (key: string): unknown => (REPEATED[key] === undefined ? ASSUMED[key] : config[REPEATED[key]]);
  const unknown = unread().find((key) => read(key) !== expected(key));
  if (unknown === undefined) return config;
  const value = shown(String(read(unknown)));
  throw fileError(path, `'${name}.${unknown}' ${value} is not supported and may change the network's outputs`);
}

/** The settings of a file, below the name of its architecture. */
interface Settings {
  /** Returns a value; undefined if it is missing. */
  readonly read: (key: string) => unknown;
  /** Returns the keys that were never read. A setting that nothing here knows would change the network's outputs. */
  readonly unread: () => readonly string[];
}

function settingsOf(file: DescribedFile, architecture: string): Settings {
  const own = `${architecture}.`;
  const keys = [...file.metadata.keys()].filter((key) => key.startsWith(own)).map((key) => key.slice(own.length));
  const known = new Set<string>();
  return {
    read(key) {
      known.add(key);
      return floatOf(metadataValue(file, own + key));
    },
    unread: () => keys.filter((key) => !known.has(key)),
  };
}

/** A float32 of the file as the shortest number that rounds to it, as config.json has it: 1e-5, not 9.99..e-6. */
function floatOf(value: unknown): unknown {
  if (typeof value !== 'number' || Number.isInteger(value)) return value;
  const float = Math.fround(value);
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === float) return short;
  }
  return value;
}

/** Returns the IDs of the special tokens, named as in config.json. A text ends with any of three tokens, as in llama.cpp. */
function tokenIds(file: DescribedFile): Config {
  const keys = { bos_token_id: ['bos'], eos_token_id: ['eos', 'eot', 'eom'], pad_token_id: ['padding'] };
  return Object.fromEntries(
    Object.entries(keys).flatMap(([name, own]) => {
      const ids = [...new Set(own.flatMap((key) => metadataValue(file, `tokenizer.ggml.${key}_token_id`) ?? []))];
      return ids.length === 0 ? [] : [[name, ids.length === 1 ? ids[0] : ids]];
    }),
  );
}
