/** The config.json of transformers for the metadata of a GGUF file. */
import type { GgufFile } from '@peftjs/gguf';
import { fileError, shown } from '../json.js';
import { FAMILIES, type Family } from './families.js';
import { ropeScalingOf, type DescribedFile } from './rope.js';

/** Settings that repeat one of config.json. With another value they are refused. */
export const REPEATED: Readonly<Record<string, string>> = {
  vocab_size: 'vocab_size',
  'rope.dimension_count': 'head_dim',
  'attention.value_length': 'head_dim',
};

/** Settings that may be missing; llama.cpp requires the others. */
const OPTIONAL: readonly string[] = ['attention.head_count_kv', 'attention.key_length', 'rope.freq_base'];

/** Returns a value of the metadata; undefined if it is missing. */
export function metadataValue(file: Pick<GgufFile, 'metadata'>, key: string): unknown {
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
 * @throws CheckpointError for an architecture or a setting that is not supported, and for one that is missing.
 */
export async function configOf(file: DescribedFile, path: string): Promise<Record<string, unknown>> {
  const { name, family } = architectureOf(file, path);
  const own = `${name}.`;
  const keys = [...file.metadata.keys()].filter((key) => key.startsWith(own)).map((key) => key.slice(own.length));
  const given = keys.flatMap((key) => {
    const setting = family.settings[key];
    return setting === undefined ? [] : [[setting, floatOf(metadataValue(file, own + key))] as const];
  });
  const missing = Object.keys(family.settings).find((key) => !keys.includes(key) && !OPTIONAL.includes(key));
  if (missing !== undefined) throw fileError(path, `'${own}${missing}' is missing`);
  const [words] = file.names.includes('token_embd.weight') ? file.spec('token_embd.weight').shape : [];
  const config: Record<string, unknown> = {
    model_type: name,
    vocab_size: words,
    ...(family.isRotary && { tie_word_embeddings: !file.names.includes('output.weight'), rope_theta: 10_000 }), // the default of llama.cpp
    ...(family.namesBiases && {
      attention_bias: file.names.includes('blk.0.attn_q.bias'),
      mlp_bias: file.names.includes('blk.0.ffn_up.bias'),
    }),
    ...Object.fromEntries(given),
    ...tokenIds(file),
  };
  if (family.isRotary) config['head_dim'] ??= Number(config['hidden_size']) / Number(config['num_attention_heads']);
  const scaling = await ropeScalingOf(file, Number(config['rope_theta']), path);
  if (scaling) config['rope_scaling'] = scaling;
  for (const key of keys) {
    if (!Object.hasOwn(family.settings, key)) checkKey(key, metadataValue(file, own + key), { own, config, path });
  }
  return config;
}

/** A float32 of the file as the shortest number that rounds to it, as config.json has it: 1e-5, not 9.99..e-6. */
function floatOf(value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(7)) : value;
}

/** The settings of a file. */
interface Settings {
  readonly own: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly path: string;
}

/** @throws CheckpointError for a setting that would change what the network computes. */
function checkKey(key: string, value: unknown, { own, config, path }: Settings): void {
  const same = REPEATED[key];
  if (same !== undefined && value === config[same]) return;
  if (key === 'rope.scaling.type' && value === 'none') return;
  throw fileError(path, `'${own}${key}' ${shown(String(value))} is not supported and may change the network's outputs`);
}

/** Returns the IDs of the special tokens, named as in config.json. */
function tokenIds(file: DescribedFile): Record<string, unknown> {
  const ids = { bos_token_id: 'bos', eos_token_id: 'eos', pad_token_id: 'padding' };
  return Object.fromEntries(
    Object.entries(ids).flatMap(([name, key]) => {
      const id = metadataValue(file, `tokenizer.ggml.${key}_token_id`);
      return id === undefined ? [] : [[name, id]];
    }),
  );
}
